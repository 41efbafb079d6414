//! What a lock keeps, what it is held against, and what is refused.

mod merges;
mod properties;

use std::time::{Duration, Instant};

use super::*;
use crate::{Fault, model::PackageManager};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn lock(text: &str) -> ParsedLock {
    parse("sandbox.lock", text.as_bytes()).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(|fault| format!("{fault:?}\n")).collect::<String>())
    })
}

fn faults(text: &str) -> Vec<Fault> {
    match parse("sandbox.lock", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().cloned().collect(),
    }
}

fn pin(manager: PackageManager, name: &str, version: &str) -> Pin {
    Pin {
        manager: Installer::Package(manager),
        owner: None,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        hash: format!("sha256:{HASH}"),
        url: None,
    }
}

fn example() -> Lock {
    let mut base = LockedMachine {
        image: Some(LockedImage {
            reference: "docker.io/library/debian:12".to_owned(),
            platform: "linux/amd64".to_owned(),
            digest: format!("sha256:{HASH}"),
        }),
        kernel: Some(HASH.to_owned()),
        guest: Some(HASH.to_owned()),
        agents: vec![LockedAgent {
            name: "claude".to_owned(),
            wanted: Some("2".to_owned()),
            version: "2.0.1".to_owned(),
            definition: HASH.to_owned(),
        }],
        requests: vec![
            Request { manager: PackageManager::Npm, name: "typescript@5".to_owned() },
            Request { manager: PackageManager::Apt, name: "git".to_owned() },
        ],
        pins: vec![
            Pin {
                owner: Some("agent:claude".to_owned()),
                hash: format!("sha512-{}==", "Ab+/".repeat(21) + "Ab"),
                ..pin(PackageManager::Npm, "node_modules/@anthropic-ai/claude-code", "2.0.1")
            },
            Pin {
                architecture: Some("amd64".to_owned()),
                ..pin(PackageManager::Apt, "git", "1:2.39.5-0+deb12u2")
            },
            Pin {
                architecture: Some("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64".to_owned()),
                ..pin(PackageManager::Pip, "ruff", "0.6.9")
            },
        ],
        setup: vec![
            LockedSetup { command: "npm ci\n\"x\" \\ \u{2028}\u{7}".to_owned(), inputs: HASH.to_owned() },
            LockedSetup { command: "a".to_owned(), inputs: HASH.to_owned() },
        ],
        snapshots: Vec::new(),
    };
    base.snapshots.push(LockedSnapshot { inputs: base.key(), digest: format!("blake3:{HASH}") });
    let ci = LockedMachine { agents: Vec::new(), ..base.clone() };
    Lock { base, profiles: [("ci".to_owned(), ci)].into() }
}

/// As what is written comes back: sorted.
fn in_order(machine: &LockedMachine) -> LockedMachine {
    let mut sorted = LockedMachine::default();
    for statement in machine.statements() {
        sorted.learn(statement);
    }
    sorted
}

