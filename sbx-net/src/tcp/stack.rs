//! smoltcp's interface, fed with one packet and one connection at a time.

use smoltcp::iface::{Config, Context, Interface};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetProtocol, HardwareAddress, IpCidr, IpVersion};

use super::socket::TcpSocket;
use crate::ethernet::{HEADER_BYTES, Link};
use crate::frames::Frames;

/// The TCP of the gateway, which answers at every address.
pub(crate) struct Stack {
    interface: Interface,
    checksums: ChecksumCapabilities,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl Stack {
    /// A stack on `link`. `offload`: whether the guest takes segments without checksums. `seed` makes sequence numbers that nobody
    /// guesses.
    pub(crate) fn new(link: &Link, offload: bool, seed: u64, now: Instant) -> Self {
        // What comes from the guest was checked where its ports were read.
        let mut checksums = ChecksumCapabilities::ignored();
        checksums.ipv4 = Checksum::Tx;
        checksums.tcp = if offload { Checksum::None } else { Checksum::Tx };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut frames = Frames::default();
        let mut port = Port { link, frames: &mut frames, packet: None, checksums: &checksums };
        let mut interface = Interface::new(config, &mut port, now);
        interface.update_ip_addrs(|addresses| {
            for (address, prefix) in [
                (link.gateway_ipv4.into(), link.prefix_ipv4),
                (std::net::IpAddr::from(link.gateway_ipv6).into(), link.prefix_ipv6),
            ] {
                // There is room for both: smoltcp has two addresses unless told otherwise.
                let _ = addresses.push(IpCidr::new(address, prefix));
            }
        });
        interface.set_any_ip(true);
        Self { interface, checksums }
    }

    /// What sockets are connected with.
    pub(crate) fn context(&mut self) -> &mut Context {
        self.interface.context()
    }

    /// Has `socket` take an IP packet of the guest; an answer that cannot wait goes to `frames`.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        link: &Link,
        frames: &mut Frames,
        packet: &[u8],
        socket: &mut TcpSocket,
    ) {
        let mut port = Port { link, frames, packet: Some(packet), checksums: &self.checksums };
        self.interface.poll_ingress_single(now, &mut port, socket.set());
    }

    /// Answers an IP packet of the guest that belongs to no connection: with a reset, unless it is one.
    pub(crate) fn refuse(&mut self, now: Instant, link: &Link, frames: &mut Frames, packet: &[u8]) {
        let mut port = Port { link, frames, packet: Some(packet), checksums: &self.checksums };
        let mut nobody = smoltcp::iface::SocketSet::new(Vec::new());
        self.interface.poll_ingress_single(now, &mut port, &mut nobody);
    }

    /// Has `socket` send what it has to, until it has no more or `frames` is full; says whether it is done.
    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        link: &Link,
        frames: &mut Frames,
        socket: &mut TcpSocket,
    ) -> bool {
        while !frames.is_full() {
            let mut port = Port { link, frames, packet: None, checksums: &self.checksums };
            match self.interface.poll_egress(now, &mut port, socket.set()) {
                smoltcp::iface::PollResult::None => return true,
                smoltcp::iface::PollResult::SocketStateChanged => {}
            }
        }
        false
    }

    /// When `socket` has to be looked at again without being asked; `now` or earlier means at once.
    pub(crate) fn deadline(&mut self, now: Instant, socket: &mut TcpSocket) -> Option<Instant> {
        self.interface.poll_at(now, socket.set())
    }
}

/// One packet in, frames out.
struct Port<'p> {
    link: &'p Link,
    frames: &'p mut Frames,
    packet: Option<&'p [u8]>,
    checksums: &'p ChecksumCapabilities,
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sending<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let packet = self.packet.take()?;
        Some((Received { packet }, Sending { link: self.link, frames: self.frames }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        (!self.frames.is_full()).then_some(Sending { link: self.link, frames: self.frames })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.link.mtu);
        capabilities.checksum = self.checksums.clone();
        capabilities
    }
}

struct Received<'r> {
    packet: &'r [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, call: F) -> R {
        call(self.packet)
    }
}

struct Sending<'s> {
    link: &'s Link,
    frames: &'s mut Frames,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, call: F) -> R {
        let mut frame = self.frames.blank();
        frame.resize(length.saturating_add(HEADER_BYTES), 0);
        let (header, packet) = frame.split_at_mut_checked(HEADER_BYTES).unwrap_or_default();
        let result = call(packet);
        let protocol = match IpVersion::of_packet(packet) {
            Ok(IpVersion::Ipv6) => EthernetProtocol::Ipv6,
            _ => EthernetProtocol::Ipv4,
        };
        self.link.emit_header(header, protocol);
        self.frames.push(frame);
        result
    }
}
