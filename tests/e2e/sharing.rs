//! `sbx push`, and what others get from it without building.

use std::fs;

use sbx_tests::{Environment, ImageBuilder, Registry};

/// Makes a directory in the workspace, and says that it ran.
const FIRST: &str = "mkdir -p vendor; seq 1 60000 > vendor/list; echo ran the first";

/// A team: a registry, an image that all have, and what one of them has locked and pushed.
struct Team {
    registry: Registry,
    image: String,
    first: Environment,
}

impl Team {
    fn new() -> Self {
        let (registry, first) = (Registry::start(), Environment::new());
        let image = first.image("busybox", ImageBuilder::busybox());
        let team = Self { registry, image, first };
        team.first.write("sandbox.kdl", team.manifest("echo ran the second"));
        team
    }

    fn manifest(&self, second: &str) -> String {
        format!(
            "agent \"shell\"\nimage \"{}\"\nshare \"{}/acme/sandboxes\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n\
             setup \"{FIRST}\"\nsetup \"{second}; mkdir more\"\n",
            self.image,
            self.registry.host()
        )
    }

    /// Somebody else, who has the repository and nothing more.
    fn colleague(&self) -> Environment {
        let env = Environment::new();
        for name in ["sandbox.kdl", "sandbox.lock"] {
            env.write(name, self.first.read(name));
        }
        env
    }
}

const LOOK: [&str; 6] = ["up", "--yes", "--", "sh", "-c", "sha256sum vendor/list; ls -d vendor more"];

#[test]
fn what_was_pushed_is_not_built_again() {
    let team = Team::new();
    let env = &team.first;
    env.sbx(&["push", "--yes"])
        .exits(2)
        .stderr_has("there is no sandbox.lock")
        .stderr_has("`sbx lock` writes it");
    env.sbx(&["lock", "--yes"]).success().stderr_has("ran the first");
    let pushed = env.sbx(&["push", "--yes"]).success().stderr_has("shared    127.0.0.1").stderr_has("sent");
    let reference = pushed.text();
    assert!(reference.starts_with(&format!("{}/acme/sandboxes:lock-", team.registry.host())), "{reference}");
    assert_eq!(env.sbx(&["push"]).success().stderr_has("was there already").text(), reference);
    let seen = env.sbx(&LOOK).success().stdout();

    let colleague = team.colleague();
    let locked = [&LOOK[..2], &["--locked"], &LOOK[2..]].concat();
    let up = colleague.sbx(&locked).success().stderr_has("shared    127.0.0.1");
    assert!(!up.stderr.contains("ran the"), "{up:?}");
    assert_eq!(up.stdout(), seen);
    let again = colleague.sbx(&LOOK).success();
    assert!(!again.stderr.contains("shared"), "{again:?}");

    // What has changed since is made, on top of what has not.
    let other = team.colleague();
    other.write("sandbox.kdl", team.manifest("echo ran another"));
    let up = other.sbx(&LOOK).success().stderr_has("ran another");
    assert!(!up.stderr.contains("ran the first"), "{up:?}");
    assert_eq!(up.stdout(), seen);
    other.sbx(&["push"]).exits(2);
    other.sbx(&["lock"]).success();

    // Nobody has pushed that.
    let third = Environment::new();
    for name in ["sandbox.kdl", "sandbox.lock"] {
        third.write(name, other.read(name));
    }
    third.sbx(&LOOK).success().stderr_has("it is made here").stderr_has("ran the first");
}

#[test]
fn what_is_damaged_or_away_is_built_instead() {
    let team = Team::new();
    team.first.sbx(&["push", "--yes", "not a name"]).exits(2).stderr_has("is not a repository");
    team.first
        .sbx(&["push", "--yes", "localhost/x:tag"])
        .exits(2)
        .stderr_has("a snapshot gets a tag of its own");
    team.first.sbx(&["lock", "--yes"]).success();
    team.first.sbx(&["push", "--yes"]).success();
    let largest = team.registry.blobs().remove(0);
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let colleague = team.colleague();
    let up = colleague.sbx(&LOOK).success().stderr_has("warning: cannot take the snapshot from 127.0.0.1");
    let up = up.stderr_has("the copy at the source is damaged; it is made here").stderr_has("ran the first");
    assert!(up.stdout().ends_with("more\nvendor\n"), "{up:?}");

    let Team { registry, first, .. } = team;
    drop(registry);
    let other = Environment::new();
    for name in ["sandbox.kdl", "sandbox.lock"] {
        other.write(name, first.read(name));
    }
    other.sbx(&LOOK).success().stderr_has("cannot connect").stderr_has("it is made here");
}