#[test]
fn what_is_written_is_read() {
    let example = example();
    let text = example.text();
    let read = lock(&text).lock;
    assert_eq!(read.base, in_order(&example.base));
    assert_eq!(read.profiles["ci"], in_order(&example.profiles["ci"]));
    assert_eq!(read.text(), text);
    assert_eq!(read.base.key(), example.base.key());
    assert_eq!(read.base.snapshot(), example.base.snapshots.first());
    insta::assert_snapshot!(text.replace(HASH, "HASH").replace(&example.base.key(), "KEY").replace(&"Ab+/".repeat(21), "BASE64").replace("BASE64Ab", "BASE64"), @r##"
    // What sandbox.kdl is built from, exactly. `sbx lock` writes this file; commit it, and change sandbox.kdl instead.
    lock 1
    image "docker.io/library/debian:12" platform="linux/amd64" digest="sha256:HASH"
    kernel "HASH"
    guest "HASH"
    agent "claude" "2.0.1" wanted="2" definition="HASH"
    package "apt:git"
    package "npm:typescript@5"
    apt "git" "1:2.39.5-0+deb12u2" architecture="amd64" hash="sha256:HASH"
    npm "node_modules/@anthropic-ai/claude-code" "2.0.1" for="agent:claude" hash="sha512-BASE64=="
    pip "ruff" "0.6.9" architecture="py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64" hash="sha256:HASH"
    setup "npm ci\n\"x\" \\ \u{2028}\u{7}" inputs="HASH"
    setup "a" inputs="HASH"
    snapshot "blake3:HASH" inputs="KEY"
    image "docker.io/library/debian:12" platform="linux/amd64" digest="sha256:HASH" profile="ci"
    kernel "HASH" profile="ci"
    guest "HASH" profile="ci"
    package "apt:git" profile="ci"
    package "npm:typescript@5" profile="ci"
    apt "git" "1:2.39.5-0+deb12u2" architecture="amd64" hash="sha256:HASH" profile="ci"
    npm "node_modules/@anthropic-ai/claude-code" "2.0.1" for="agent:claude" hash="sha512-BASE64==" profile="ci"
    pip "ruff" "0.6.9" architecture="py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64" hash="sha256:HASH" profile="ci"
    setup "npm ci\n\"x\" \\ \u{2028}\u{7}" inputs="HASH" profile="ci"
    setup "a" inputs="HASH" profile="ci"
    snapshot "blake3:HASH" inputs="KEY" profile="ci"
    "##);
}

#[test]
fn the_key_is_about_every_input_and_the_order_of_commands() {
    let base = example().base;
    let key = base.key();
    let with = |change: &dyn Fn(&mut LockedMachine)| {
        let mut other = base.clone();
        change(&mut other);
        other.key()
    };
    assert_eq!(with(&|machine| machine.pins.reverse()), key, "pins have no order");
    assert_eq!(with(&|machine| machine.requests.reverse()), key);
    assert_eq!(with(&|machine| machine.pins.extend(machine.pins.clone())), key, "the same twice is the same");
    assert_eq!(with(&|machine| machine.snapshots.clear()), key, "what came out is no input");
    let changes: [&dyn Fn(&mut LockedMachine); 9] = [
        &|machine| machine.setup.reverse(),
        &|machine| machine.image = None,
        &|machine| machine.kernel = Some("1".repeat(64)),
        &|machine| machine.guest = None,
        &|machine| machine.agents[0].wanted = None,
        &|machine| machine.pins[0].hash = format!("sha256:{}", "1".repeat(64)),
        &|machine| machine.pins[0].owner = None,
        &|machine| machine.setup[0].inputs = "1".repeat(64),
        &|machine| machine.requests.truncate(1),
    ];
    let keys: std::collections::HashSet<_> = changes.iter().map(|change| with(change)).collect();
    assert_eq!(keys.len(), changes.len());
    assert!(!keys.contains(&key));
}

#[test]
fn each_fault_names_its_line_and_what_to_do() {
    let line = |text: &str| text.replace("HASH", HASH);
    for (text, expected, help) in [
        ("lock 2", "`2` is not a format that this version of sbx reads", "lock 1"),
        ("apt \"git\" hash=\"sha256:HASH\"", "a version is missing", "apt"),
        ("apt \"git\" \"1\"", "`hash` is missing", "apt"),
        ("apt \"git\" \"1\" \"2\" hash=\"sha256:HASH\"", "this line has too much", "apt"),
        (
            "apt \"git\" \"1\" hash=\"md5:HASH\"",
            "`md5:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab…` is not a hash",
            "apt",
        ),
        ("apt \"git\" \"1; reboot\" hash=\"sha256:HASH\"", "`1; reboot` is not a version", "apt"),
        ("apt \"../git\" \"1\" hash=\"sha256:HASH\"", "`../git` is not a package of apt", "apt"),
        (
            "npm \"node_modules/../x\" \"1\" hash=\"sha256:HASH\"",
            "`node_modules/../x` is not a package of npm",
            "npm",
        ),
        (
            "npm \"node_modules/x\" \"npm:../x@1\" hash=\"sha256:HASH\"",
            "`npm:../x@1` is not a version",
            "npm",
        ),
        ("apt \"git\" \"npm:git@1\" hash=\"sha256:HASH\"", "`npm:git@1` is not a version", "apt"),
        (
            "download \"x\" \"1\" hash=\"sha256:HASH\" url=\"file:///etc/passwd\"",
            "`file:///etc/passwd` is not an address of a file",
            "apt",
        ),
        ("apt \"git\" \"1\" hash=\"sha256:HASH\" hash=\"sha256:HASH\"", "this is given twice", "apt"),
        ("apt \"git\" \"1\" hash=\"sha256:HASH\" size=\"1\"", "there is no `size` here", "apt"),
        (
            "apt \"git\" \"1\" hash=\"sha256:HASH\" for=\"agent:../x\"",
            "`agent:../x` is not an agent or a tool",
            "apt",
        ),
        ("kernel \"x\"", "`x` is not a hash in hexadecimal digits", "kernel"),
        ("kernal \"HASH\"", "there is no `kernal` in a lock", "kernel"),
        ("kernel \"HASH\" profile=\"A B\"", "`A B` is not the name of a profile", "kernel"),
        ("package \"zypper:git\"", "`zypper:git` is not a package as in \"apt:git\"", "package"),
        ("profile \"ci\" { kernel \"HASH\"; }", "a lock has no braces", "each line"),
        ("kernel (t)\"HASH\"", "a lock has no type annotations", "remove it"),
        ("kernel \"HASH", "this string does not end on its line", "a string"),
        ("<<<<<<< HEAD\nlock 1\n=======\n>>>>>>> b\n", "the merge was not finished", "sbx lock"),
    ] {
        let found = faults(&format!("// x\n{}\n", line(text)));
        let first = found.first().unwrap_or_else(|| panic!("{text} was accepted"));
        assert_eq!(first.to_string(), expected, "{text}");
        assert_eq!(first.line(), 2, "{text}");
        assert!(first.help_text().unwrap_or_default().starts_with(help), "{text}: {:?}", first.help_text());
    }
}

#[test]
fn a_package_of_npm_can_be_at_a_place_with_another_name() {
    let mut machine = example().base;
    let version = "npm:@openai/codex@0.171.0-linux-x64";
    machine.pins = vec![pin(PackageManager::Npm, "node_modules/@openai/codex-linux-x64", version)];
    let text = Lock { base: machine.clone(), ..Lock::default() }.text();
    assert_eq!(lock(&text).lock.base.pins, machine.pins);
}

#[test]
fn comments_and_other_spellings_mean_the_same() {
    let plain = lock(&format!("kernel \"{HASH}\"\nsetup \"a b\" inputs=\"{HASH}\"\n"));
    let odd = format!(
        "\u{feff}/* a */ kernel #\"{HASH}\"#; /- guest \"{HASH}\"\n setup inputs=\"{HASH}\" \\\n \"a\\u{{20}}b\" // c\n"
    );
    assert_eq!(lock(&odd).lock, plain.lock);
    assert_eq!(lock("").lock, Lock::default());
}

#[test]
fn differences_are_short() {
    let old = example();
    let mut new = old.clone();
    let machine = &mut new.base;
    machine.pins[1].version = "1:2.40".to_owned();
    machine.pins[2].hash = format!("sha256:{}", "1".repeat(64));
    machine.pins.remove(0);
    machine.pins.push(pin(PackageManager::Apt, "ripgrep", "14.1"));
    machine.agents[0].version = "2.0.2".to_owned();
    machine.kernel = Some("2".repeat(64));
    machine.setup[1].inputs = "3".repeat(64);
    machine.snapshots =
        vec![LockedSnapshot { inputs: machine.key(), digest: format!("blake3:{}", "4".repeat(64)) }];
    new.profiles.clear();
    let lines: Vec<_> = difference(&old, &new).iter().map(ToString::to_string).collect();
    let (ci, base): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.ends_with("in profile ci"));
    assert_eq!(
        base,
        [
            "kernel 0123456789ab… → 222222222222…",
            "claude 2.0.1 → 2.0.2",
            "git 1:2.39.5-0+deb12u2 → 1:2.40",
            "+ ripgrep 14.1",
            "ruff sha256:0123456789ab… → sha256:111111111111…",
            "- @anthropic-ai/claude-code 2.0.1  for agent:claude",
            "a 0123456789ab… → 333333333333…",
            "snapshot blake3:0123456789ab… → blake3:444444444444…",
        ]
    );
    assert!(ci.contains(&&"- git 1:2.39.5-0+deb12u2  in profile ci".to_owned()), "{ci:?}");
    assert!(difference(&new, &new).is_empty());
}

