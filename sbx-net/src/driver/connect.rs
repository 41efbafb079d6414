//! Sockets made, connected and closed.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketType, connect, sockopt};

use super::socket::{self, HostSocket, Kind, Stream};
use super::{Driver, Source};
use crate::action::ConnectFailure;
use crate::flow::FlowId;
use crate::name::Name;

/// What is waited for on a connection, each change told once.
pub(super) const EDGES: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

impl Driver {
    /// Begins to connect `flow` to `address`, through a proxy if there is one for it.
    pub(super) fn connect_outside(
        &mut self,
        now: Instant,
        flow: FlowId,
        address: SocketAddr,
        name: Option<&Name>,
    ) {
        let is_stand_in = self.gateway.is_stand_in(address.ip());
        match self.proxies.choose(address, name).cloned() {
            // Only the proxy can know where that is.
            Some(proxy) if is_stand_in => {
                self.connect_through(now, flow, &proxy.with_names(), address, name);
            }
            Some(proxy) => self.connect_through(now, flow, &proxy, address, name),
            None if is_stand_in => self.gateway.connect_failed(now, flow, ConnectFailure::Unreachable),
            None => self.connect(now, flow, address),
        }
    }

    /// Begins to connect `flow` to `address`.
    pub(super) fn connect(&mut self, now: Instant, flow: FlowId, address: SocketAddr) {
        match self.begin(flow, address) {
            Ok(true) => self.established(now, flow),
            Ok(false) => {}
            Err(error) => self.failed(now, flow, address, &error),
        }
    }

    /// Whether it is connected at once.
    fn begin(&mut self, flow: FlowId, address: SocketAddr) -> io::Result<bool> {
        let descriptor = socket::open(&address, SocketType::STREAM)?;
        let connected = match connect(&descriptor, &address) {
            Ok(()) => true,
            Err(Errno::INPROGRESS) => false,
            Err(error) => return Err(error.into()),
        };
        self.keep(flow, descriptor, Kind::Connecting(address), EDGES)?;
        Ok(connected)
    }

    /// Watches a socket for `flow`.
    pub(super) fn keep(
        &mut self,
        flow: FlowId,
        descriptor: std::os::fd::OwnedFd,
        kind: Kind,
        flags: EventFlags,
    ) -> io::Result<()> {
        let source = self.sources.insert(Source::Flow(flow));
        let socket = HostSocket { descriptor, source, kind };
        if let Err(error) = self.watch(socket.as_fd(), source, flags) {
            self.sources.remove(source);
            return Err(error);
        }
        if let Some(before) = self.sockets.insert(flow, socket) {
            self.sources.remove(before.source);
        }
        Ok(())
    }

    /// Watches a connection that somebody else made, for `flow`.
    pub(super) fn adopt(&mut self, flow: FlowId, descriptor: std::os::fd::OwnedFd) -> io::Result<()> {
        socket::prepare(std::os::fd::AsFd::as_fd(&descriptor));
        let stream = Stream { readable: true, writable: true, ..Stream::default() };
        self.keep(flow, descriptor, Kind::Stream(stream), EDGES)
    }

    /// The connection of `flow` is there.
    pub(super) fn established(&mut self, now: Instant, flow: FlowId) {
        if let Some(socket) = self.sockets.get_mut(flow) {
            socket.kind = Kind::Stream(Stream { readable: true, writable: true, ..Stream::default() });
        }
        self.gateway.connected(now, flow);
    }

    /// The connection of `flow` could not be made.
    fn failed(&mut self, now: Instant, flow: FlowId, address: SocketAddr, error: &io::Error) {
        self.forget(flow);
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        // A service of the host may listen on one of the two loopback addresses only.
        if refused && address.is_ipv4() && address.ip().is_loopback() {
            let other = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), address.port());
            return self.connect(now, flow, other);
        }
        let failure = if refused { ConnectFailure::Refused } else { ConnectFailure::Unreachable };
        self.gateway.connect_failed(now, flow, failure);
    }

    /// Something happened to the socket of `flow`.
    pub(super) fn handle_socket(&mut self, now: Instant, flow: FlowId, flags: EventFlags) {
        let Some(socket) = self.sockets.get_mut(flow) else { return };
        match &mut socket.kind {
            Kind::Connecting(address) => {
                let address = *address;
                match sockopt::socket_error(&socket.descriptor) {
                    Ok(Ok(())) if flags.contains(EventFlags::OUT) => self.established(now, flow),
                    Ok(Ok(())) => {}
                    Ok(Err(error)) | Err(error) => self.failed(now, flow, address, &error.into()),
                }
            }
            Kind::Proxy(_) => self.negotiate(now, flow, flags),
            Kind::Stream(stream) => {
                let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                stream.ending |= ending;
                stream.readable |= ending || flags.contains(EventFlags::IN);
                stream.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
                self.transfer(now, flow);
            }
        }
    }

    /// Closes the socket of `flow`.
    pub(super) fn close(&mut self, flow: FlowId, reset: bool) {
        if let Some(socket) = self.sockets.get(flow)
            && reset
        {
            socket::reset_on_close(socket.as_fd());
        }
        self.forget(flow);
    }

    /// Lets go of the socket of `flow`, which closes it, and tells what it carried.
    pub(super) fn forget(&mut self, flow: FlowId) -> Option<Kind> {
        let socket = self.sockets.remove(flow)?;
        self.sources.remove(socket.source);
        Some(socket.kind)
    }
}
