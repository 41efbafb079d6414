//! The name server, over datagrams and streams, and what its answers open.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};
use smoltcp::socket::tcp::State;

use super::inspect::{name, rule};
use super::{SECOND, address};
use crate::packet::{self, emit_udp};
use crate::policy::{Action, Policy};
use crate::testing::Net;

fn question(host: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(DnsName::from_ascii(format!("{host}.")).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// What a name server says to a question of the gateway.
fn answer(question: &[u8], addresses: &[&str]) -> Vec<u8> {
    let asked = Message::from_vec(question).unwrap();
    let mut message = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    let query = asked.queries.first().unwrap().clone();
    for address in addresses {
        let data = RData::A(A(address.parse().unwrap()));
        message.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    message.add_query(query);
    message.to_vec().unwrap()
}

fn addresses(reply: &[u8]) -> (ResponseCode, Vec<IpAddr>) {
    let message = Message::from_vec(reply).unwrap();
    let found = message.answers.iter().filter_map(|record| match record.data {
        RData::A(A(address)) => Some(IpAddr::V4(address)),
        _ => None,
    });
    (message.metadata.response_code, found.collect())
}

fn net() -> Net {
    Net::new(Policy::new(Action::Deny, vec![rule(Action::Allow, "good.example")]))
}

/// Asks over UDP, has the host's server answer with `known`, and returns what the guest is told.
fn resolve(net: &mut Net, host: &str, known: &[&str]) -> (ResponseCode, Vec<IpAddr>) {
    let link = net.guest.link();
    let (guest, gateway) =
        (SocketAddr::from((link.guest_ipv4, 5353)), SocketAddr::from((link.gateway_ipv4, 53)));
    let mut frame = Vec::new();
    assert!(emit_udp(&link, &mut frame, guest, gateway, &question(host)));
    // As the guest would send it: the other way round on the cable.
    frame[..6].copy_from_slice(&link.gateway_mac);
    frame[6..12].copy_from_slice(&link.guest_mac);
    net.gateway.handle_frame(net.now, &frame, crate::packet::Checksum::Complete);
    while let Some(action) = net.gateway.poll_action() {
        let crate::action::Action::Ask { bytes, token, .. } = action else { continue };
        net.gateway.handle_answer(net.now, token, &answer(&bytes, known));
    }
    let frame = net.gateway.frame().unwrap().to_vec();
    net.gateway.pop_frame();
    let packet = packet::parse_ipv4(&frame[14..]).unwrap();
    let (source, destination, reply) = packet.udp(crate::packet::Checksum::Complete).unwrap();
    assert_eq!((source, destination), (53, 5353));
    addresses(reply)
}

#[test]
fn an_answer_opens_its_addresses_and_no_other() {
    let mut net = net();
    let place = "93.184.216.34:22";
    let socket = net.guest.connect(address(place));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Closed);
    let (code, found) = resolve(&mut net, "good.example", &["93.184.216.34"]);
    assert_eq!((code, found), (ResponseCode::NoError, vec!["93.184.216.34".parse().unwrap()]));
    let socket = net.guest.connect(address(place));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Established);
    let socket = net.guest.connect(address("93.184.216.35:22"));
    net.settle();
    assert_eq!(net.guest.state(socket), State::Closed);
}

#[test]
fn a_name_that_is_not_allowed_is_asked_of_nobody() {
    let mut net = net();
    assert_eq!(resolve(&mut net, "evil.example", &["93.184.216.34"]), (ResponseCode::NXDomain, Vec::new()));
    assert!(net.host.questions.is_empty());
    while let Some(event) = net.gateway.poll_event() {
        assert!(event.decision.is_refused());
        net.events.push(event);
    }
    assert_eq!(net.events.len(), 1);
}

#[test]
fn rebinding_to_an_address_inside_tells_nothing() {
    let inside = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1"];
    for address_inside in inside {
        let mut net = net();
        let (_, found) = resolve(&mut net, "good.example", &[address_inside, "93.184.216.34"]);
        assert_eq!(found, ["93.184.216.34".parse::<IpAddr>().unwrap()]);
        let socket = net.guest.connect(SocketAddr::new(address_inside.parse().unwrap(), 80));
        net.settle();
        assert_ne!(net.guest.state(socket), State::Established, "{address_inside}");
        assert!(net.host.remotes.is_empty());
    }
}

#[test]
fn names_are_resolved_over_tcp_too() {
    let mut net = net();
    let gateway = net.guest.link().gateway_ipv4;
    let socket = net.guest.connect(SocketAddr::from((gateway, 53)));
    net.run_until(SECOND, |net| net.guest.state(socket) == State::Established);
    let question = question("good.example");
    let message = [&u16::try_from(question.len()).unwrap().to_be_bytes(), question.as_slice()].concat();
    // Two questions, in pieces.
    for piece in [message.as_slice(), &message].concat().chunks(5) {
        net.guest.send(socket, piece);
        net.settle();
    }
    let (token, bytes, _) = net.host.questions.first().unwrap().clone();
    net.gateway.handle_answer(net.now, token, &answer(&bytes, &["93.184.216.34"]));
    let mut received = Vec::new();
    net.run_until(SECOND, |net| {
        received.extend(net.guest.receive(socket));
        received.len() > 2 * (message.len() + 14)
    });
    let length = usize::from(u16::from_be_bytes([received[0], received[1]]));
    assert_eq!(addresses(&received[2..2 + length]).1, ["93.184.216.34".parse::<IpAddr>().unwrap()]);
    net.guest.close(socket);
    net.run_until(SECOND, |net| net.gateway.flows.is_empty());
    assert_eq!(net.gateway.pins.names_of("93.184.216.34".parse().unwrap(), net.now), [name("good.example")]);
}
