//! `kill -9` while a snapshot is made.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use sbx_tests::{Environment, ImageBuilder, lan::Disturbance, packages::DebianPackage};

use super::{
    apt::{self, serve},
    layers, leftovers,
    run::Run,
    up,
};

const UP: [&str; 4] = ["up", "--yes", "--", "true"];
const LOCK: [&str; 2] = ["lock", "--yes"];

/// How long a killed one's machine may take. Not a time that it is meant to take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills a run when it has said `line`, and waits until its machine is gone.
#[track_caller]
fn kill_at(env: &Environment, arguments: &[&str], line: &str) -> Run {
    let mut run = Run::start(env.command(arguments));
    run.says(line);
    let run = run.kill();
    alone(env);
    run
}

/// Waits until no process works in the home of `env` any more.
#[track_caller]
fn alone(env: &Environment) {
    let home = env.home().to_str().unwrap().to_owned();
    let begun = Instant::now();
    loop {
        let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
        let lines = all.filter_map(|path| fs::read(path).ok());
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect();
        let Some(left) = lines.iter().find(|line| line.contains(&home)) else { return };
        assert!(begun.elapsed() < PATIENCE, "still there: {left}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nothing is where things are made before they get their names.
#[track_caller]
fn assert_nothing_left(env: &Environment) {
    assert_eq!(leftovers(env), 0);
    let buckets = ["blobs", "images", "layers", "snapshots", "steps"];
    let names = |directory: PathBuf| {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
    };
    let staging = buckets.iter().flat_map(|bucket| names(env.home().join(bucket).join("v1/.staging")));
    let hidden = [env.home().join("downloads/1"), env.repo()].into_iter().flat_map(names);
    let left: Vec<_> = staging.chain(hidden.filter(|name| name.starts_with('.'))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_killed_build_leaves_nothing_that_the_next_one_trips_over() {
    let env = Environment::new();
    let image = env.image("busybox", ImageBuilder::busybox());
    let setup =
        "setup \"mkdir one; echo one\"\nsetup \"trap '' TERM; echo two; sleep 1; mkdir two; echo slept\"";
    env.write(
        "sandbox.kdl",
        format!(
            "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n{setup}\n"
        ),
    );
    // While the first command has not begun, while the second runs and will not hear of an end, while what it made is kept, and
    // when it is kept and nobody knows yet of which step.
    kill_at(&env, &UP, "mkdir one; echo one  running");
    kill_at(&env, &LOCK, "   two");
    for (arguments, moment) in
        [(&UP[..], "read what a machine wrote"), (&LOCK, "stored what a machine wrote")]
    {
        let run = kill_at(&env, arguments, moment);
        // What was made before the kill was not made again.
        assert!(run.has_said("   slept") && !run.has_said("   one"));
    }
    let run = kill_at(&env, &LOCK, "writing sandbox.lock");
    assert!(run.has_said("   slept"));
    for _ in 0..5 {
        let lock = env.repo().join("sandbox.lock");
        // It is whole, or not there.
        if lock.exists() {
            env.sbx(&["lock", "--check"]).success();
            fs::remove_file(lock).unwrap();
        }
        let run = kill_at(&env, &LOCK, "writing sandbox.lock");
        assert!(!run.has_said("running"));
    }
    let up = up(&env, "ls -d one two").success();
    assert_eq!(up.stdout(), "one\ntwo\n");
    assert!(!up.stderr.contains("   slept"), "{up:?}");
    env.sbx(&LOCK).success();
    env.sbx(&["lock", "--check"]).success();
    assert_eq!(layers(&env).len(), 2);
    env.sbx(&["stop"]).success();
    alone(&env);
    assert_nothing_left(&env);
}

#[test]
fn packages_are_installed_after_kills_at_every_moment_and_none_is_fetched_twice() {
    let served = serve();
    let content: String = (0..100_000).map(|number| number.to_string()).collect();
    let files = [("/usr/share/two", content.as_str())];
    let postinst = "echo two announces itself";
    served.repository.publish(&DebianPackage { name: "one", version: "1", ..DebianPackage::default() });
    served.repository.publish(&DebianPackage {
        name: "two",
        version: "1",
        files: &files,
        postinst,
        ..DebianPackage::default()
    });
    let env = apt::environment(&served, 2, "\"one\" \"two\"");

    // The list of packages begins, and does not end.
    served.lan.disturb("/Packages", Disturbance::Stall(10));
    let run = Run::start(env.command(&UP));
    served.lan.await_disturbed();
    run.kill();
    alone(&env);

    // Of the second of two files some has arrived.
    served.lan.disturb("/two_1_all.deb", Disturbance::Stall(1000));
    let mut run = Run::start(env.command(&LOCK));
    served.lan.await_disturbed();
    run.says("kept one_1_all.deb");
    run.kill();
    alone(&env);
    served.lan.mend();

    // A package is half installed.
    let run = kill_at(&env, &UP, "two announces itself");
    assert!(run.has_said("downloading 1 file"));

    // All are installed, and nobody knows.
    let run = kill_at(&env, &LOCK, "read what a machine wrote");
    assert!(!run.has_said("downloading"));

    let up = up(&env, "tail -c 5 /usr/share/two").success();
    assert_eq!(up.stdout(), "99999");
    assert!(!up.stderr.contains("downloading"), "{up:?}");
    assert_eq!(served.lan.served("/one_1_all.deb"), 1);
    assert_eq!(layers(&env).len(), 1);
    env.sbx(&["stop"]).success();
    alone(&env);
    assert_nothing_left(&env);
}
