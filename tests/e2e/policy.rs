//! The rules of the network, as the user meets them: changed, asked about and looked at. None of it needs a machine.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{PermissionsExt, symlink},
    process::Stdio,
};

use insta::assert_snapshot;
use sbx_tests::{Environment, Outcome};
use serde_json::{Value, json};

const MANIFEST: &str = "image \"debian\"

network \"deny\" {
    // what the agent needs
    allow \"api.github.com\" port=443 // releases
    deny \"gist.github.com\"
    publish 3000
}

profile \"ci\" { agent \"shell\" }
";

fn environment() -> Environment {
    Environment::new().manifest(MANIFEST)
}

#[test]
fn allowing_adds_a_line_and_says_where() {
    let env = environment();
    fs::set_permissions(env.repo().join("sandbox.kdl"), fs::Permissions::from_mode(0o640)).unwrap();
    let added = env.sbx(&["allow", "crates.io", "**.Example.com", "--port", "80-443"]).success();
    assert_snapshot!(added.stderr, @r#"
       added     allow "crates.io" port="80-443"  sandbox.kdl:6
       added     allow "**.example.com" port="80-443"  sandbox.kdl:7
    "#);
    assert_eq!(added.stdout(), "");
    assert_snapshot!(env.read("sandbox.kdl"), @r#"
    image "debian"

    network "deny" {
        // what the agent needs
        allow "api.github.com" port=443 // releases
        allow "crates.io" port="80-443"
        allow "**.example.com" port="80-443"
        deny "gist.github.com"
        publish 3000
    }

    profile "ci" { agent "shell" }
    "#);
    let mode = fs::metadata(env.repo().join("sandbox.kdl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_dir(env.repo()).unwrap().count(), 1, "nothing is left over");

    let again = env.sbx(&["allow", "crates.io", "--port", "443", "--protocol", "tcp"]).success();
    assert_snapshot!(again.stderr, @r#"   unchanged allow "crates.io" port="80-443"  sandbox.kdl:6"#);
    env.sbx(&["policy", "check", "crates.io"]).success();
}

#[test]
fn a_denial_is_added_and_says_what_it_ends() {
    let env = environment();
    let denied = env.sbx(&["deny", "api.github.com"]).success();
    assert_snapshot!(denied.stderr, @r#"
       added     deny "api.github.com"  sandbox.kdl:7
      ⚠ this `allow` does nothing
       ╭─[sandbox.kdl:5:11]
     4 │     // what the agent needs
     5 │     allow "api.github.com" port=443 // releases
       ·           ────────┬───────
       ·                   ╰── refused all the same
     6 │     deny "gist.github.com"
     7 │     deny "api.github.com"
       ·          ────────┬───────
       ·                  ╰── a `deny` wins over every `allow`
     8 │     publish 3000
       ╰────
      help: remove one of them
    "#);
    let check = env.sbx(&["policy", "check", "api.github.com"]).exits(1);
    assert_snapshot!(check.stdout(), @r#"refused  api.github.com:443  by `deny "api.github.com"`  sandbox.kdl:7"#);
}

#[test]
fn a_profile_can_have_rules_of_its_own() {
    let env = environment();
    let added = env.sbx(&["allow", "crates.io", "--profile", "ci"]).success();
    assert_snapshot!(added.stderr, @r#"
       added     allow "crates.io"  sandbox.kdl:10
                 in the profile `ci` this `network` now stands for the manifest's
    "#);
    assert!(
        env.read("sandbox.kdl")
            .ends_with("profile \"ci\" { agent \"shell\"; network \"deny\" { allow \"crates.io\" } }\n")
    );
    env.sbx(&["policy", "check", "crates.io", "--profile", "ci"]).success();
    env.sbx(&["policy", "check", "crates.io"]).exits(1);
    env.sbx(&["policy", "check", "api.github.com", "--profile", "ci"]).exits(1);
    env.sbx(&["allow", "crates.io", "--profile", "cy"]).exits(2).stderr_has("the profiles are ci");
}

#[test]
fn what_cannot_be_added_changes_nothing() {
    let env = environment();
    let url = env.sbx(&["allow", "crates.io", "https://gist.github.com/x"]).exits(2);
    assert_snapshot!(url.stderr, @"
    error: `allow` takes a host, not a URL: scheme and path are not part of a rule
    hint: sbx allow gist.github.com --port 443
    ");
    let login = env.sbx(&["deny", "git@github.com:owner/repo"]).exits(2);
    assert_snapshot!(login.stderr, @"
    error: `deny` takes a host, not a login: user names are not part of a rule
    hint: sbx deny github.com
    ");
    let denied = env.sbx(&["allow", "crates.io", "gist.github.com"]).exits(2);
    assert_snapshot!(denied.stderr, @r#"
      × `allow "gist.github.com"` would do nothing: a `deny` wins over every `allow`
       ╭─[sandbox.kdl:6:10]
     5 │     allow "api.github.com" port=443 // releases
     6 │     deny "gist.github.com"
       ·          ────────┬────────
       ·                  ╰── denied here
     7 │     publish 3000
       ╰────
      help: remove deny "gist.github.com"
    "#);
    env.sbx(&["allow", "a.com", "--port", "90-80"]).exits(2).stderr_has("the range `90-80` is empty");
    env.sbx(&["allow"]).exits(2);
    assert_eq!(env.read("sandbox.kdl"), MANIFEST);

    env.write("sandbox.kdl", "imgae \"debian\"\n");
    env.sbx(&["allow", "a.com"]).exits(2).stderr_has("sandbox.kdl:1");
    assert_eq!(env.read("sandbox.kdl"), "imgae \"debian\"\n");
}

#[test]
fn a_link_out_of_the_repository_is_not_written_through() {
    let env = Environment::new();
    let outside = env.outside().join("theirs.kdl");
    fs::write(&outside, MANIFEST).unwrap();
    symlink(&outside, env.repo().join("sandbox.kdl")).unwrap();
    env.sbx(&["allow", "a.com"]).exits(2).stderr_has("which is not in the repository");
    assert_eq!(fs::read_to_string(&outside).unwrap(), MANIFEST);
}

#[test]
fn a_check_names_the_rule_that_decides() {
    let env = environment();
    let denied = env.sbx(&["policy", "check", "gist.github.com"]).exits(1);
    assert_snapshot!(denied.stdout(), @r#"refused  gist.github.com:443  by `deny "gist.github.com"`  sandbox.kdl:6"#);
    assert_eq!(denied.stderr, "");
    let allowed = env.sbx(&["policy", "check", "api.github.com"]).success();
    assert_snapshot!(allowed.stdout(), @r#"allowed  api.github.com:443  by `allow "api.github.com" port=443`  sandbox.kdl:5"#);
    let unknown = env.sbx(&["policy", "check", "db.internal:5432"]).exits(1);
    assert_snapshot!(unknown.stdout(), @"refused  db.internal:5432  no rule allows it");
    assert_snapshot!(unknown.stderr, @r#"hint: `sbx allow db.internal --port 5432` adds the line allow "db.internal" port=5432"#);
    let private = env.sbx(&["policy", "check", "[fd00::1]:53", "--protocol", "udp"]).exits(1);
    assert_snapshot!(private.stdout(), @"refused  [fd00::1]:53/udp  it is a private address, which needs a rule about addresses");
    let url = env.sbx(&["policy", "check", "https://gist.github.com/x"]).exits(2);
    assert_snapshot!(url.stderr, @"
    error: `policy check` takes a host, not a URL: scheme and path are not part of a rule
    hint: sbx policy check gist.github.com:443
    ");
    let json = env.sbx(&["policy", "check", "gist.github.com", "--json"]).exits(1).stdout();
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        json!({
            "host": "gist.github.com",
            "port": 443,
            "protocol": "tcp",
            "verdict": "refuse",
            "reason": "denied",
            "message": "a rule denies it",
            "rule": { "place": "sandbox.kdl:6", "text": "deny \"gist.github.com\"" },
            "advice": null,
        })
    );
}

/// A sandbox that was there once, with these decisions in its log.
fn with_log(earlier: &str, log: &str) -> Environment {
    let env = environment();
    let directory = env.home().join("sandboxes/demo");
    fs::create_dir_all(directory.join("run")).unwrap();
    let state = json!({
        "version": 1, "manifest": env.repo().join("sandbox.kdl"), "workspace": env.repo(), "profile": null,
        "image": "debian", "image_digest": "", "snapshot": "", "engine": "qemu", "vcpus": 1, "memory_mib": 64,
        "disk_bytes": 0, "created": 0, "phase": "stopped", "since": 0, "reason": null,
    });
    fs::write(directory.join("state.json"), state.to_string()).unwrap();
    fs::write(directory.join("policy.log.1"), earlier).unwrap();
    fs::write(directory.join("policy.log"), log).unwrap();
    env
}

const EARLIER: &str = r#"{"time":"2026-11-25T00:12:03.123Z","kind":"connect","protocol":"tcp","address":"140.82.121.6:443","name":"api.github.com","verdict":"allow","reason":"allowed","rule":{"place":"sandbox.kdl:5","text":"allow \"api.github.com\""},"advice":null,"message":"a rule allows it"}
"#;

const REFUSED: &str = r#"{"time":"2026-11-25T00:12:04.000Z","kind":"resolve","name":"crates.io","verdict":"refuse","reason":"no-rule","rule":null,"advice":"allow \"crates.io\"","message":"no rule allows this host","repeated":3}
"#;

const HOSTILE: &str = r#"{"time":"2026-11-25T00:12:05.000Z","kind":"connect","protocol":"udp","address":"10.0.0.1:53","name":"a\u001b[2Jb","verdict":"refuse","reason":"special","rule":null,"advice":"allow \"10.0.0.1\" port=53 protocol=\"udp\"","message":"it is a private address, which needs a rule about addresses"}
"#;

/// `sbx policy log` where the sun is in Greenwich.
fn log(env: &Environment, arguments: &[&str]) -> Outcome {
    let arguments = [&["policy", "log"], arguments].concat();
    let output = env.command(&arguments).env("TZ", "UTC").output().unwrap();
    Outcome::new(arguments.join(" "), output).success()
}

#[test]
fn the_log_tells_what_was_reached_and_what_was_not() {
    // Half of a line, as a `kill -9` leaves it, and what the next process wrote behind it.
    let broken = format!("{REFUSED}{{\"time\":\"2026-11-\n{HOSTILE}{{\"time\":\"20");
    let env = with_log(EARLIER, &broken);
    assert_snapshot!(log(&env, &[]).stdout(), @r#"
    00:12:03  allowed  api.github.com:443                    allow "api.github.com"  sandbox.kdl:5
    00:12:04  refused  crates.io                             no rule allows this host (3 times)            allow "crates.io"
    00:12:05  refused  a�[2Jb:53/udp                         it is a private address, which needs a rule about addresses  allow "10.0.0.1" port=53 protocol="udp"
    "#);
    assert_eq!(log(&env, &["--refused"]).stdout().lines().count(), 2);
    assert_eq!(log(&env, &["--json"]).stdout(), [EARLIER, REFUSED, HOSTILE].concat());
    assert_eq!(log(&env, &["--json", "--refused", "-n", "demo"]).stdout(), [REFUSED, HOSTILE].concat());
}

#[test]
fn the_log_is_followed_until_the_sandbox_stops() {
    let env = with_log("", REFUSED);
    let directory = env.sandbox();
    // What a sandbox process holds as long as it lives.
    let alive = File::create(directory.join("alive.lock")).unwrap();
    alive.lock().unwrap();
    let mut follower = env.command(&["policy", "log", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("crates.io"));
    let mut log = File::options().append(true).open(directory.join("policy.log")).unwrap();
    let (begin, end) = EARLIER.split_at(40);
    log.write_all(begin.as_bytes()).unwrap();
    log.write_all(end.as_bytes()).unwrap();
    assert!(lines.next().unwrap().unwrap().contains("api.github.com:443"));
    fs::rename(directory.join("policy.log"), directory.join("policy.log.1")).unwrap();
    fs::write(directory.join("policy.log"), HOSTILE).unwrap();
    assert!(lines.next().unwrap().unwrap().contains("10.0.0.1"));
    drop(alive);
    assert!(lines.next().is_none());
    assert!(follower.wait().unwrap().success());
}
