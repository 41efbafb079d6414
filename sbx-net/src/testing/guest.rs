//! What runs in the sandbox: a TCP of its own, and frames of any kind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use crate::ethernet::Link;

/// Bytes of buffer of the guest's sockets.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A guest with the addresses that it was given.
pub struct Guest {
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    start: Instant,
    port: u16,
}

#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    mtu: usize,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Guest").finish_non_exhaustive()
    }
}

impl Guest {
    pub(crate) fn new(link: Link) -> Self {
        let mut wire = Wire { mtu: usize::from(link.mtu) + 14, ..Wire::default() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(link.guest_mac)));
        config.random_seed = 7;
        let mut interface = Interface::new(config, &mut wire, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let v6 = std::net::IpAddr::from(link.guest_ipv6).into();
            addresses.push(IpCidr::new(link.guest_ipv4.into(), link.prefix_ipv4)).unwrap();
            addresses.push(IpCidr::new(v6, link.prefix_ipv6)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(link.gateway_ipv4).unwrap();
        interface.routes_mut().add_default_ipv6_route(link.gateway_ipv6).unwrap();
        Self {
            link,
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            start: Instant::now(),
            port: 40_000,
        }
    }

    /// The cable's addresses.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    fn socket() -> Socket<'static> {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket
    }

    /// Begins to connect.
    pub fn connect(&mut self, remote: SocketAddr) -> SocketHandle {
        let handle = self.sockets.add(Self::socket());
        self.port += 1;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let remote = (IpAddress::from(remote.ip()), remote.port());
        socket.connect(self.interface.context(), remote, self.port).unwrap();
        handle
    }

    /// Waits for a connection.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.sockets.add(Self::socket());
        self.sockets.get_mut::<Socket<'_>>(handle).listen(port).unwrap();
        handle
    }

    /// The state of a connection.
    #[must_use]
    pub fn state(&self, handle: SocketHandle) -> State {
        self.sockets.get::<Socket<'_>>(handle).state()
    }

    /// Sends as much of `bytes` as there is room for; how much.
    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) -> usize {
        self.sockets.get_mut::<Socket<'_>>(handle).send_slice(bytes).unwrap_or(0)
    }

    /// What has come.
    pub fn receive(&mut self, handle: SocketHandle) -> Vec<u8> {
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let mut received = vec![0; socket.recv_queue()];
        let count = socket.recv_slice(&mut received).unwrap_or(0);
        received.truncate(count);
        received
    }

    /// Ends the guest's direction.
    pub fn close(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).close();
    }

    /// Ends a connection with a reset.
    pub fn abort(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
    }

    /// Puts any frame on the cable.
    pub fn inject(&mut self, frame: Vec<u8>) {
        self.wire.outgoing.push(frame);
    }

    /// Lets the guest's TCP work; whether anything changed.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let micros = now.saturating_duration_since(self.start).as_micros();
        let now = smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX));
        let result = self.interface.poll(now, &mut self.wire, &mut self.sockets);
        result == smoltcp::iface::PollResult::SocketStateChanged
    }

    pub(crate) fn take_frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.outgoing)
    }

    pub(crate) fn give_frame(&mut self, frame: Vec<u8>) {
        self.wire.incoming.push_back(frame);
    }

    /// Takes the frames that have come and were not looked at.
    pub fn take_incoming(&mut self) -> Vec<Vec<u8>> {
        self.wire.incoming.drain(..).collect()
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Received(frame), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        let mut checksums = ChecksumCapabilities::default();
        checksums.tcp = Checksum::Both;
        capabilities.checksum = checksums;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, call: F) -> R {
        call(&self.0)
    }
}

struct Sending<'s>(&'s mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, call: F) -> R {
        let mut frame = vec![0; length];
        let result = call(&mut frame);
        self.0.push(frame);
        result
    }
}
