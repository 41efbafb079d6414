//! A guest that sends what no driver would: frames made by hand, and far too many of them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpProtocol, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::{SECOND, address, allow_network, open};
use crate::action::Action;
use crate::ethernet::{HEADER_BYTES, Link};
use crate::packet::{Checksum, emit, emit_udp, header};
use crate::policy::{self, Policy};
use crate::testing::Net;

/// Bytes of an IPv4 header without options.
const IPV4_BYTES: usize = 20;

fn guest(net: &Net, remote: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(net.guest.link().guest_like(remote.ip()), port)
}

/// A frame of the guest with a SYN from `source` to `remote`.
fn syn(link: &Link, source: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: source.port(),
        dst_port: remote.port(),
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 65_535,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let header = header(source.ip(), remote.ip(), IpProtocol::Tcp, repr.buffer_len()).unwrap();
    let mut frame = Vec::new();
    emit(link, &mut frame, &header, |space| {
        let (source, remote) = (source.ip().into(), remote.ip().into());
        repr.emit(&mut TcpPacket::new_unchecked(space), &source, &remote, &ChecksumCapabilities::default());
    });
    by_guest(link, frame)
}

/// The addresses of a frame as the guest writes them: the other way round.
fn by_guest(link: &Link, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&link.gateway_mac);
    frame[6..12].copy_from_slice(&link.guest_mac);
    frame
}

/// Changes the IPv4 header of `frame`, and makes its checksum right again.
fn with_header(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[HEADER_BYTES..]);
    let packet = &mut frame[HEADER_BYTES..];
    // A header that claims to be longer than all there is has no sum.
    if usize::from(packet[0] & 0xf) * 4 <= packet.len() {
        Ipv4Packet::new_unchecked(packet).fill_checksum();
    }
    frame
}

/// A frame with an ARP packet in which `sender` asks for `target`, or says that it is `sender`.
fn arp(link: &Link, operation: ArpOperation, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(link.guest_mac),
        source_protocol_addr: sender.into(),
        target_hardware_addr: EthernetAddress(link.gateway_mac),
        target_protocol_addr: target.into(),
    };
    let mut frame = vec![0; HEADER_BYTES + repr.buffer_len()];
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(link.guest_mac),
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame));
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[HEADER_BYTES..]));
    frame
}

/// What came of a frame: where the host is to connect, and how many frames the guest got.
fn outcome(net: &mut Net, frame: &[u8], checksum: Checksum) -> (Vec<SocketAddr>, usize) {
    net.gateway.handle_frame(net.now, frame, checksum);
    let mut places = Vec::new();
    while let Some(action) = net.gateway.poll_action() {
        match action {
            Action::Connect { address, .. } | Action::Datagram { address, .. } => places.push(address),
            Action::Transfer(_) | Action::Close { .. } | Action::EndExchange(_) | Action::Ask { .. } => {}
        }
    }
    let mut answers = 0;
    while net.gateway.frame().is_some() {
        net.gateway.pop_frame();
        answers += 1;
    }
    while net.gateway.poll_event().is_some() {}
    (places, answers)
}

