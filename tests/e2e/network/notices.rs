//! What the user sees of decisions.

use std::fs;

use sbx_tests::{Environment, lan::Service};
use serde_json::Value;

use super::{GOOD, lan, sandbox, up};

/// `policy.log` as programs get it.
fn log(env: &Environment) -> Vec<Value> {
    let text = env.sbx(&["policy", "log", "--json"]).text();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_refusal_is_told_once_with_the_line_that_would_allow_it() {
    let lan = lan();
    let env = sandbox(&lan, "allow \"good.example\"");
    let outcome = up(
        &env,
        "for i in 1 2 3; do wget -q -O - http://evil.example/; wget -q -O - http://93.184.216.99/; done; \
         wget -q -O - http://good.example/",
    );
    let outcome = outcome.success();
    let notices: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("sbx: ")).collect();
    assert_eq!(
        notices,
        [
            "sbx: refused evil.example: no rule allows this host; to allow it: allow \"evil.example\"",
            "sbx: refused 93.184.216.99:80: no rule allows this address, and no allowed name was resolved to it; \
             to allow it: allow \"93.184.216.99\" port=80",
        ],
        "{outcome:?}"
    );
    let log = log(&env);
    let refused: Vec<&Value> = log.iter().filter(|entry| entry["verdict"] == "refuse").collect();
    assert_eq!(refused.len(), 2, "{log:?}");
    assert_eq!((&refused[0]["kind"], &refused[0]["name"]), (&"resolve".into(), &"evil.example".into()));
    assert_eq!(refused[1]["address"], "93.184.216.99:80");
    let allowed = log.iter().find(|entry| entry["verdict"] == "allow").unwrap();
    assert_eq!(allowed["name"], "good.example");
    assert!(allowed["rule"]["place"].as_str().unwrap().starts_with("sandbox.kdl:"), "{allowed}");
    // Another start is told anew.
    let again = env.exec("wget -q -O - http://evil.example/");
    assert!(again.stderr.contains("sbx: refused evil.example"), "{again:?}");
}

#[test]
fn under_allow_only_what_is_denied_or_special_is_refused() {
    let lan = lan();
    for inside in ["10.0.0.1:80", "169.254.169.254:80"] {
        lan.serve(inside, Service::Http);
    }
    let env = Environment::new().on_lan(&lan).with_network("allow", "deny \"evil.example\"");
    let capture = env.outside().join("capture.pcap");
    let script = r#"
        get() { wget -q -O - "http://$1/" 2>&1 | sed "s/.*: //"; }
        get good.example; get evil.example; get 10.0.0.1; get 169.254.169.254
        wget -q -O - --header "Host: evil.example" http://93.184.216.99/ 2>&1 | sed "s/.*: //"
        # A denied name is not an address: whoever does not say the name is not stopped (docs/design/network.md, "Policy").
        get 93.184.216.99; get "[::ffff:93.184.216.99]"; get "[::ffff:10.0.0.1]""#;
    let pcap = capture.to_str().unwrap();
    let outcome = env.sbx(&["up", "--yes", "--pcap", pcap, "--", "sh", "-c", script]);
    assert_eq!(
        outcome.text(),
        "GET good.example /\nbad address 'evil.example'\nConnection refused\nConnection refused\n\
         Connection reset by peer\nGET 93.184.216.99 /\nGET [::ffff:93.184.216.99] /\nConnection refused"
    );
    for inside in ["10.0.0.1:80", "169.254.169.254:80"] {
        assert_eq!(lan.visits(inside), 0, "{inside}");
    }
    let frames = frames(&fs::read(&capture).unwrap());
    let good: [u8; 4] = GOOD.parse::<std::net::Ipv4Addr>().unwrap().octets();
    // Behind 14 bytes of Ethernet and 20 of IPv4: TCP to port 80 of the server, the SYN flag alone.
    let is_syn = |frame: &&Vec<u8>| {
        frame.get(12..14) == Some(&[8, 0])
            && frame.get(23) == Some(&6)
            && frame.get(30..34) == Some(&good)
            && frame.get(36..38) == Some(&[0, 80])
            && frame.get(47).is_some_and(|flags| flags & 0x17 == 2)
    };
    assert!(frames.iter().any(|frame| is_syn(&frame)), "no SYN among {} frames", frames.len());
}

/// The frames of a capture (draft-ietf-opsawg-pcap: a header of 24 bytes, then 16 bytes and the frame for each).
fn frames(capture: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    assert!([0xa1b2_c3d4, 0xa1b2_3c4d].contains(&number(&capture[..4])), "{:x?}", &capture[..4]);
    assert_eq!(number(&capture[20..24]), 1, "Ethernet");
    let (mut rest, mut frames) = (&capture[24..], Vec::new());
    while !rest.is_empty() {
        let length = usize::try_from(number(&rest[8..12])).unwrap();
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}
