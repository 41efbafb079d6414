//! Asking the kernel for changes of a network interface (rtnetlink(7)).
//!
//! The messages are made by the crate that knows their form and sent over a socket of our own. Of the answers only the
//! error number is looked at, so that none of the crate's many parsers is in the binary.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Kinds of messages (linux/rtnetlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

/// Bytes of a message's header, behind which an answer has its error number.
const HEADER_BYTES: usize = 16;

/// Room for an answer: an error quotes the message that it is about, and ours are shorter.
const ANSWER_BYTES: usize = 1024;

/// Length of the whole address as a prefix.
const IPV4_BITS: u8 = 32;
const IPV6_BITS: u8 = 128;

/// A conversation with the kernel about its interfaces.
#[derive(Debug)]
pub(super) struct Rtnetlink {
    socket: OwnedFd,
}

impl Rtnetlink {
    /// Begins one.
    ///
    /// # Errors
    /// If the kernel has no such sockets.
    pub(super) fn open() -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        // Of the protocols of this family, rtnetlink is the one with the number 0.
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// Sets the largest packet of the interface with this index, and brings it up.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn bring_up(&self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.ask(RTM_NEWLINK, 0, &message)
    }

    /// Gives the interface an address. It is there at once: nobody else is on the cable who could have it.
    ///
    /// # Errors
    /// What the kernel says; `EINVAL` if the address does not have a prefix of that length.
    pub(super) fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        if prefix > bits(address) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Sends what goes to nobody else on the way over `gateway`, which is on the interface's cable.
    ///
    /// # Errors
    /// What the kernel says; `ENETUNREACH` if no address of the interface is in the gateway's network.
    pub(super) fn add_default_route(&self, index: u32, gateway: IpAddr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        message.attributes.push(RouteAttribute::Oif(index));
        self.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Sends one message and waits for the answer.
    fn ask(&self, kind: u16, flags: u16, message: &impl Emitable) -> io::Result<()> {
        send(&self.socket, &request(kind, flags, message), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES];
        let (length, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        outcome(answer.get(..length).unwrap_or_default())
    }
}

/// A message as bytes, which wants to be answered.
fn request(kind: u16, flags: u16, message: &impl Emitable) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    let length = header.buffer_len() + message.buffer_len();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = kind;
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut bytes = vec![0; length];
    let (head, body) = bytes.split_at_mut(header.buffer_len());
    header.emit(head);
    message.emit(body);
    bytes
}

/// What an answer says: a message of the kind "error" with the number 0 if all is well.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let number = answer.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
    match (kind, number.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(number)) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { IPV4_BITS } else { IPV6_BITS }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_kernel_answers_and_refuses_an_interface_that_is_not_there() {
        let kernel = Rtnetlink::open().unwrap();
        let nowhere = 0x7fff_fff0;
        for address in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let errors = [
                kernel.add_address(nowhere, address, 24).unwrap_err(),
                kernel.add_default_route(nowhere, address).unwrap_err(),
                kernel.bring_up(nowhere, 65_520).unwrap_err(),
            ];
            for error in errors {
                // Of a way over a cable that is not there it says that it leads nowhere; an ordinary user is told less.
                let expected = [libc::ENODEV, libc::ENETUNREACH, libc::EPERM];
                assert!(expected.contains(&error.raw_os_error().unwrap()), "{error}");
            }
            let error = kernel.add_address(nowhere, address, 129).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_answer_is_a_number_or_an_error() {
        let answer = |kind: u16, number: i32| {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend(number.to_ne_bytes());
            bytes
        };
        assert!(outcome(&answer(NLMSG_ERROR, 0)).is_ok());
        assert_eq!(outcome(&answer(NLMSG_ERROR, -22)).unwrap_err().raw_os_error(), Some(22));
        assert!(outcome(&answer(NLMSG_ERROR, i32::MIN)).is_err());
        assert!(outcome(&answer(16, 0)).is_err());
        assert!(outcome(&answer(NLMSG_ERROR, 0)[..19]).is_err());
        assert!(outcome(&[]).is_err());
    }

    #[test]
    fn a_route_is_what_the_kernel_reads() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.attributes.push(RouteAttribute::Oif(7));
        let bytes = request(RTM_NEWROUTE, NLM_F_CREATE, &message);
        let expected = [
            &36_u32.to_ne_bytes()[..],
            &24_u16.to_ne_bytes(),
            &0x405_u16.to_ne_bytes(),
            &[0; 8],
            &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &8_u16.to_ne_bytes(),
            &4_u16.to_ne_bytes(),
            &7_u32.to_ne_bytes(),
        ]
        .concat();
        assert_eq!(bytes, expected);
    }
}
