//! The cable between guest and gateway: Ethernet, and who is at its ends.
//!
//! Two stations, whose addresses are known to both from the start. ARP and neighbour discovery are answered all the same, for the
//! gateway's own addresses only, since that is how Linux finds a router's hardware address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

/// Bytes before the packet in a frame (IEEE 802.3, 3.1.1, without a VLAN tag).
pub(crate) const HEADER_BYTES: usize = 14;

/// Addresses of both stations. Fixed, because a guest sees no network but this one; reserved ranges where nobody has hosts
/// that the guest might want to reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Hardware address of the gateway.
    pub gateway_mac: [u8; 6],
    /// Hardware address of the guest.
    pub guest_mac: [u8; 6],
    /// The gateway: router, name server and, as `host.sbx.internal`, the host.
    pub gateway_ipv4: Ipv4Addr,
    /// The guest.
    pub guest_ipv4: Ipv4Addr,
    /// Leading bits of the IPv4 addresses that both share.
    pub prefix_ipv4: u8,
    /// The gateway.
    pub gateway_ipv6: Ipv6Addr,
    /// The guest.
    pub guest_ipv6: Ipv6Addr,
    /// Leading bits of the IPv6 addresses that both share.
    pub prefix_ipv6: u8,
    /// Largest IP packet, in bytes. The largest that Linux takes for a device, so that bulk data moves in few frames.
    pub mtu: u16,
}

impl Default for Link {
    /// The last four addresses of the shared address space (RFC 6598), which no private network uses, and a unique local prefix (RFC
    /// 4193). The hardware addresses are locally administered.
    fn default() -> Self {
        Self {
            gateway_mac: [0x02, b's', b'b', b'x', 0, 1],
            guest_mac: [0x02, b's', b'b', b'x', 0, 2],
            gateway_ipv4: Ipv4Addr::new(100, 127, 255, 253),
            guest_ipv4: Ipv4Addr::new(100, 127, 255, 254),
            prefix_ipv4: 30,
            gateway_ipv6: Ipv6Addr::new(0xfd73, 0x6278, 0x7362, 0x7801, 0, 0, 0, 1),
            guest_ipv6: Ipv6Addr::new(0xfd73, 0x6278, 0x7362, 0x7801, 0, 0, 0, 2),
            prefix_ipv6: 64,
            mtu: 65520,
        }
    }
}

impl Link {
    /// Whether this is the gateway's own address.
    #[must_use]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.gateway_ipv4) || address == IpAddr::V6(self.gateway_ipv6)
    }

    /// Whether this is the address that the guest was given.
    #[must_use]
    pub fn is_guest(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.guest_ipv4) || address == IpAddr::V6(self.guest_ipv6)
    }

    /// The guest's address of the same family.
    #[must_use]
    pub fn guest_like(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => self.guest_ipv4.into(),
            IpAddr::V6(_) => self.guest_ipv6.into(),
        }
    }

    /// The gateway's address of the same family.
    #[must_use]
    pub fn gateway_like(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => self.gateway_ipv4.into(),
            IpAddr::V6(_) => self.gateway_ipv6.into(),
        }
    }

    /// Writes the header of a frame from the gateway to the guest with a packet to `destination`.
    pub(crate) fn emit_header(&self, buffer: &mut [u8], protocol: EthernetProtocol) {
        let repr = EthernetRepr {
            src_addr: EthernetAddress(self.gateway_mac),
            dst_addr: EthernetAddress(self.guest_mac),
            ethertype: protocol,
        };
        if buffer.len() >= HEADER_BYTES {
            repr.emit(&mut EthernetFrame::new_unchecked(buffer));
        }
    }
}

/// What a frame of the guest holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Payload<'f> {
    /// An IPv4 packet.
    Ipv4(&'f [u8]),
    /// An IPv6 packet.
    Ipv6(&'f [u8]),
    /// An ARP packet.
    Arp(&'f [u8]),
}

/// What `frame` holds for the gateway. Nothing, if it is for somebody else, or no protocol of ours, VLAN tags among them.
pub(crate) fn parse<'f>(link: &Link, frame: &'f [u8]) -> Option<Payload<'f>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let destination = frame.dst_addr();
    if destination != EthernetAddress(link.gateway_mac) && destination.is_unicast() {
        return None;
    }
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => Some(Payload::Ipv4(frame.payload())),
        EthernetProtocol::Ipv6 => Some(Payload::Ipv6(frame.payload())),
        EthernetProtocol::Arp => Some(Payload::Arp(frame.payload())),
        EthernetProtocol::Unknown(_) => None,
    }
}

/// The answer to the ARP packet `request`, if it asks for the gateway: a whole frame.
pub(crate) fn answer_arp(link: &Link, request: &[u8]) -> Option<Vec<u8>> {
    let packet = ArpPacket::new_checked(request).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if target_protocol_addr != link.gateway_ipv4 || source_protocol_addr != link.guest_ipv4 {
        return None;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(link.gateway_mac),
        source_protocol_addr: link.gateway_ipv4,
        target_hardware_addr: EthernetAddress(link.guest_mac),
        target_protocol_addr: link.guest_ipv4,
    };
    let mut frame = vec![0; HEADER_BYTES.saturating_add(reply.buffer_len())];
    link.emit_header(&mut frame, EthernetProtocol::Arp);
    reply.emit(&mut ArpPacket::new_unchecked(frame.get_mut(HEADER_BYTES..)?));
    Some(frame)
}
