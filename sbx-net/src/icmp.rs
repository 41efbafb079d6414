//! Control messages: echoes of the gateway, neighbour discovery, and what tells a program that something cannot be reached.
//!
//! The gateway answers pings to itself. It sends none for the guest: an echo to elsewhere is answered with "prohibited", since a ping is
//! a tunnel as good as any.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, IpRepr, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Address, Ipv6Packet, Ipv6Repr,
    NdiscNeighborFlags, NdiscRepr,
};

use crate::ethernet::Link;
use crate::packet::{HOP_LIMIT, Packet, emit};

/// Bytes of a refused packet that are sent back behind its header: what a TCP or UDP header needs, and a little more.
const QUOTED_BYTES: usize = 64;

/// Hops of neighbour discovery, by which both sides know that the packet was not forwarded (RFC 4861, 7.1).
const NEIGHBOUR_HOP_LIMIT: u8 = 255;

/// Why something cannot be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreachable {
    /// The host knows no way there, or nobody answers.
    Host,
    /// The host is there and does not listen.
    Port,
    /// A rule forbids it.
    Prohibited,
}

/// The gateway's answer to an ICMP or ICMPv6 packet, written into `frame`; false if it has none.
pub(crate) fn answer(link: &Link, frame: &mut Vec<u8>, packet: &Packet<'_>) -> bool {
    frame.clear();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => answer_v4(link, frame, packet, source, destination),
        (IpAddr::V6(source), IpAddr::V6(destination)) => answer_v6(link, frame, packet, source, destination),
        _ => false,
    }
}

fn answer_v4(
    link: &Link,
    frame: &mut Vec<u8>,
    packet: &Packet<'_>,
    source: Ipv4Address,
    destination: Ipv4Address,
) -> bool {
    let checksums = ChecksumCapabilities::default();
    let Ok(message) = Icmpv4Packet::new_checked(packet.payload) else { return false };
    let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) = Icmpv4Repr::parse(&message, &checksums) else {
        return false;
    };
    if destination != link.gateway_ipv4 {
        return unreachable(link, frame, packet, Unreachable::Prohibited);
    }
    emit_v4(link, frame, destination, source, &Icmpv4Repr::EchoReply { ident, seq_no, data });
    true
}

fn emit_v4(
    link: &Link,
    frame: &mut Vec<u8>,
    source: Ipv4Address,
    destination: Ipv4Address,
    repr: &Icmpv4Repr<'_>,
) {
    let header = IpRepr::Ipv4(Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmp,
        payload_len: repr.buffer_len(),
        hop_limit: HOP_LIMIT,
    });
    emit(link, frame, &header, |space| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(space), &ChecksumCapabilities::default());
    });
}

fn answer_v6(
    link: &Link,
    frame: &mut Vec<u8>,
    packet: &Packet<'_>,
    source: Ipv6Address,
    destination: Ipv6Address,
) -> bool {
    let checksums = ChecksumCapabilities::default();
    let Ok(message) = Icmpv6Packet::new_checked(packet.payload) else { return false };
    let Ok(repr) = Icmpv6Repr::parse(&source, &destination, &message, &checksums) else { return false };
    match repr {
        Icmpv6Repr::EchoRequest { ident, seq_no, data } if destination == link.gateway_ipv6 => {
            let reply = Icmpv6Repr::EchoReply { ident, seq_no, data };
            emit_v6(link, frame, (destination, source, HOP_LIMIT), &reply);
            true
        }
        Icmpv6Repr::EchoRequest { .. } => unreachable(link, frame, packet, Unreachable::Prohibited),
        // A source without an address asks whether somebody else has the one that it wants, which nobody has.
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. })
            if target_addr == link.gateway_ipv6 && !source.is_unspecified() =>
        {
            let advert = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::ROUTER
                    | NdiscNeighborFlags::SOLICITED
                    | NdiscNeighborFlags::OVERRIDE,
                target_addr,
                lladdr: Some(EthernetAddress(link.gateway_mac).into()),
            });
            emit_v6(link, frame, (target_addr, source, NEIGHBOUR_HOP_LIMIT), &advert);
            true
        }
        _ => false,
    }
}

fn emit_v6(
    link: &Link,
    frame: &mut Vec<u8>,
    (source, destination, hop_limit): (Ipv6Address, Ipv6Address, u8),
    repr: &Icmpv6Repr<'_>,
) {
    let header = IpRepr::Ipv6(Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: repr.buffer_len(),
        hop_limit,
    });
    emit(link, frame, &header, |space| {
        let mut packet = Icmpv6Packet::new_unchecked(space);
        repr.emit(&source, &destination, &mut packet, &ChecksumCapabilities::default());
    });
}

/// Tells the guest that `packet` does not get where it should; false if there is nobody to tell.
pub(crate) fn unreachable(link: &Link, frame: &mut Vec<u8>, packet: &Packet<'_>, why: Unreachable) -> bool {
    // Some fields of these messages are not written but expected to be zero.
    frame.clear();
    let data = packet.payload.get(..QUOTED_BYTES).unwrap_or(packet.payload);
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(_)) => {
            let Some(header) = Ipv4Packet::new_checked(packet.whole)
                .ok()
                .and_then(|whole| Ipv4Repr::parse(&whole, &ChecksumCapabilities::default()).ok())
            else {
                return false;
            };
            let reason = match why {
                Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
                Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
            };
            emit_v4(
                link,
                frame,
                link.gateway_ipv4,
                source,
                &Icmpv4Repr::DstUnreachable { reason, header, data },
            );
        }
        (IpAddr::V6(source), IpAddr::V6(_)) => {
            let Some(header) =
                Ipv6Packet::new_checked(packet.whole).ok().and_then(|whole| Ipv6Repr::parse(&whole).ok())
            else {
                return false;
            };
            let reason = match why {
                Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
                Unreachable::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
            };
            let message = Icmpv6Repr::DstUnreachable { reason, header, data };
            emit_v6(link, frame, (link.gateway_ipv6, source, HOP_LIMIT), &message);
        }
        _ => return false,
    }
    true
}
