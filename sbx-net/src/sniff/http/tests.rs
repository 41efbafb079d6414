use proptest::prelude::*;

use super::*;

/// What passes of a stream that comes in these pieces, and for whom, until a fault.
fn run(pieces: &[&[u8]]) -> (Vec<u8>, Vec<String>, Option<HttpFault>) {
    let (mut guard, mut passed, mut hosts) = (HttpGuard::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match guard.push(rest) {
                Ok(Step::Held(taken)) => rest = &rest[taken..],
                Ok(Step::Pass(taken)) => {
                    passed.extend_from_slice(&rest[..taken]);
                    rest = &rest[taken..];
                }
                Ok(Step::Request { taken, host, head }) => {
                    hosts.push(host.to_string());
                    passed.extend(head);
                    rest = &rest[taken..];
                }
                Ok(Step::Wait) => return (passed, hosts, None),
                Err(fault) => return (passed, hosts, Some(fault)),
            }
        }
    }
    (passed, hosts, None)
}

fn fault(stream: &str) -> Option<HttpFault> {
    run(&[stream.as_bytes()]).2
}

const THREE: &[u8] = b"POST /a HTTP/1.1\r\nHost: one.com\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n\
    PUT /b HTTP/1.1\r\nhost: two.com:80\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n\
    GET http://THREE.com/ HTTP/1.1\r\nHost: three.com\r\n\r\n";

#[test]
fn every_request_is_seen_and_bodies_are_not() {
    let (passed, hosts, fault) = run(&[THREE]);
    assert_eq!((passed.as_slice(), fault), (THREE, None));
    assert_eq!(hosts, ["one.com", "two.com", "three.com"]);
}

#[test]
fn requests_that_two_servers_could_read_differently_are_refused() {
    let head = "GET / HTTP/1.1\r\nHost: a.com\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for (stream, expected) in [
        (format!("{head}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), HttpFault::AmbiguousLength),
        (format!("{head}Content-Length: 1, 1\r\n\r\n"), HttpFault::AmbiguousLength),
        (format!("{head}Content-Length: +1\r\n\r\n"), HttpFault::AmbiguousLength),
        (format!("{head}Content-Length: 99999999999999999999\r\n\r\n"), HttpFault::AmbiguousLength),
        (
            format!("{head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            HttpFault::AmbiguousLength,
        ),
        (format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n"), HttpFault::AmbiguousLength),
        (
            format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"),
            HttpFault::AmbiguousLength,
        ),
        (
            "GET / HTTP/1.0\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            HttpFault::AmbiguousLength,
        ),
        (format!("{chunked}5;x=y\r\nhello\r\n"), HttpFault::AmbiguousLength),
        (format!("{chunked}5\nhello\r\n"), HttpFault::AmbiguousLength),
        (format!("{chunked}\r\nhello\r\n"), HttpFault::AmbiguousLength),
        (format!("{chunked}5\r\nhelloX\r\n"), HttpFault::AmbiguousLength),
        (format!("{chunked}fffffffffffffffff\r\n"), HttpFault::AmbiguousLength),
        (format!("{chunked}0\r\na: b\n\r\n"), HttpFault::Malformed),
        (format!("{chunked}0\r\na: {}\r\n", "b".repeat(40_000)), HttpFault::TooLong),
        ("GET / HTTP/1.1\nHost: a.com\n\n".to_owned(), HttpFault::Malformed),
        (format!("{head}X: 1\n\r\n"), HttpFault::Malformed),
        (format!("{head} folded: 1\r\n\r\n"), HttpFault::Malformed),
        (format!("{head}Content-Length : 1\r\n\r\n"), HttpFault::Malformed),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), HttpFault::Nameless),
        (format!("{head}Host: a.com\r\n\r\n"), HttpFault::Nameless),
        ("GET / HTTP/1.1\r\nHost: a.com@b.com\r\n\r\n".to_owned(), HttpFault::Nameless),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n".to_owned(), HttpFault::Nameless),
        ("GET http://b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".to_owned(), HttpFault::TwoHosts),
        ("GET http://a.com@b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".to_owned(), HttpFault::TwoHosts),
        ("GET ftp://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n".to_owned(), HttpFault::Malformed),
        ("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n".to_owned(), HttpFault::Connect),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), HttpFault::Malformed),
        (format!("{head}X: {}\r\n\r\n", "x".repeat(40_000)), HttpFault::TooLong),
        (format!("{head}{}\r\n", "X: 1\r\n".repeat(200)), HttpFault::TooLong),
    ] {
        assert_eq!(fault(&stream), Some(expected), "{stream:.80}");
    }
}

#[test]
fn a_fault_is_for_ever() {
    let mut guard = HttpGuard::new();
    assert_eq!(guard.push(b"\n\nnonsense\r\n\r\n"), Err(HttpFault::Malformed));
    assert_eq!(guard.push(b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n"), Err(HttpFault::Malformed));
}

fn upgrade(protocol: &str) -> HttpGuard {
    let mut guard = HttpGuard::new();
    let head = format!("GET / HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
    assert!(matches!(guard.push(head.as_bytes()), Ok(Step::Request { .. })));
    guard
}

#[test]
fn another_protocol_is_opaque_once_the_server_agrees() {
    let mut guard = upgrade("websocket");
    assert_eq!(guard.push(b"\x81\x05hello"), Ok(Step::Wait));
    guard.answer(b"HTTP/1.1 1");
    assert_eq!(guard.push(b"\x81\x05hello"), Ok(Step::Wait));
    guard.answer(b"01 Switching Protocols\r\n\r\n");
    assert_eq!(guard.push(b"\x81\x05hello"), Ok(Step::Pass(7)));
}

#[test]
fn a_server_that_does_not_change_the_protocol_gets_requests_that_are_looked_at() {
    let mut guard = upgrade("websocket");
    guard.answer(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101");
    let evil = guard.push(b"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n");
    assert!(matches!(evil, Ok(Step::Request { host, .. }) if host.as_str() == "evil.com"));
}

#[test]
fn protocols_that_name_hosts_do_not_become_opaque() {
    for protocol in ["h2c", "websocket, H2C", "TLS/1.0", "HTTP/2.0"] {
        let mut guard = upgrade(protocol);
        guard.answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        let preface = guard.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(preface, Err(HttpFault::Malformed), "{protocol}");
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(cuts in prop::collection::vec(0..THREE.len(), 0..20)) {
        let mut cuts = cuts;
        cuts.push(0);
        cuts.push(THREE.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &THREE[pair[0]..pair[1]]).collect();
        prop_assert_eq!(run(&pieces), run(&[THREE]));
    }
}
