//! A name server that changes its mind: the name was public, and then it is said to be inside.

use std::{fs, process::Stdio};

use sbx_tests::{Environment, Lan, lan::Service};

use super::{GOOD, sandbox};

/// Where the name leads once the guest has been to the public place.
const INSIDE: [&str; 3] = ["127.0.0.1", "169.254.169.254", "10.0.0.1"];

/// Waits for each answer, since those of before are believed for a while: `found` says what the name leads to. A question about a name that
/// was not asked for yet has the gateway look at how the host finds names.
const TRIES: &str = r#"
found() { nslookup rebind.example 2>&1 | grep -v 255.253 | sed -n "s/^Address.*: //p" | sort | tr "\n" " "; }
until_found() { while [ "$(found)" != "$1" ]; do n=$((n + 1)); nslookup x$$-$n.other.example > /dev/null 2>&1; done; }
get() { timeout 10 wget -q -O - --header "Host: rebind.example" "http://$1/" 2>&1 | tail -n 1 | sed "s/.*: //"; }
until_found "93.184.216.34 "
get rebind.example
touch first
until [ -e second ]; do sleep 0.05; done
until_found ""
get rebind.example
get 10.0.0.1
get 169.254.169.254
get 127.0.0.1
get 93.184.216.34
"#;

/// The place that the name had is still a place of the name, for whoever resolved it a moment ago; the new ones never are.
const CAME: &str = "GET rebind.example /\nbad address 'rebind.example'\nConnection refused\nConnection refused\n\
                    Connection refused\nGET rebind.example /\n";

#[track_caller]
fn check(lan: &Lan, env: &Environment, way: &str, arguments: &[&str]) {
    for file in ["first", "second"] {
        let _ = fs::remove_file(env.repo().join(file));
    }
    lan.name("rebind.example", "A", &[GOOD]);
    lan.renew();
    let mut guest = env.command(&[arguments, &["--", "sh", "tries"]].concat());
    let mut guest = guest.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !env.repo().join("first").exists() {
        assert!(guest.try_wait().unwrap().is_none(), "{way}: the guest ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    lan.name("rebind.example", "A", &INSIDE);
    lan.renew();
    env.write("second", "");
    let output = guest.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), CAME, "{way}: {errors}");
    for inside in ["127.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80"] {
        assert_eq!(lan.visits(inside), 0, "{way}: {inside}");
    }
}

#[test]
fn an_answer_that_changes_leads_nowhere_else_on_every_way_a_guest_can_start() {
    let lan = Lan::new(&[GOOD, "10.0.0.1", "169.254.169.254"]);
    for address in ["93.184.216.34:80", "127.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80"] {
        lan.serve(address, Service::Http);
    }
    let env = sandbox(&lan, "allow \"rebind.example\" \"*.other.example\"");
    env.write("tries", TRIES);
    check(&lan, &env, "up", &["up", "--yes"]);
    env.sbx(&["up", "-d"]).success();
    check(&lan, &env, "exec", &["exec"]);
    env.sbx(&["stop"]).success();
    check(&lan, &env, "exec starts it", &["exec"]);
    env.sbx(&["stop"]).success();
    check(&lan, &env, "stop and up", &["up"]);
    env.sbx(&["reset"]).success();
    check(&lan, &env, "reset and up", &["up"]);
    let log = env.sbx(&["policy", "log", "--refused"]).success().stdout();
    for inside in INSIDE {
        assert!(
            log.lines().any(|line| line.contains("rebind.example") && line.contains(inside)),
            "{inside}: {log}"
        );
    }
}
