mod hostile;
mod inspect;
mod names;

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::socket::tcp::State;

use crate::policy::{Action, Origin, Policy, Rule, Target};
use crate::testing::{Answer, Faults, Net};

/// Everything on the internet may be reached.
fn open() -> Policy {
    Policy::new(Action::Allow, Vec::new())
}

fn allow_network(network: &str, prefix: u8) -> Rule {
    Rule {
        action: Action::Allow,
        target: Target::Network { address: network.parse().unwrap(), prefix },
        ports: None,
        protocol: None,
        origin: Origin { place: "sandbox.kdl:1".to_owned(), text: format!("allow \"{network}/{prefix}\"") },
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    for place in ["93.184.216.34:9000", "[2606:4700::1111]:9000"] {
        let mut net = Net::new(open());
        let remote = address(place);
        let socket = net.guest.connect(remote);
        net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
        assert_eq!(net.guest.send(socket, b"question"), 8);
        net.guest.close(socket);
        net.run_until(SECOND, |net| net.host.remote(remote).guest_ended);
        assert_eq!(net.host.remote(remote).received, b"question");
        // The guest has ended its direction; the host has not.
        net.host.remote(remote).to_send = b"answer".to_vec();
        net.host.remote(remote).end = true;
        let mut answer = Vec::new();
        net.run_until(SECOND, |net| {
            answer.extend(net.guest.receive(socket));
            net.host.remote(remote).closed.is_some()
        });
        assert_eq!(answer, b"answer");
        assert_eq!(net.host.remote(remote).closed, Some(false));
        assert!(net.gateway.flows.is_empty() && net.gateway.by_key.is_empty());
    }
}

#[test]
fn a_connection_has_nothing_of_those_before_it() {
    let mut net = Net::new(open());
    let remote = address("93.184.216.34:9000");
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    net.host.remote(remote).reads = false;
    net.guest.send(socket, b"not read");
    net.settle();
    net.guest.abort(socket);
    net.run_until(SECOND, |net| net.host.remote(remote).closed == Some(true));
    net.host.remotes.clear();
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    net.guest.send(socket, b"question");
    net.host.remote(remote).to_send = b"answer".to_vec();
    net.settle();
    assert_eq!(net.host.remote(remote).received, b"question");
    assert_eq!(net.guest.receive(socket), b"answer");
}

#[test]
fn what_the_host_ends_first_still_gets_what_the_guest_sends() {
    let mut net = Net::new(open());
    let remote = address("93.184.216.34:9000");
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    net.host.remote(remote).end = true;
    net.host.remote(remote).reads = false;
    net.run_until(SECOND, |net| net.guest.state(socket) == State::CloseWait);
    net.guest.send(socket, &[7; 100_000]);
    net.guest.close(socket);
    net.settle();
    net.host.remote(remote).reads = true;
    net.run_until(SECOND, |net| net.host.remote(remote).closed == Some(false));
    assert_eq!(net.host.remote(remote).received, [7; 100_000]);
}

#[test]
fn the_guest_hears_of_a_connection_only_when_the_host_has_it() {
    let mut net = Net::new(open());
    let cases = [
        ("93.184.216.34:1", Answer::Refuse, State::Closed),
        ("93.184.216.34:2", Answer::Silent, State::SynSent),
        // smoltcp does not end a connection for what ICMP says, Linux does.
        ("93.184.216.34:3", Answer::Unreachable, State::SynSent),
    ];
    for (place, answer, state) in cases {
        let remote = address(place);
        net.host.answers.insert(remote, answer);
        let socket = net.guest.connect(remote);
        net.settle();
        assert_eq!(net.guest.state(socket), state, "{place}");
    }
}

#[test]
fn what_no_rule_allows_is_reset_without_the_host_being_asked() {
    let mut net = Net::new(Policy::new(Action::Deny, vec![allow_network("93.184.216.0", 24)]));
    let refused =
        ["8.8.8.8:443", "10.0.0.1:80", "169.254.169.254:80", "127.0.0.1:22", "[2606:4700::1111]:443"];
    for place in refused {
        let socket = net.guest.connect(address(place));
        // Longer than the guest waits between looking for its neighbour and trying again.
        net.run_until(2 * SECOND, |net| net.guest.state(socket) == State::Closed);
    }
    assert!(net.host.remotes.is_empty());
    assert_eq!(net.events.len(), refused.len());
    assert!(net.events.iter().all(|event| event.decision.is_refused()));
    let socket = net.guest.connect(address("93.184.216.34:80"));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Established);
}

