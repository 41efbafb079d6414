//! What a merge makes of two locks, with git itself.

use std::{fs, path::Path, process::Command};

use super::*;

#[test]
fn contradictions_are_faults_and_are_left_out_of_a_new_lock() {
    let hash = format!("hash=\"sha256:{HASH}\"");
    let text = format!("apt \"git\" \"1\" {hash}\napt \"jq\" \"1\" {hash}\napt \"git\" \"2\" {hash}\n");
    let found = faults(&text);
    let [fault] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(fault.to_string(), "lines 1 and 3 say different things of the same");
    assert_eq!(fault.help_text(), Some("keep one of them, or run: sbx lock"));
    let recovered = recover("sandbox.lock", text.as_bytes()).unwrap().lock;
    assert_eq!(recovered.base.pins, [pin(PackageManager::Apt, "jq", "1")]);
    let wheels = format!(
        "pip \"a\" \"1\" architecture=\"cp311-none-any\" {hash}\npip \"a\" \"2\" architecture=\"cp312-none-any\" {hash}\n"
    );
    assert_eq!(faults(&wheels).len(), 1);
    // Another profile's is another thing, and so is another version of a crate in a tool.
    let text = format!(
        "apt \"git\" \"1\" {hash}\napt \"git\" \"2\" {hash} profile=\"ci\"\n\
         cargo \"syn\" \"1.0.0\" for=\"just\" {hash}\ncargo \"syn\" \"2.0.0\" for=\"just\" {hash}\n"
    );
    assert_eq!(lock(&text).lock.base.pins.len(), 3);
    let marked =
        format!("<<<<<<< a\napt \"git\" \"1\" {hash}\n=======\napt \"jq\" \"1\" {hash}\n>>>>>>> b\n");
    assert_eq!(recover("sandbox.lock", marked.as_bytes()).unwrap().lock.base.pins.len(), 2);
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"])
        .args(["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What git makes of a lock that two branches have changed.
fn merged(old: &Lock, ours: &Lock, theirs: &Lock) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let write = |lock: &Lock| fs::write(path.join("sandbox.lock"), lock.text()).unwrap();
    git(path, &["init", "--quiet"]);
    fs::write(path.join(".gitattributes"), "sandbox.lock merge=union\n").unwrap();
    write(old);
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "-m", "old"]);
    git(path, &["checkout", "--quiet", "-b", "theirs"]);
    write(theirs);
    git(path, &["commit", "--quiet", "-am", "theirs"]);
    git(path, &["checkout", "--quiet", "main"]);
    write(ours);
    git(path, &["commit", "--quiet", "-am", "ours"]);
    git(path, &["merge", "--quiet", "-m", "merge", "theirs"]);
    fs::read_to_string(path.join("sandbox.lock")).unwrap()
}

fn with_packages(machine: &LockedMachine, names: &[&str]) -> LockedMachine {
    let mut machine = machine.clone();
    for name in names {
        machine.requests.push(Request { manager: PackageManager::Apt, name: (*name).to_owned() });
        machine.pins.push(pin(PackageManager::Apt, name, "1.0"));
        machine.pins.push(pin(PackageManager::Apt, &format!("lib{name}"), "1.0"));
    }
    machine.pins.push(pin(PackageManager::Apt, "libcommon", "3"));
    let digest = format!("blake3:{}", machine.key());
    machine.snapshots = vec![LockedSnapshot { inputs: machine.key(), digest }];
    machine
}

#[test]
fn a_merge_of_branches_that_add_packages_means_the_union() {
    let old = example();
    let mut ours = old.clone();
    let mut theirs = old.clone();
    ours.base = with_packages(&old.base, &["jq", "zsh"]);
    theirs.base = with_packages(&old.base, &["gawk", "ripgrep"]);
    // Each also has a profile that the other has not: with braces around it, git would mix them up.
    ours.profiles.insert("ours".to_owned(), with_packages(&old.base, &["nano"]));
    theirs.profiles.insert("theirs".to_owned(), with_packages(&old.base, &["vim"]));
    let merged = lock(&merged(&old, &ours, &theirs)).lock;
    let mut expected = with_packages(&old.base, &["jq", "zsh", "gawk", "ripgrep"]);
    assert_eq!(merged.base.key(), expected.key());
    assert_eq!(merged.base.snapshot(), None, "those of both branches are for other inputs");
    expected.snapshots.clear();
    let without_snapshots = LockedMachine { snapshots: Vec::new(), ..merged.base.clone() };
    assert_eq!(in_order(&without_snapshots), in_order(&expected));
    for (name, branch) in [("ours", &ours), ("theirs", &theirs), ("ci", &old)] {
        assert_eq!(merged.profiles[name].key(), branch.profiles[name].key(), "{name}");
        assert_eq!(merged.profiles[name].snapshot(), branch.profiles[name].snapshot(), "{name}");
    }
}

#[test]
fn a_merge_of_branches_that_move_one_pin_says_so() {
    let old = example();
    let moved = |version: &str| {
        let mut lock = old.clone();
        lock.base.pins[1].version = version.to_owned();
        lock
    };
    let text = merged(&old, &moved("1:2.40"), &moved("1:2.41"));
    let found = faults(&text);
    let [fault] = found.as_slice() else { panic!("{found:?}") };
    assert!(fault.to_string().contains("say different things of the same"), "{fault}");
    let recovered = recover("sandbox.lock", text.as_bytes()).unwrap().lock;
    assert_eq!(recovered.base.pins.len(), old.base.pins.len() - 1);
}
