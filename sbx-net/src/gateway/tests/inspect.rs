//! Names: what the guest says against what was resolved and what the rules say.

use std::sync::Arc;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use super::{SECOND, address};
use crate::name::Name;
use crate::policy::{Action, Origin, Policy, Reason, Rule, Target};
use crate::testing::Net;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn rule(action: Action, host: &str) -> Rule {
    let text = format!("{action:?} \"{host}\"");
    Rule {
        action,
        target: Target::Exact(name(host)),
        ports: None,
        protocol: None,
        origin: Origin { place: "sandbox.kdl:3".to_owned(), text },
    }
}

/// One address that four names have; three of them may be reached, of which two were asked for.
fn shared_host() -> Net {
    let rules = vec![
        rule(Action::Allow, "good.example"),
        rule(Action::Allow, "also.example"),
        rule(Action::Allow, "unasked.example"),
    ];
    let mut net = Net::new(Policy::new(Action::Deny, rules));
    for known in ["good.example", "also.example"] {
        net.gateway.pins.insert(&name(known), "93.184.216.34".parse().unwrap(), 60 * SECOND, net.now);
    }
    net
}

fn client_hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let server = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// Sends `bytes` in pieces; whether the connection lives on.
fn says(net: &mut Net, place: &str, bytes: &[u8]) -> (SocketHandle, bool) {
    let socket = net.guest.connect(address(place));
    net.run_until(2 * SECOND, |net| net.guest.state(socket) == State::Established);
    for piece in bytes.chunks(7) {
        net.guest.send(socket, piece);
        net.settle();
    }
    (socket, net.guest.state(socket) == State::Established)
}

#[test]
fn the_server_name_has_to_be_allowed_and_resolved_to_the_address() {
    let table = [
        ("good.example", true),
        ("also.example", true),
        // Allowed, but nobody asked where it is: the guest cannot know that it is here.
        ("unasked.example", false),
        ("evil.example", false),
        // No SNI is sent for an address.
        ("93.184.216.34", false),
    ];
    for (host, allowed) in table {
        let mut net = shared_host();
        let hello = client_hello(host);
        let (_, alive) = says(&mut net, "93.184.216.34:443", &hello);
        assert_eq!(alive, allowed, "{host}");
        let remote = net.host.remote(address("93.184.216.34:443"));
        assert_eq!(remote.received, if allowed { hello } else { Vec::new() }, "{host}");
        assert_eq!(net.events.len(), 1, "{host}");
    }
}

#[test]
fn nothing_comes_from_the_host_before_the_guest_has_told() {
    let mut net = shared_host();
    let place = address("93.184.216.34:443");
    let socket = net.guest.connect(place);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    net.host.remote(place).to_send = b"welcome".to_vec();
    net.settle();
    assert_eq!(net.guest.receive(socket), b"");
    net.guest.send(socket, &client_hello("good.example"));
    net.settle();
    assert_eq!(net.guest.receive(socket), b"welcome");
}

#[test]
fn every_request_of_a_connection_is_looked_at() {
    let request =
        |host: &str| format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc").into_bytes();
    let mut net = shared_host();
    let place = "93.184.216.34:80";
    let (socket, alive) = says(&mut net, place, &[request("good.example"), request("also.example")].concat());
    assert!(alive);
    let passed = [request("good.example"), request("also.example")].concat();
    assert_eq!(net.host.remote(address(place)).received, passed);
    // The third is for somebody else.
    net.guest.send(socket, &request("evil.example"));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Closed);
    assert_eq!(net.host.remote(address(place)).received, passed);
    let last = net.events.last().unwrap();
    assert!(last.decision.is_refused() && last.decision.reason == Reason::NoRule, "{last:?}");
}

#[test]
fn a_request_that_could_be_read_in_two_ways_ends_the_connection() {
    let smuggled = "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut net = shared_host();
    let (_, alive) = says(&mut net, "93.184.216.34:80", smuggled.as_bytes());
    assert!(!alive);
    assert_eq!(net.host.remote(address("93.184.216.34:80")).received, b"");
}

#[test]
fn a_protocol_that_names_nobody_passes_to_a_pinned_address() {
    let mut net = shared_host();
    let (_, alive) = says(&mut net, "93.184.216.34:443", b"SSH-2.0-OpenSSH_9.6\r\n");
    assert!(alive);
    let (_, alive) = says(&mut net, "93.184.216.34:22", b"SSH-2.0-OpenSSH_9.6\r\n");
    assert!(alive);
    // The address alone, without a name that was resolved to it, is nothing.
    let socket = net.guest.connect(address("93.184.216.35:22"));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Closed);
}

#[test]
fn a_guest_that_hangs_up_before_it_told_is_let_go() {
    let mut net = shared_host();
    let (socket, alive) = says(&mut net, "93.184.216.34:443", &client_hello("good.example")[..50]);
    assert!(alive);
    net.guest.close(socket);
    net.settle();
    assert_eq!(net.host.remote(address("93.184.216.34:443")).closed, Some(true));
    assert!(net.gateway.flows.is_empty());
}

#[test]
fn a_request_that_names_nobody_passes_where_only_denials_are_about_names() {
    let mut net = Net::new(Policy::new(Action::Allow, vec![rule(Action::Deny, "evil.example")]));
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let (_, alive) = says(&mut net, "93.184.216.34:80", &request("93.184.216.34"));
    assert!(alive);
    assert_eq!(net.host.remote(address("93.184.216.34:80")).received, request("93.184.216.34"));
    let (_, alive) = says(&mut net, "93.184.216.35:80", &request("evil.example"));
    assert!(!alive);
}
