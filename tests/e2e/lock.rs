//! `sandbox.lock`: made once, held on to, held against the manifest, and merged by git.

use std::fs;

use sbx_tests::{Environment, Outcome};

/// An environment whose manifest ends with these nodes.
fn with_nodes(nodes: &str) -> Environment {
    let env = Environment::new().with_busybox();
    let manifest = format!("{}{nodes}\n", env.read("sandbox.kdl"));
    env.manifest(&manifest).approved()
}

/// A setup command of which always the same comes.
const SETUP: &str = "setup \"cp input.txt ~/made\" inputs=\"input.txt\"";

/// The value of the first line of the lock that begins so.
fn line(env: &Environment, start: &str) -> String {
    let lock = env.read("sandbox.lock");
    lock.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no {start}: {lock}"))
        .to_owned()
}

fn says_nothing(outcome: &Outcome) {
    assert_eq!(outcome.stderr, "", "{outcome:?}");
}

#[test]
fn what_is_locked_stays_until_somebody_locks_again() {
    let env = with_nodes(SETUP);
    env.write("input.txt", "one\n");
    env.write(".git/HEAD", "ref: refs/heads/main\n");
    env.sbx(&["lock", "--check"]).exits(1).stderr_has("there is no sandbox.lock");
    env.sbx(&["up", "--locked", "--", "true"]).exits(2).stderr_has("`sbx lock` writes it");

    // The first `sbx up` makes it, and git is told how to merge it.
    assert_eq!(env.up("cat ~/made").success().stdout(), "one\n");
    let first = env.read("sandbox.lock");
    for start in
        ["image ", "kernel ", "guest ", "setup \"cp input.txt ~/made\" inputs=", "snapshot \"blake3:"]
    {
        line(&env, start);
    }
    assert_eq!(env.read(".gitattributes"), "sandbox.lock merge=union\n");
    says_nothing(&env.sbx(&["lock"]).success());
    says_nothing(&env.sbx(&["lock", "--check"]).success());
    assert_eq!(env.sbx(&["lock", "--check", "--json"]).success().text(), "[]");
    env.sbx(&["up", "--locked", "--", "true"]).success();
    assert_eq!(env.read("sandbox.lock"), first);

    // An input that changed is a disagreement, with both places; `sbx up` goes by it and leaves the lock alone.
    env.write("input.txt", "two\n");
    let found =
        env.sbx(&["lock", "--check"]).exits(1).stderr_has("the inputs of this setup command have changed");
    assert!(found.stderr.contains("sandbox.kdl:4:") && found.stderr.contains("sandbox.lock:"), "{found:?}");
    env.sbx(&["up", "--locked", "--", "true"]).exits(2).stderr_has("sbx lock");
    env.sbx(&["reset"]).success();
    let up = env.up("cat ~/made").success().stderr_has("sandbox.lock lacks");
    assert_eq!(up.stdout(), "two\n");
    assert_eq!(env.read("sandbox.lock"), first);

    let locked = env.sbx(&["lock"]).success().stderr_has(" → ");
    assert!(locked.stderr.contains("snapshot blake3:"), "{locked:?}");
    assert_ne!(env.read("sandbox.lock"), first);
    says_nothing(&env.sbx(&["lock", "--check"]).success());
    let _ = env.sbx(&["up", "--locked", "--", "true"]).success();
}