#[test]
fn frames_that_are_not_what_they_should_be_lead_nowhere() {
    let mut net = Net::new(open());
    let link = net.guest.link();
    let (four, six) = (address("93.184.216.34:80"), address("[2606:4700::1111]:80"));
    let good = syn(&link, guest(&net, four, 1000), four);
    let good_six = syn(&link, guest(&net, six, 1000), six);
    let tagged = [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat();
    let doubly_tagged = [&good[..12], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], &good[12..]].concat();
    let mut elsewhere = good.clone();
    elsewhere[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut wrong_sum = good.clone();
    wrong_sum[HEADER_BYTES + 10] ^= 1;
    let mut wrong_tcp_sum = good.clone();
    *wrong_tcp_sum.last_mut().unwrap() ^= 1;
    let mut mixed = good.clone();
    mixed[12..14].copy_from_slice(&[0x86, 0xdd]);
    let next_header = |number: u8| {
        let mut frame = good_six.clone();
        frame[HEADER_BYTES + 6] = number;
        frame
    };
    let from = |source: &str| syn(&link, address(source), four);
    let table = [
        ("a VLAN tag", tagged),
        ("two VLAN tags", doubly_tagged),
        ("another station's", elsewhere),
        ("a wrong sum of the header", wrong_sum),
        ("a wrong sum of the segment", wrong_tcp_sum),
        ("IPv4 that calls itself IPv6", mixed),
        ("a first fragment", with_header(good.clone(), |ip| ip[6] = 0x20)),
        ("a later fragment", with_header(good.clone(), |ip| ip[7] = 1)),
        ("an evil fragment", with_header(good.clone(), |ip| ip[6..8].copy_from_slice(&[0x3f, 0xff]))),
        ("longer than it is", with_header(good.clone(), |ip| ip[2..4].copy_from_slice(&[0xff, 0xff]))),
        ("shorter than its header", with_header(good.clone(), |ip| ip[2..4].copy_from_slice(&[0, 19]))),
        ("a header longer than all", with_header(good.clone(), |ip| ip[0] = 0x4f)),
        ("a header too short", with_header(good.clone(), |ip| ip[0] = 0x44)),
        ("GRE", with_header(good.clone(), |ip| ip[9] = 47)),
        ("IP in IP", with_header(good.clone(), |ip| ip[9] = 4)),
        ("SCTP", with_header(good.clone(), |ip| ip[9] = 132)),
        ("a segment header too short", {
            let mut frame = good.clone();
            frame[HEADER_BYTES + IPV4_BYTES + 12] = 0x40;
            frame
        }),
        ("hop-by-hop options", next_header(0)),
        ("a routing header", next_header(43)),
        ("a fragment header", next_header(44)),
        ("IPv6 in IPv6", next_header(41)),
        ("another guest's address", from("100.127.255.252:1000")),
        ("the gateway's address", from("100.127.255.253:1000")),
        ("an address of the internet", from("8.8.8.8:1000")),
        ("no address", from("0.0.0.0:1000")),
        ("the other end's address", from("93.184.216.34:80")),
        ("another IPv6 address", syn(&link, address("[fd73:6278:7362:7801::3]:1000"), six)),
        ("an address of the link", syn(&link, address("[fe80::1]:1000"), six)),
        ("port 0", syn(&link, guest(&net, four, 1000), address("93.184.216.34:0"))),
        ("a protocol of its own", [&good[..12], &[0x12, 0x34], &good[14..]].concat()),
        ("nothing", Vec::new()),
        ("addresses only", good[..12].to_vec()),
    ];
    for (what, frame) in table {
        let came = outcome(&mut net, &frame, Checksum::Complete);
        assert_eq!(came, (vec![], 0), "{what}");
        assert!(net.gateway.flows.is_empty(), "{what}");
    }
    for frame in [&good, &good_six] {
        for length in 0..frame.len() {
            assert_eq!(outcome(&mut net, &frame[..length], Checksum::Partial).0, [], "{length} bytes");
        }
    }
    assert_eq!(outcome(&mut net, &good, Checksum::Complete), (vec![four], 0));
    assert_eq!(outcome(&mut net, &good_six, Checksum::Complete), (vec![six], 0));
}

#[test]
fn no_bit_of_a_segment_leads_past_the_rules() {
    let rules = || vec![allow_network("93.184.216.34", 32), allow_network("2606:4700::1111", 128)];
    for place in ["93.184.216.34:80", "[2606:4700::1111]:80"] {
        let remote = address(place);
        let mut net = Net::new(Policy::new(policy::Action::Deny, rules()));
        let link = net.guest.link();
        let good = syn(&link, guest(&net, remote, 1000), remote);
        for bit in 0..good.len() * 8 {
            let mut frame = good.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            if remote.is_ipv4() {
                frame = with_header(frame, |_| {});
            }
            let (places, _) = outcome(&mut net, &frame, Checksum::Partial);
            assert!(places.iter().all(|other| other.ip() == remote.ip()), "bit {bit}: {places:?}");
            net.gateway.stop();
        }
    }
}

#[test]
fn options_of_the_header_change_nothing() {
    let mut net = Net::new(Policy::new(policy::Action::Deny, vec![allow_network("93.184.216.34", 32)]));
    let link = net.guest.link();
    // Loose source routing by way of 10.0.0.1 (RFC 791, 3.1).
    let options = [131, 7, 4, 10, 0, 0, 1, 0];
    for (place, connects) in [("93.184.216.34:80", true), ("93.184.216.35:80", false)] {
        let remote = address(place);
        let good = syn(&link, guest(&net, remote, 1000), remote);
        let (before, behind) = good.split_at(HEADER_BYTES + IPV4_BYTES);
        let frame = with_header([before, &options, behind].concat(), |ip| {
            ip[0] = 0x47;
            ip[3] += 8;
        });
        let (places, _) = outcome(&mut net, &frame, Checksum::Complete);
        assert_eq!(places, if connects { vec![remote] } else { vec![] });
    }
}

#[test]
fn only_the_gateway_is_found_and_nobody_else_becomes_it() {
    let mut net = Net::new(open());
    let link = net.guest.link();
    let (guest, gateway) = (link.guest_ipv4.octets(), link.gateway_ipv4.octets());
    let other = [100, 127, 255, 252];
    let mut ask = |operation, sender, target| {
        outcome(&mut net, &arp(&link, operation, sender, target), Checksum::Complete).1
    };
    assert_eq!(ask(ArpOperation::Request, guest, gateway), 1);
    assert_eq!(ask(ArpOperation::Request, guest, other), 0, "a proxy");
    assert_eq!(ask(ArpOperation::Request, other, gateway), 0, "for somebody else");
    assert_eq!(ask(ArpOperation::Request, gateway, gateway), 0, "an announcement");
    assert_eq!(ask(ArpOperation::Reply, gateway, guest), 0, "a claim to be the gateway");
    assert_eq!(ask(ArpOperation::Unknown(3), guest, gateway), 0, "reverse ARP");
    let mut cut = arp(&link, ArpOperation::Request, guest, gateway);
    cut.truncate(cut.len() - 1);
    assert_eq!(outcome(&mut net, &cut, Checksum::Complete).1, 0);
    // And what the guest claimed has changed nothing.
    let socket = net.guest.connect(address("93.184.216.34:80"));
    net.run_until(2 * SECOND, |net| net.guest.state(socket) == State::Established);
}

#[test]
fn every_other_port_of_the_gateway_is_closed() {
    let mut net = Net::with_services(open(), vec![5432]);
    let link = net.guest.link();
    for gateway in [IpAddr::V4(link.gateway_ipv4), IpAddr::V6(link.gateway_ipv6)] {
        let mut open = HashSet::new();
        for port in 1..=u16::MAX {
            let remote = SocketAddr::new(gateway, port);
            let frame = syn(&link, guest(&net, remote, 1000), remote);
            let (places, _) = outcome(&mut net, &frame, Checksum::Complete);
            if !places.is_empty() || !net.gateway.flows.is_empty() {
                open.insert(port);
                net.gateway.stop();
            }
            let mut datagram = Vec::new();
            assert!(emit_udp(&link, &mut datagram, guest(&net, remote, 1000), remote, b"anybody there?"));
            let (places, _) = outcome(&mut net, &by_guest(&link, datagram), Checksum::Complete);
            assert_eq!(places, [], "{port}");
        }
        assert_eq!(open, HashSet::from([53, 5432]));
    }
}

#[test]
fn flags_that_open_nothing_open_nothing() {
    let mut net = Net::new(open());
    let link = net.guest.link();
    let remote = address("93.184.216.34:80");
    let good = syn(&link, guest(&net, remote, 1000), remote);
    for flags in 0..=u8::MAX {
        let mut frame = good.clone();
        frame[HEADER_BYTES + IPV4_BYTES + 13] = flags;
        let (places, _) = outcome(&mut net, &frame, Checksum::Partial);
        // SYN without ACK, RST and FIN, whatever PSH, URG, ECE and CWR are.
        let opens = flags & 0b1_0111 == 0b10;
        assert_eq!(!places.is_empty(), opens, "{flags:#b}");
        net.gateway.stop();
    }
}

/// Passes time, with what is due done, until `done` or for as long as `limit`.
fn wait(net: &mut Net, limit: Duration, done: impl Fn(&Net) -> bool) {
    let end = net.now + limit;
    while !done(net) {
        let Some(at) = net.gateway.poll_timeout().filter(|at| *at <= end) else { break };
        net.now = net.now.max(at);
        net.gateway.handle_timeout(net.now);
        while net.gateway.poll_action().is_some() {}
        while net.gateway.frame().is_some() {
            net.gateway.pop_frame();
            if net.gateway.wants_to_send() {
                net.gateway.send_stalled(net.now);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_connections_that_are_never_completed_pass() {
    let mut net = Net::new(open());
    let link = net.guest.link();
    for number in 0_u32..100_000 {
        let [_, high, low, port] = number.to_be_bytes();
        let remote = SocketAddr::from(([93, high, low, 34], 80));
        let frame = syn(&link, guest(&net, remote, 1000 + u16::from(port)), remote);
        net.gateway.handle_frame(net.now, &frame, Checksum::Complete);
        // Every host accepts at once; the guest never answers.
        while let Some(action) = net.gateway.poll_action() {
            if let Action::Connect { flow, .. } = action {
                net.gateway.connected(net.now, flow);
            }
        }
        while net.gateway.frame().is_some() {
            net.gateway.pop_frame();
        }
        while net.gateway.poll_event().is_some() {}
    }
    assert!((10_000..=12_000).contains(&net.gateway.flows.len()), "{}", net.gateway.flows.len());
    assert_eq!((net.gateway.connecting, net.gateway.events.len()), (0, 0));
    // They go by themselves, and there is room again.
    wait(&mut net, Duration::from_secs(120), |net| net.gateway.flows.is_empty());
    assert_eq!(net.gateway.flows.len(), 0);
    assert_eq!((net.gateway.by_key.len(), net.gateway.timers.len(), net.gateway.stalled.len()), (0, 0, 0));
    let remote = address("93.184.216.34:80");
    let frame = syn(&link, guest(&net, remote, 1), remote);
    let (places, _) = outcome(&mut net, &frame, Checksum::Complete);
    assert_eq!(places, [remote]);
}

#[test]
fn a_visitor_is_not_kept_waiting_for_a_guest_that_does_not_answer() {
    let mut net = Net::new(open());
    // A connection that was completed and has ended leaves its socket to the next one.
    let socket = net.guest.connect(address("93.184.216.34:80"));
    net.run_until(2 * SECOND, |net| net.guest.state(socket) == State::Established);
    net.guest.abort(socket);
    net.run_until(SECOND, |net| net.gateway.flows.is_empty());
    let flow = net.gateway.accept(net.now, 3000).unwrap();
    wait(&mut net, Duration::from_secs(120), |net| net.gateway.flows.is_empty());
    assert!(!net.gateway.flows.contains_key(flow), "the guest never says a word");
}

#[test]
fn datagrams_to_everywhere_are_remembered_for_a_bounded_number_of_places() {
    let mut net = Net::new(open());
    let link = net.guest.link();
    for number in 0_u32..20_000 {
        let [_, _, high, low] = number.to_be_bytes();
        let remote = SocketAddr::from(([93, 184, high, low], 5000));
        let mut frame = Vec::new();
        assert!(emit_udp(&link, &mut frame, guest(&net, remote, 1000), remote, b"x"));
        let (places, _) = outcome(&mut net, &by_guest(&link, frame), Checksum::Complete);
        assert_eq!(places, [remote]);
    }
    assert_eq!(net.gateway.datagrams.iter().count(), 1024);
    wait(&mut net, Duration::from_secs(300), |net| net.gateway.datagrams.iter().count() == 0);
    assert_eq!(net.gateway.datagrams.iter().count(), 0);
}
