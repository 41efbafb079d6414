//! `start`: commands of every boot, before anything else.

use sbx_tests::Environment;

/// An environment whose manifest ends with these nodes.
fn with_nodes(nodes: &str) -> Environment {
    let env = Environment::new().with_busybox();
    let manifest = format!("{}{nodes}\n", env.read("sandbox.kdl"));
    env.manifest(&manifest)
}

#[test]
fn start_commands_run_at_every_boot_in_order_before_the_first_command() {
    let env = with_nodes(
        "env { WHO \"start\"; }\nstart \"echo one $WHO $(id -un) >> log\"\nstart \"echo two $PWD >> log; echo to the log\"",
    );
    let expected = format!("one start agent\ntwo {}\n", env.repo().display());
    assert_eq!(env.up("cat log").success().stdout(), expected);
    // A sandbox that is on its way down may still take the next command.
    env.sbx(&["stop"]).success();
    env.up("true").success().stderr_has("start     echo one");
    env.sbx(&["stop"]).success();
    assert_eq!(env.read("log"), expected.repeat(2));
    let logs = env.sbx(&["logs"]).success().stdout();
    assert!(logs.contains("sandbox.kdl:5") && logs.contains("to the log"), "{logs}");

    // A sandbox that is up has started.
    env.sbx(&["up", "-d"]).success();
    env.exec("true").success();
    assert_eq!(env.read("log"), expected.repeat(3));
}

#[test]
fn a_start_command_that_fails_stops_the_sandbox_and_says_where_it_stands() {
    let env = with_nodes(
        "start \"echo first >> ran\"\nstart \"for i in $(seq 30); do echo line $i; done; exit 7\"\nstart \"echo third >> ran\"",
    );
    let refused = env.up("echo command >> ran").exits(125);
    for part in ["`start` at sandbox.kdl:5 failed with exit code 7", "line 30", "line 19", "`sbx logs`"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert!(!refused.stderr.contains("line 18\n"), "{refused:?}");
    assert_eq!(env.read("ran"), "first\n");
    let state = env.sbx(&["ls", "--json"]).text();
    assert!(state.contains("\"stopped\""), "{state}");
    assert!(env.sbx(&["logs"]).success().stdout().contains("line 1\n"));

    // Once it is right, nothing of it is left.
    let manifest = env.read("sandbox.kdl").replace("exit 7", "exit 0");
    env.write("sandbox.kdl", manifest);
    env.up("true").success();
    assert_eq!(env.read("ran"), "first\nfirst\nthird\n");
}

#[test]
fn a_command_that_comes_while_start_commands_run_waits_for_them() {
    let env = with_nodes("start \"touch begun; sleep 3; echo done > started\"");
    let mut starter = env.command(&["up", "-d"]).spawn().unwrap();
    while !env.repo().join("begun").exists() {
        assert_eq!(starter.try_wait().unwrap(), None, "it is up before anybody saw it start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(env.exec("cat started").text(), "done");
    assert!(starter.wait().unwrap().success());
}

#[test]
fn start_commands_whose_starter_was_killed_are_run_by_the_next() {
    let env = with_nodes("start \"echo x >> begun; sleep 2; echo done > started\"");
    // Somebody else keeps the machine up when the one who had started it is gone.
    let mut starter = env.command(&["up", "-d"]).spawn().unwrap();
    while std::fs::read(env.repo().join("begun")).unwrap_or_default() != b"x\n" {
        assert_eq!(starter.try_wait().unwrap(), None, "it is up before anybody saw it start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    starter.kill().unwrap();
    starter.wait().unwrap();
    assert_eq!(env.exec("cat started").text(), "done");
    assert_eq!(env.read("begun"), "x\nx\n", "the commands of a boot were run anew");
}

#[test]
fn a_profile_replaces_what_it_names() {
    let env = with_nodes(
        r#"
        start "echo base >> log"
        env { A "base"; B "base"; }
        profile "ci" {
            agent "acme" { command "sh" "-c" "echo $A $B; nproc; cat log"; }
            start "echo ci >> log"
            env { B "ci"; }
            resources cpus=2
        }
        "#,
    );
    assert_eq!(env.sbx(&["up", "--profile", "ci"]).text(), "base ci\n2\nci");
    env.sbx(&["stop"]).success();
    assert_eq!(env.up("nproc; cat log").text(), "1\nci\nbase");
}
