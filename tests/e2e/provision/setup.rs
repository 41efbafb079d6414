//! Setup commands: run in a copy of the workspace, again only when it has to be.

use std::os::unix::fs::PermissionsExt;

use sbx_tests::{Environment, ImageBuilder};

use super::{layers, leftovers, up};

/// What stands for a package manager: makes a directory from a list, one file for each line.
const INSTALL: &str = "mkdir -p vendor tools/vendor && while read -r name; do echo \"$name of $(pwd)\" > vendor/$name; done \
     < list && cp list tools/vendor/ && echo new >> README && echo log > install.log && echo ran: $(ls vendor)";

fn environment(setup: &str) -> Environment {
    prepare(Environment::new(), setup)
}

fn prepare(env: Environment, setup: &str) -> Environment {
    let image = env.image("busybox", ImageBuilder::busybox());
    env.write("install.sh", INSTALL);
    env.write("list", "a\nb\n");
    env.write("README", "read me\n");
    env.write(".gitignore", "vendor\nsecret\n*.log\n");
    env.write("secret", "not for everybody\n");
    env.write("tools/tool", "x\n");
    manifest(&env, &image, setup);
    env
}

fn manifest(env: &Environment, image: &str, setup: &str) {
    env.write(
        "sandbox.kdl",
        format!(
            "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n{setup}\n"
        ),
    );
}

#[test]
fn what_a_command_makes_is_in_every_sandbox_and_not_on_the_host() {
    let env = environment("setup \"sh install.sh\" inputs=\"list\"");
    // It does not see what git ignores, and what it does to files is its own.
    let first =
        up(&env, "cat vendor/a vendor/b tools/vendor/list README; ls secret; id -un; stat -c %U vendor");
    let first = first.success().stderr_has("ran: a b").stderr_has("setup     sh install.sh  done");
    assert_eq!(first.stdout(), "a of /workspace\nb of /workspace\na\nb\nread me\nsecret\nagent\nagent\n");
    assert!(!env.repo().join("install.log").exists());
    assert!(std::fs::read_dir(env.repo().join("vendor")).unwrap().next().is_none());
    assert_eq!(leftovers(&env), 0);

    let other = prepare(Environment::elsewhere(), "setup \"sh install.sh\" inputs=\"list\"");
    let list = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(other.repo().join("list"), list).unwrap();
    other.write("notes", "of somebody else\n");
    up(&other, "true").success();
    assert_eq!(layers(&other), layers(&env));
}

#[test]
fn a_command_runs_again_when_its_inputs_change_and_takes_no_other_with_it() {
    let env = environment("setup \"echo first\"\nsetup \"sh install.sh\" inputs=\"list\"");
    let ran = |outcome: sbx_tests::Outcome, parts: [bool; 2]| {
        let outcome = outcome.success();
        let seen = ["  first\n", "  ran:"].map(|part| outcome.stderr.contains(part));
        assert_eq!(seen, parts, "{outcome:?}");
    };
    ran(up(&env, "true"), [true, true]);
    env.write("README", "changed\n");
    ran(up(&env, "true"), [false, false]);
    env.write("list", "a\nb\nc\n");
    env.sbx(&["reset"]).success();
    ran(up(&env, "cat vendor/c"), [false, true]);
    // The old list's layer is still there.
    env.write("list", "a\nb\n");
    env.sbx(&["reset"]).success();
    ran(up(&env, "! test -e vendor/c"), [false, false]);
}

#[test]
fn a_command_that_fails_says_where_and_can_be_looked_at() {
    let env = environment("setup \"echo one\"\nsetup \"echo almost; cat missing; exit 7\"");
    up(&env, "true")
        .exits(125)
        .stderr_has(
            "sandbox.kdl:5: setup echo almost; cat missing; exit 7: the command failed: it exited with 7",
        )
        .stderr_has("    almost\n")
        .stderr_has("`sbx shell --at setup:2` opens a shell where it ran");
    assert_eq!(layers(&env).len(), 1);
    let shell = env.sbx_with_input(&["shell", "--at", "setup:2"], b"pwd; id -un; ls\n");
    assert_eq!(shell.success().stdout(), "/workspace\nagent\nREADME\ninstall.sh\nlist\nsandbox.kdl\ntools\n");
    env.sbx(&["shell", "--at", "apt"]).exits(2).stderr_has("the steps are setup:1, setup:2");

    // What the steps said is kept for a while.
    let logs =
        || std::fs::read_dir(env.home().join("provision/logs")).unwrap().map(|log| log.unwrap().path());
    assert_eq!(logs().count(), 2);
    let month = std::time::Duration::from_hours(31 * 24);
    let old = std::fs::File::options().write(true).open(logs().next().unwrap()).unwrap();
    old.set_modified(std::time::SystemTime::now() - month).unwrap();
    env.sbx(&["prune"]).success().stderr_has("1 log deleted");
    env.sbx(&["prune", "--all"]).success().stderr_has("1 log deleted");
    assert_eq!(logs().count(), 0);
}

#[test]
fn a_command_has_its_time_and_no_more() {
    let env = environment("setup \"sleep 600\" timeout=\"1s\"");
    up(&env, "true").exits(125).stderr_has("it took longer than its timeout");
    assert_eq!(leftovers(&env), 0);
}

#[test]
fn nothing_runs_before_the_manifest_is_approved() {
    let env = environment("setup \"echo run\"");
    let refused = env.up("true").exits(2);
    let refused = refused.stderr_has("reach the package registries").stderr_has("was not approved");
    assert!(!refused.stderr.contains("run\n"), "{refused:?}");
    assert!(!env.home().join("provision").exists());
}