const MANIFEST: &str = r#"image "docker.io/library/debian:12" platform="linux/amd64"
agent "claude" version="2"
packages {
    apt "git"
    npm "typescript@5"
}
setup "npm ci\n\"x\" \\ \u{2028}\u{7}"
setup "a"
profile "net" { network "allow" {} }
"#;

/// Code, file, line and message of every disagreement.
fn disagreements(manifest: &str, profile: Option<&str>, lock: &Lock, present: &Present<'_>) -> Vec<String> {
    let manifest = crate::parse("sandbox.kdl", manifest.as_bytes()).unwrap().manifest;
    let manifest = profile.map_or_else(|| manifest.clone(), |name| manifest.with_profile(name).unwrap());
    let parsed = parse("sandbox.lock", lock.text().as_bytes()).unwrap();
    let faults = check(&manifest, profile, &parsed, present);
    faults
        .iter()
        .map(|fault| {
            let value = serde_json::to_value(fault).unwrap();
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{}:{} {} ({}) {}",
                text("file"),
                value["line"],
                text("message"),
                text("label"),
                text("help")
            )
        })
        .collect()
}

#[test]
fn a_lock_of_the_manifest_has_nothing_to_say() {
    let (lock, none) = (example(), Vec::<String>::new());
    assert_eq!(disagreements(MANIFEST, None, &lock, &Present::default()), none);
    assert_eq!(disagreements(MANIFEST, Some("net"), &lock, &Present::default()), none);
    let setup = lock.base.setup.clone();
    let present =
        Present { platform: Some("linux/arm64"), kernel: Some(HASH), guest: Some(HASH), setup: &setup };
    assert_eq!(disagreements(MANIFEST, None, &lock, &present), none);
}

