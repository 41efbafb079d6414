//! What setup commands wrote: in which layer it is, where a sandbox finds it, and how long it stays.

use std::{fs, path::PathBuf, process::Command};

use sbx_tests::Environment;

/// The directories of all layers in the store.
fn layers(env: &Environment) -> Vec<PathBuf> {
    let found =
        Command::new("find").arg(env.home().join("layers")).args(["-name", "layer.json"]).output().unwrap();
    let mut layers: Vec<PathBuf> =
        String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect();
    layers.sort();
    layers
}

/// An environment whose setup commands rename, hide and remove what the image has, and make directories in the workspace.
fn with_setup(env: Environment) -> Environment {
    let env = env.with_busybox();
    let manifest = env.read("sandbox.kdl");
    env.write("sub/there", "of the workspace\n");
    env.manifest(&format!(
        "{manifest}setup \"mkdir made sub/new && echo inside > made/file && echo deep > sub/new/file && echo single > single\"\n\
         setup \"sudo sh -c 'mv /etc /renamed && cp -a /renamed /etc && echo changed > /renamed/changed' && echo more > made/more\"\n"
    ))
    .approved()
}

#[test]
fn directories_of_setup_are_in_the_workspace() {
    let env = with_setup(Environment::new());
    let seen = env.up(
        "cat made/file made/more sub/new/file sub/there /workspace/made/file /workspace/sub/there; \
         cat single 2>/dev/null; touch made/by-hand; cat /renamed/changed; test -e /renamed/passwd && echo renamed",
    );
    assert_eq!(
        seen.text(),
        "inside\nmore\ndeep\nof the workspace\ninside\nof the workspace\nchanged\nrenamed"
    );
    // On the host there are only the places for them.
    assert_eq!(fs::read_dir(env.repo().join("made")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(env.repo().join("sub/new")).unwrap().count(), 0);
    assert!(!env.repo().join("single").exists());
    // Another boot finds what was changed in them.
    assert_eq!(env.up("ls made").text(), "by-hand\nfile\nmore");
}

#[test]
fn layers_of_setup_are_the_same_elsewhere_and_stay_while_they_can_be_of_use() {
    // In another directory, as another user.
    let (env, other) = (with_setup(Environment::new()), with_setup(Environment::unprivileged()));
    env.up("true").success();
    other.up("true").success();
    let digests = |env: &Environment| -> Vec<String> {
        let name =
            |path: &PathBuf| path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        layers(env).iter().map(name).collect()
    };
    assert_eq!(digests(&env).len(), 3, "the image and two commands");
    assert_eq!(digests(&env), digests(&other));

    env.sbx(&["rm"]).success();
    env.sbx(&["prune"]).success();
    assert_eq!(digests(&env), digests(&other), "the image is there, and what was made on it");
    env.sbx(&["prune", "--all"]).success();
    assert_eq!(digests(&env), [] as [String; 0]);
}
