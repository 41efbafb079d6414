//! Datagrams moved between the gateway and sockets, one for each exchange.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send};

use super::{Driver, Source, SourceId, socket};
use crate::flow::ExchangeId;

/// Datagrams of one socket that are taken before others are looked at.
const DATAGRAMS_PER_ROUND: usize = 64;

/// A socket that sends to one place and hears of it only.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    descriptor: OwnedFd,
    source: SourceId,
}

impl Driver {
    /// Sends a datagram for `exchange`. One that cannot be sent is lost, as datagrams are.
    pub(super) fn send_datagram(&mut self, exchange: ExchangeId, address: SocketAddr, data: &[u8]) {
        if !self.exchanges.contains_key(exchange)
            && let Err(error) = self.open_exchange(exchange, address)
        {
            tracing::debug!(%address, %error, "cannot send datagrams");
            return;
        }
        if let Some(socket) = self.exchanges.get(exchange) {
            let _ = send(&socket.descriptor, data, SendFlags::NOSIGNAL);
        }
    }

    fn open_exchange(&mut self, exchange: ExchangeId, address: SocketAddr) -> io::Result<()> {
        let descriptor = socket::open(&address, SocketType::DGRAM)?;
        connect(&descriptor, &address)?;
        let source = self.sources.insert(Source::Exchange(exchange));
        if let Err(error) = self.watch(descriptor.as_fd(), source, EventFlags::IN) {
            self.sources.remove(source);
            return Err(error);
        }
        self.exchanges.insert(exchange, DatagramSocket { descriptor, source });
        Ok(())
    }

    /// Takes datagrams that came for `exchange`.
    pub(super) fn receive_datagrams(&mut self, now: Instant, exchange: ExchangeId) {
        for _ in 0..DATAGRAMS_PER_ROUND {
            let Some(socket) = self.exchanges.get(exchange) else { return };
            match recv(&socket.descriptor, self.datagram.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, count)) => {
                    let data = self.datagram.get(..count).unwrap_or_default();
                    self.gateway.handle_datagram(now, exchange, data);
                }
                // A port that nobody listens on; the guest waits in vain, as it would anywhere.
                Err(Errno::CONNREFUSED) => {}
                Err(_) => return,
            }
        }
    }

    /// Closes the socket of `exchange`.
    pub(super) fn end_exchange(&mut self, exchange: ExchangeId) {
        if let Some(socket) = self.exchanges.remove(exchange) {
            self.sources.remove(socket.source);
        }
    }
}