#[test]
fn every_disagreement_names_both_places() {
    let manifest = MANIFEST
        .replace("debian:12", "debian:13")
        .replace("version=\"2\"", "version=\"3\"")
        .replace("\"git\"", "\"jq\"")
        .replace("typescript@5", "typescript@6")
        .replace("setup \"a\"", "setup \"b\"")
        .replace("\"net\" { network \"allow\" {} }", "\"net\" { agent \"shell\"; }");
    let lock = example();
    let setup = [LockedSetup { command: lock.base.setup[0].command.clone(), inputs: "1".repeat(64) }];
    let present = Present { kernel: Some("x"), setup: &setup, ..Present::default() };
    insta::assert_snapshot!(disagreements(&manifest, None, &lock, &present).join("\n").replace(HASH, "HASH"), @r"
    sandbox.kdl:1 sandbox.lock is for another image (sandbox.lock:3 has `docker.io/library/debian:12`) sbx lock
    sandbox.kdl:2 another version of `claude` is asked for than was pinned (sandbox.lock:6 has `2`) sbx lock
    sandbox.kdl:4 sandbox.lock lacks `apt:jq` (not pinned) sbx lock
    sandbox.kdl:5 `typescript@6` is not what was pinned (sandbox.lock:8 has `typescript@5`) sbx lock
    sandbox.lock:7 `apt:git` is pinned, and not in the manifest (nobody's) sbx lock
    sandbox.kdl:7 the inputs of this setup command have changed (sandbox.lock:12 has those of before) sbx lock
    sandbox.kdl:8 sandbox.lock lacks this setup command (not pinned) sbx lock
    sandbox.lock:13 the setup command `a` is not in the manifest (nobody's) sbx lock
    sandbox.lock:4 this version of sbx has another kernel than the one that wrote this (here it is x) sbx lock
    ");
    insta::assert_snapshot!(disagreements(&manifest, Some("net"), &lock, &Present::default()).join("\n"), @r"
    sandbox.kdl:1 sandbox.lock is for another image (sandbox.lock:3 has `docker.io/library/debian:12`) sbx lock
    sandbox.lock:6 the agent `claude` is pinned, and not in the manifest (nobody's) sbx lock
    sandbox.kdl:4 sandbox.lock lacks `apt:jq` (not pinned) sbx lock
    sandbox.kdl:5 `typescript@6` is not what was pinned (sandbox.lock:8 has `typescript@5`) sbx lock
    sandbox.lock:7 `apt:git` is pinned, and not in the manifest (nobody's) sbx lock
    sandbox.kdl:8 sandbox.lock lacks this setup command (not pinned) sbx lock
    sandbox.lock:13 the setup command `a` is not in the manifest (nobody's) sbx lock
    ");
    insta::assert_snapshot!(disagreements(MANIFEST, None, &Lock::default(), &Present::default()).join("\n"), @r"
    sandbox.kdl:1 sandbox.lock lacks the image (not pinned) sbx lock
    sandbox.kdl:2 sandbox.lock lacks the agent `claude` (not pinned) sbx lock
    sandbox.kdl:4 sandbox.lock lacks `apt:git` (not pinned) sbx lock
    sandbox.kdl:5 sandbox.lock lacks `npm:typescript@5` (not pinned) sbx lock
    sandbox.kdl:7 sandbox.lock lacks this setup command (not pinned) sbx lock
    sandbox.kdl:8 sandbox.lock lacks this setup command (not pinned) sbx lock
    ");
}

#[test]
fn pins_of_tools_that_are_gone_are_told_once() {
    let mut lock = example();
    for name in ["just", "syn", "serde"] {
        lock.base
            .pins
            .push(Pin { owner: Some("just".to_owned()), ..pin(PackageManager::Cargo, name, "1.0.0") });
    }
    let found = disagreements(MANIFEST, None, &lock, &Present::default());
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert!(only.contains("packages are pinned for `just`, which is not in the manifest"), "{only}");
    lock.base.requests.push(Request { manager: PackageManager::Cargo, name: "just@1".to_owned() });
    let manifest = MANIFEST.replace("apt \"git\"", "apt \"git\"; cargo \"just@1\"");
    assert_eq!(disagreements(&manifest, None, &lock, &Present::default()), Vec::<String>::new());
}

/// Thousands of packages are no reason to wait.
#[test]
fn a_large_lock_is_read_quickly() {
    let mut lock = example();
    for index in 0..3_000 {
        let name = format!("node_modules/@scope/package-{index}/node_modules/other");
        lock.base
            .pins
            .push(Pin { owner: Some("agent:claude".to_owned()), ..pin(PackageManager::Npm, &name, "1.2.3") });
    }
    let text = lock.text();
    let started = Instant::now();
    let read = parse("sandbox.lock", text.as_bytes()).unwrap().lock;
    let taken = started.elapsed();
    assert_eq!(read.base.pins.len(), lock.base.pins.len());
    let limit = if cfg!(debug_assertions) { Duration::from_secs(5) } else { Duration::from_millis(50) };
    println!("{} KiB in {taken:?}", text.len() >> 10);
    assert!(taken < limit, "{} KiB took {taken:?}", text.len() >> 10);
}
