//! Frames that no kernel sends: the guest's root writes them itself.

use sbx_tests::{Environment, Lan, lan::Service};

use super::{GOOD, OTHER, lan};

const RAW: &str = include_str!("raw.py");

/// What the guest says besides how long its names took.
const CAME: &str = "\
answered: from a card of another name, as it should be
the gateway is found: True
others are found: False
the gateway echoes: True
others echo: False
GET good.example /after
";

/// Names that the guest makes up and that are asked for outside at once, and then each second (docs/design/network.md, "Names").
const BURST: usize = 200;
const PER_SECOND: usize = 50;

/// Tries everything once more; `datagrams` is how many have come to the place that is allowed by then.
#[track_caller]
fn check(lan: &Lan, env: &Environment, way: &str, arguments: &[&str], datagrams: usize) {
    let asked = |suffix: &str| lan.questions().iter().filter(|name| name.ends_with(suffix)).count();
    let before = asked(".good.example");
    // The first command has the gateway resolve the name, so that its address is allowed.
    let script = "getent ahostsv4 good.example > /dev/null
        sudo python3 raw.py
        curl -sS --max-time 20 http://good.example/after";
    let outcome = env.sbx(&[arguments, &["--", "bash", "-c", script]].concat());
    let said = outcome.stdout();
    let (told, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("tunnelled "));
    assert_eq!(rest, CAME.lines().collect::<Vec<_>>(), "{way}: {outcome:?}");
    // Of all datagrams only those that are as they should be have come: two each time.
    assert_eq!(lan.visits("93.184.216.34:7"), datagrams, "{way}");
    assert_eq!(lan.visits("93.184.216.99:7"), 0, "{way}");
    let seconds: usize = told[0].trim_start_matches("tunnelled ").parse().unwrap();
    let tunnelled = asked(".good.example") - before;
    assert!((1..=BURST + PER_SECOND * seconds).contains(&tunnelled), "{way}: {tunnelled} in {seconds} s");
    assert_eq!(asked(".evil.example"), 0, "{way}");
}

#[test]
fn frames_that_are_not_what_they_should_be_lead_nowhere_on_every_way_a_guest_can_start() {
    let lan = lan();
    lan.serve(&format!("{GOOD}:7"), Service::Datagrams);
    lan.serve(&format!("{OTHER}:7"), Service::Datagrams);
    lan.serve(&format!("{GOOD}:9005"), Service::Silent);
    let env = Environment::new().on_lan(&lan);
    let env = env.with_clients("deny", "allow \"good.example\" \"**.good.example\"");
    env.write("raw.py", RAW);
    check(&lan, &env, "up", &["up", "--yes"], 2);
    env.sbx(&["up", "-d"]).success();
    check(&lan, &env, "exec", &["exec"], 4);
    env.sbx(&["stop"]).success();
    check(&lan, &env, "stop and up", &["up"], 6);
    env.sbx(&["reset"]).success();
    check(&lan, &env, "reset and up", &["up"], 8);
}

#[test]
fn a_hundred_thousand_connections_that_nobody_answers_leave_room_when_they_end() {
    let lan = lan();
    lan.serve(&format!("{GOOD}:9005"), Service::Silent);
    let env = Environment::new().on_lan(&lan).with_clients("deny", "allow \"good.example\"");
    env.write("raw.py", RAW);
    env.sbx(&["up", "--yes", "-d"]).success();
    let flood = "getent ahostsv4 good.example > /dev/null; sudo python3 raw.py flood";
    assert_eq!(env.exec(flood).text(), "flooded");
    // Whatever waits for the host to connect is in the way of nothing but connections.
    assert_eq!(env.exec("getent ahostsv4 good.example | head -n 1 | cut -d ' ' -f 1").text(), GOOD);
    env.sbx(&["deny", "good.example", "--port", "9005"]).success();
    assert_eq!(
        env.exec("curl -sS --max-time 20 http://good.example/after").text(),
        "GET good.example /after"
    );
    assert_eq!(lan.visits("93.184.216.34:80"), 1);
}
