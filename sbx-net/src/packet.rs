//! IP packets of the guest, checked; and those that the gateway makes itself.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetProtocol, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket,
    UdpRepr,
};

use crate::ethernet::{HEADER_BYTES, Link};

/// Hops of a packet of ours (RFC 1700: the recommended default).
pub(crate) const HOP_LIMIT: u8 = 64;

/// Whether a frame of the guest has its TCP or UDP checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksum {
    /// It has to be right.
    Complete,
    /// It was left to the device, which has no use for it.
    Partial,
}

/// A packet of the guest, not a fragment, of which the lengths fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Packet<'p> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: IpProtocol,
    /// Behind the IP header.
    pub(crate) payload: &'p [u8],
    /// With the IP header, without what the frame may have behind it.
    pub(crate) whole: &'p [u8],
}

/// Reads an IPv4 packet. Fragments are not put together: the link's MTU is the largest there is, so only somebody who wants
/// to hide what a packet is makes any. Their like is dropped as is what has a wrong checksum.
pub(crate) fn parse_ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    let fragment = packet.more_frags() || packet.frag_offset() != 0;
    if packet.version() != 4 || fragment || !packet.verify_checksum() {
        return None;
    }
    Some(Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        payload: packet.payload(),
        whole: bytes.get(..usize::from(packet.total_len()))?,
    })
}

/// Reads an IPv6 packet. Extension headers are no protocol that the gateway has, so such packets go nowhere.
pub(crate) fn parse_ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let packet = Ipv6Packet::new_checked(bytes).ok()?;
    if packet.version() != 6 {
        return None;
    }
    Some(Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        payload: packet.payload(),
        whole: bytes.get(..packet.total_len())?,
    })
}

impl<'p> Packet<'p> {
    /// Ports and flags of a TCP segment whose checksum is right, if it has to be.
    pub(crate) fn tcp(&self, checksum: Checksum) -> Option<Segment> {
        let segment = TcpPacket::new_checked(self.payload).ok()?;
        if checksum == Checksum::Complete
            && !segment.verify_checksum(&self.source.into(), &self.destination.into())
        {
            return None;
        }
        Some(Segment {
            source: segment.src_port(),
            destination: segment.dst_port(),
            opens: segment.syn() && !segment.ack() && !segment.rst() && !segment.fin(),
        })
    }

    /// Ports and data of a UDP datagram whose checksum is right, if it has to be.
    pub(crate) fn udp(&self, checksum: Checksum) -> Option<(u16, u16, &'p [u8])> {
        let datagram = UdpPacket::new_checked(self.payload).ok()?;
        if checksum == Checksum::Complete
            && !datagram.verify_checksum(&self.source.into(), &self.destination.into())
        {
            return None;
        }
        Some((datagram.src_port(), datagram.dst_port(), datagram.payload()))
    }
}

/// What decides about a TCP segment besides its addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    /// Whether it is the first of a connection: a SYN alone.
    pub(crate) opens: bool,
}

/// An IP header from `source` to `destination`, which are of one family.
pub(crate) fn header(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    payload: usize,
) -> Option<IpRepr> {
    match (source, destination) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => Some(IpRepr::Ipv4(Ipv4Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len: payload,
            hop_limit: HOP_LIMIT,
        })),
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => Some(IpRepr::Ipv6(Ipv6Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len: payload,
            hop_limit: HOP_LIMIT,
        })),
        _ => None,
    }
}

/// Makes `frame` one with `header`, and has `payload` write all that is behind the header.
pub(crate) fn emit(link: &Link, frame: &mut Vec<u8>, header: &IpRepr, payload: impl FnOnce(&mut [u8])) {
    let protocol = match header {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    };
    let behind = HEADER_BYTES.saturating_add(header.header_len());
    frame.resize(behind.saturating_add(header.payload_len()), 0);
    link.emit_header(frame, protocol);
    if let Some(packet) = frame.get_mut(HEADER_BYTES..) {
        header.emit(&mut *packet, &ChecksumCapabilities::default());
    }
    if let Some(space) = frame.get_mut(behind..) {
        payload(space);
    }
}

/// Makes `frame` one with a UDP datagram; false if it does not fit or the families differ.
pub(crate) fn emit_udp(
    link: &Link,
    frame: &mut Vec<u8>,
    source: SocketAddr,
    destination: SocketAddr,
    data: &[u8],
) -> bool {
    let repr = UdpRepr { src_port: source.port(), dst_port: destination.port() };
    let length = repr.header_len().saturating_add(data.len());
    let Some(header) = header(source.ip(), destination.ip(), IpProtocol::Udp, length) else { return false };
    if header.buffer_len() > usize::from(link.mtu) {
        return false;
    }
    emit(link, frame, &header, |space| {
        repr.emit(
            &mut UdpPacket::new_unchecked(space),
            &source.ip().into(),
            &destination.ip().into(),
            data.len(),
            |payload| payload.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
    });
    true
}