#[test]
fn a_reset_passes_in_both_directions() {
    let mut net = Net::new(open());
    let remote = address("93.184.216.34:9000");
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    net.guest.abort(socket);
    net.run_until(SECOND, |net| net.host.remote(remote).closed == Some(true));
    assert!(!net.host.remote(remote).guest_ended, "it would look like all that there is");

    let remote = address("93.184.216.34:9001");
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    let flow = *net.host.remotes.iter().find(|(_, other)| other.address == Some(remote)).unwrap().0;
    net.gateway.host_failed(net.now, flow);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Closed);
    assert!(net.gateway.flows.is_empty());
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let mut net = Net::new(open());
    let remote = address("93.184.216.34:9000");
    let socket = net.guest.connect(remote);
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    // The host does not read: the guest can fill both buffers and no more.
    net.host.remote(remote).reads = false;
    let mut sent = 0;
    for _ in 0..100 {
        sent += net.guest.send(socket, &[1; 256 * 1024]);
        net.settle();
    }
    assert!((1024 * 1024..=3 * 1024 * 1024).contains(&sent), "{sent}");
    net.host.remote(remote).reads = true;
    net.run_until(SECOND, |net| net.host.remote(remote).received.len() == sent);
    // The guest does not read: the same the other way round.
    net.host.remote(remote).to_send = vec![2; 16 * 1024 * 1024];
    net.settle();
    let left = net.host.remote(remote).to_send.len();
    assert!(left > 12 * 1024 * 1024, "{left}");
    let mut received = 0;
    net.run_until(5 * SECOND, |net| {
        received += net.guest.receive(socket).len();
        received == 16 * 1024 * 1024
    });
}

#[test]
fn a_bad_cable_changes_no_byte() {
    let data: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
    for (lost, doubled, reordered) in [(5, 0, 0), (0, 20, 0), (0, 0, 30), (3, 5, 10)] {
        for seed in 1..6 {
            let mut net = Net::new(open());
            net.host.echo = true;
            net.faults = Faults::new(lost, doubled, reordered, seed);
            let remote = address("93.184.216.34:9000");
            let socket = net.guest.connect(remote);
            let (mut sent, mut received) = (0, Vec::new());
            net.run_until(600 * SECOND, |net| {
                sent += net.guest.send(socket, &data[sent..]);
                received.extend(net.guest.receive(socket));
                received.len() == data.len()
            });
            assert!(received == data, "lost {lost} doubled {doubled} reordered {reordered} seed {seed}");
        }
    }
}

#[test]
fn a_published_port_leads_into_the_guest() {
    let mut net = Net::new(open());
    let server = net.guest.listen(3000);
    let flow = net.gateway.accept(net.now, 3000).unwrap();
    net.host.adopt(flow).to_send = b"GET / HTTP/1.0\r\n\r\n".to_vec();
    net.run_until(SECOND, |net| net.guest.state(server) == State::Established);
    let mut request = Vec::new();
    net.run_until(SECOND, |net| {
        request.extend(net.guest.receive(server));
        request.ends_with(b"\r\n\r\n")
    });
    net.guest.send(server, b"200 OK");
    net.guest.close(server);
    net.run_until(SECOND, |net| net.host.adopt(flow).guest_ended);
    assert_eq!(net.host.adopt(flow).received, b"200 OK");
    // Nobody listens there: the visitor's connection is reset.
    let flow = net.gateway.accept(net.now, 3001).unwrap();
    net.host.adopt(flow);
    net.run_until(SECOND, |net| net.host.adopt(flow).closed == Some(true));
    assert!(!net.host.adopt(flow).guest_ended);
}

#[test]
fn a_host_service_is_reached_at_the_gateway_and_nothing_else_is() {
    let mut net = Net::with_services(open(), vec![5432]);
    let gateway = net.guest.link().gateway_ipv4;
    let socket = net.guest.connect(SocketAddr::from((gateway, 5432)));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Established);
    assert!(net.host.remotes.values().any(|remote| remote.address == Some(address("127.0.0.1:5432"))));
    for port in [22, 80, 5433] {
        let socket = net.guest.connect(SocketAddr::from((gateway, port)));
        net.settle();
        assert_eq!(net.guest.state(socket), State::Closed, "{port}");
    }
    assert_eq!(net.host.remotes.len(), 1);
}

#[test]
fn connections_end_when_their_rule_is_gone() {
    let mut net = Net::new(Policy::new(Action::Deny, vec![allow_network("93.184.216.0", 24)]));
    let kept = net.guest.connect(address("93.184.216.34:80"));
    let ended = net.guest.connect(address("93.184.216.200:80"));
    net.settle();
    net.gateway.set_policy(net.now, Policy::new(Action::Deny, vec![allow_network("93.184.216.0", 25)]));
    net.settle();
    assert_eq!(net.guest.state(kept), State::Established);
    assert_eq!(net.guest.state(ended), State::Closed);
}

#[test]
fn half_open_connections_have_an_end() {
    let mut net = Net::new(open());
    net.host
        .answers
        .extend((1..=2000).map(|port| (SocketAddr::from(([93, 184, 216, 34], port)), Answer::Silent)));
    for port in 1..=2000 {
        net.guest.connect(SocketAddr::from(([93, 184, 216, 34], port)));
    }
    net.settle();
    assert_eq!(net.gateway.flows.len(), 512);
    assert_eq!(net.gateway.connecting, 512);
    net.gateway.stop();
    assert!(net.gateway.flows.is_empty() && net.gateway.connecting == 0);
}