#[test]
fn a_lock_of_other_things_is_refused_at_its_lines() {
    let env = with_nodes(SETUP);
    env.write("input.txt", "one\n");
    env.sbx(&["lock"]).success();
    let lock = env.read("sandbox.lock");
    assert!(!env.repo().join(".gitattributes").exists(), "there is no git here");

    // Lines that a merge has left, of which both cannot hold.
    env.write("sandbox.lock", format!("{lock}kernel \"0123456789abcdef\"\n"));
    for command in [&["up", "--", "true"][..], &["up", "--locked", "--", "true"]] {
        env.sbx(command).exits(2).stderr_has("say different things of the same");
    }
    env.sbx(&["lock", "--check"]).exits(1).stderr_has("keep one of them, or run: sbx lock");
    env.sbx(&["lock"]).success();
    assert_eq!(env.read("sandbox.lock"), lock);

    // Another sbx made it.
    let foreign = lock.replace(&line(&env, "guest "), "guest \"0123456789abcdef\"");
    env.write("sandbox.lock", foreign);
    env.sbx(&["up", "--locked", "--", "true"]).exits(2).stderr_has("another guest");

    // Hostile values are refused where they stand.
    env.write("sandbox.lock", format!("{lock}apt \"../x\" \"1\" hash=\"sha256:{}\"\n", "0".repeat(64)));
    env.sbx(&["up", "--", "true"]).exits(2).stderr_has("`../x` is not a package of apt");

    // A link out of the repository is not followed, and a pipe is not waited for.
    fs::remove_file(env.repo().join("sandbox.lock")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", env.repo().join("sandbox.lock")).unwrap();
    env.sbx(&["lock"]).exits(2).stderr_has("not in the repository");
}

#[test]
fn packages_come_and_go_with_their_comments_or_not_at_all() {
    let env = with_nodes("packages {\n    // tools\n    npm \"left-pad@1\" // why\n}");
    let before = env.read("sandbox.kdl");
    // This image has no package managers: nothing can be resolved, and nothing is changed.
    env.sbx(&["add", "apt:git"]).exits(125);
    assert_eq!(env.read("sandbox.kdl"), before);
    assert!(!env.repo().join("sandbox.lock").exists());

    env.sbx(&["add", "--no-lock", "npm:is-odd", "pip:ruff==0.6.9"])
        .success()
        .stderr_has("pip:ruff==0.6.9  sandbox.kdl:7");
    let added = env.read("sandbox.kdl");
    assert!(
        added.contains("    // tools\n    npm \"left-pad@1\" \"is-odd\" // why\n    pip \"ruff==0.6.9\"\n}"),
        "{added}"
    );
    env.sbx(&["add", "--no-lock", "npm:is-odd"]).success().stderr_has("unchanged");
    env.sbx(&["remove", "--no-lock", "npm:is-odd", "pip:ruff"]).success().stderr_has("removed");
    assert_eq!(env.read("sandbox.kdl"), before);

    for (package, advice) in [
        ("git", "MANAGER:NAME"),
        ("npm:x=5", "npm:x@5"),
        ("zypper:git", "one of apt"),
        ("apt:-y", "an option"),
    ] {
        env.sbx(&["add", "--no-lock", package]).exits(2).stderr_has(advice);
    }
    env.sbx(&["lock", "--check"]).exits(1);
    env.sbx(&["lock", "--update", "jq"]).exits(2).stderr_has("no package or agent `jq`");
}

#[test]
fn building_again_gives_the_same_or_the_names_of_what_differs() {
    let env = with_nodes(SETUP);
    env.write("input.txt", "one\n");
    env.sbx(&["lock"]).success();
    env.sbx(&["lock", "--verify"]).success().stderr_has("built again, and the same");

    let manifest = env.read("sandbox.kdl");
    env.write(
        "sandbox.kdl",
        manifest.replace(
            "cp input.txt ~/made",
            "cp input.txt ~/made; head -c 8 /dev/urandom | md5sum > ~/random",
        ),
    );
    env.sbx(&["lock"]).success();
    let differs = env.sbx(&["lock", "--verify"]).exits(1).stderr_has("for the same inputs");
    let listed = differs.stdout();
    assert!(listed.contains("/home/agent/random: other contents"), "{differs:?}");
    assert!(!listed.contains("/home/agent/made"), "{differs:?}");
}

#[test]
fn a_profile_that_is_built_otherwise_has_lines_of_its_own() {
    let env = with_nodes(&format!(
        "{SETUP}\nprofile \"ci\" {{ setup \"echo ci > ~/made\"; }}\nprofile \"net\" {{ network \"deny\" {{}}; }}"
    ));
    env.write("input.txt", "one\n");
    env.sbx(&["lock"]).success();
    let lock = env.read("sandbox.lock");
    assert!(line(&env, "setup \"echo ci > ~/made\"").ends_with("profile=\"ci\""), "{lock}");
    assert!(!lock.contains("profile=\"net\""), "{lock}");
    says_nothing(&env.sbx(&["lock", "--check"]).success());
    let ci = env.sbx(&["up", "--locked", "--profile", "ci", "--", "sh", "-c", "cat ~/made"]);
    assert_eq!(ci.success().stdout(), "ci\n");
    // What is no profile any more has no lines either.
    let manifest = env.read("sandbox.kdl");
    let without: Vec<_> = manifest.lines().filter(|line| !line.contains("profile \"ci\"")).collect();
    env.write("sandbox.kdl", without.join("\n"));
    env.sbx(&["lock"]).success();
    assert!(!env.read("sandbox.lock").contains("profile="));
}
