//! Any lock, and any text.

use proptest::prelude::*;

use super::{in_order, *};

fn any_machine() -> impl Strategy<Value = LockedMachine> {
    let hash = "[0-9a-f]{64}";
    let name = "[a-z][a-z0-9]{1,8}";
    let pin = (
        0..=PackageManager::ALL.len(),
        name,
        "[0-9][0-9.:+~-]{0,8}",
        hash,
        proptest::option::of(name),
        any::<bool>(),
    )
        .prop_map(|(index, name, version, hash, owner, architecture)| {
            let managers = PackageManager::ALL.map(Installer::Package);
            let manager = managers.get(index).copied().unwrap_or(Installer::Download);
            let is_npm = manager == Installer::Package(PackageManager::Npm);
            Pin {
                manager,
                owner: owner.map(|owner| format!("agent:{owner}")),
                name: if is_npm { format!("node_modules/{name}") } else { name },
                version,
                architecture: architecture.then(|| "amd64".to_owned()),
                hash: format!("sha256:{hash}"),
                url: (manager == Installer::Download).then(|| "https://example.com/x?y=%20#z".to_owned()),
            }
        });
    let setup = ("[^\0]*[^\0\\s][^\0]*", hash).prop_map(|(command, inputs)| LockedSetup { command, inputs });
    let snapshot = (hash, hash)
        .prop_map(|(inputs, digest)| LockedSnapshot { inputs, digest: format!("blake3:{digest}") });
    (
        proptest::option::of(hash),
        proptest::collection::vec(pin, 0..12),
        proptest::collection::vec(setup, 0..4),
        proptest::collection::vec(snapshot, 0..3),
    )
        .prop_map(|(kernel, pins, setup, snapshots)| LockedMachine {
            kernel,
            pins,
            setup,
            snapshots,
            ..LockedMachine::default()
        })
        // Two lines about one thing would be a contradiction.
        .prop_filter("one line for each thing", |machine| {
            let statements = machine.statements();
            let things: std::collections::HashSet<_> =
                statements.iter().map(thing::Statement::thing).collect();
            things.len() == statements.len()
        })
}

proptest! {
    #[test]
    fn any_lock_comes_back(base in any_machine(), other in any_machine()) {
        let lock = Lock { base, profiles: [("ci".to_owned(), other)].into() };
        let text = lock.text();
        let read = parse("sandbox.lock", text.as_bytes()).map_err(|faults| {
            TestCaseError::fail(faults.iter().map(|fault| format!("{fault} {:?}", fault.span())).collect::<String>())
        })?.lock;
        prop_assert_eq!(&read.base, &in_order(&lock.base));
        prop_assert_eq!(read.text(), text);
    }

    /// Whatever the lines, and in whatever order: a lock or faults, and never both.
    #[test]
    fn any_text_is_read_or_refused(lines in proptest::collection::vec("[a-z]{3,8}( \"[a-z0-9:]{0,6}\"| [a-z]{2,6}=\"[a-z0-9]{0,4}\"| \\{|;|\\}){0,5}", 0..8)) {
        if let Err(faults) = parse("sandbox.lock", lines.join("\n").as_bytes()) {
            prop_assert!(faults.iter().all(|fault| fault.help_text().is_some() || fault.code() == "lock::syntax"));
        }
    }
}
