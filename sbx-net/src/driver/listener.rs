//! Published ports: sockets of the host that lead to a port of the guest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with};

use super::command::{PortError, PublishedPort};
use super::{Driver, Source, SourceId};

/// Connections of one port that are taken before others are looked at.
const ACCEPTS_PER_ROUND: usize = 64;

/// Tries to find a port that is free on both loopback addresses.
const ATTEMPTS: usize = 16;

/// A socket that listens for connections to a port of the guest.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    port: PublishedPort,
}

impl Driver {
    /// Publishes `guest` as `host` at the loopback addresses, or at `address`; 0 chooses a port.
    ///
    /// # Errors
    /// If the host does not give the port.
    pub fn publish(
        &mut self,
        guest: u16,
        host: u16,
        address: Option<IpAddr>,
    ) -> Result<PublishedPort, PortError> {
        let (sockets, port) = bind(guest, host, address)?;
        for socket in sockets {
            let source = self.sources.insert(Source::Listener(Listener { socket, port }));
            if let Some(Source::Listener(listener)) = self.sources.get(source)
                && let Err(source) = self.watch(listener.socket.as_fd(), source, EventFlags::IN)
            {
                self.unpublish(port.host);
                return Err(PortError::Bind { port: host, source });
            }
        }
        Ok(port)
    }

    /// Publishes the port `host` no more; false if it is not published. Connections that are open stay.
    pub(super) fn unpublish(&mut self, host: u16) -> bool {
        let before = self.sources.len();
        self.sources
            .retain(|_, source| !matches!(source, Source::Listener(listener) if listener.port.host == host));
        self.sources.len() < before
    }

    /// What is published.
    pub(super) fn ports(&self) -> Vec<PublishedPort> {
        let listeners = self.sources.values().filter_map(|source| match source {
            Source::Listener(listener) => Some(listener.port),
            _ => None,
        });
        let mut ports: Vec<PublishedPort> = listeners.collect();
        ports.sort_by_key(|port| (port.host, port.guest));
        ports.dedup();
        ports
    }

    /// Takes connections to a published port.
    pub(super) fn accept(&mut self, now: Instant, source: SourceId) {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(Source::Listener(listener)) = self.sources.get(source) else { return };
            let guest = listener.port.guest;
            let Ok(descriptor) = accept_with(&listener.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            else {
                return;
            };
            // Without room in the gateway the connection ends as soon as it began.
            let Some(flow) = self.gateway.accept(now, guest) else { continue };
            if self.adopt(flow, descriptor).is_err() {
                self.gateway.host_failed(now, flow);
            }
        }
    }
}

/// Listens on `host` for connections to `guest`.
fn bind(
    guest: u16,
    host: u16,
    address: Option<IpAddr>,
) -> Result<(Vec<TcpListener>, PublishedPort), PortError> {
    let first = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut attempts = if host == 0 { ATTEMPTS } else { 1 };
    loop {
        attempts = attempts.saturating_sub(1);
        let listen = |address: IpAddr, port: u16| {
            let listener = TcpListener::bind(SocketAddr::new(address, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let failed = |source| PortError::Bind { port: host, source };
        let socket = listen(first, host).map_err(failed)?;
        let chosen = socket.local_addr().map_err(failed)?.port();
        let port = PublishedPort { guest, host: chosen, address: first };
        if address.is_some() {
            return Ok((vec![socket], port));
        }
        match listen(IpAddr::V6(Ipv6Addr::LOCALHOST), chosen) {
            Ok(second) => return Ok((vec![socket, second], port)),
            // A host without IPv6 has only the one.
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                return Ok((vec![socket], port));
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                return Ok((vec![socket], port));
            }
            Err(_) if attempts > 0 => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
