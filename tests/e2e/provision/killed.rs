//! `kill -9` while a snapshot is made.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use sbx_tests::{Environment, ImageBuilder};

use super::{layers, leftovers, up};

/// Starts `sbx up`, and kills it when it has said `line`.
fn kill_at(env: &Environment, line: &str) {
    let mut up = env.command(&["up", "--yes", "--", "true"]);
    let mut up = up.stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(up.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let found = said.inspect(|said| seen.push(said.clone())).any(|said| said.contains(line));
    // One that has ended cannot be killed.
    let _ = up.kill();
    up.wait().unwrap();
    assert!(found, "`sbx up` never said `{line}`: {seen:#?}");
}

#[test]
fn a_killed_build_leaves_nothing_that_the_next_one_trips_over() {
    let env = Environment::new();
    let image = env.image("busybox", ImageBuilder::busybox());
    let setup = "setup \"mkdir one; echo one\"\nsetup \"echo two; sleep 1; mkdir two; echo slept\"";
    env.write(
        "sandbox.kdl",
        format!(
            "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n{setup}\n"
        ),
    );
    // While the first command has not begun, while the second runs, and while what it made is kept.
    for line in ["mkdir one; echo one  running", "   two", "   slept"] {
        kill_at(&env, line);
    }
    let up = up(&env, "ls -d one two").success();
    assert_eq!(up.stdout(), "one\ntwo\n");
    // What was made before the kill was not made again.
    assert!(!up.stderr.contains("   one\n") && up.stderr.contains("   slept"), "{up:?}");
    assert_eq!((layers(&env).len(), leftovers(&env)), (2, 0));
}
