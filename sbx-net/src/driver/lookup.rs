//! Questions to the host's name servers, each with a socket of its own: an answer that somebody makes up has to guess its
//! port, which the kernel chose, besides its id (RFC 5452, 9.2).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send};

use super::socket;
use super::{Driver, Source, SourceId};
use crate::dns::Server;

/// How long the host's configuration is believed without another look.
const HOST_INTERVAL: Duration = Duration::from_secs(1);

/// One question.
#[derive(Debug)]
pub(super) struct Lookup {
    descriptor: OwnedFd,
    token: u64,
    /// What is still to be sent over a connection, and what has come.
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    to_send: Vec<u8>,
    received: Vec<u8>,
}

impl Driver {
    /// Asks `server`.
    pub(super) fn ask(&mut self, now: Instant, server: &Server, bytes: &[u8], token: u64, over_tcp: bool) {
        if now.saturating_duration_since(self.host_asked) >= HOST_INTERVAL {
            self.host_asked = now;
            if let Some((upstream, hosts)) = (self.host_names)() {
                // This question goes to where it was meant to go; if nobody answers, the next attempt knows better.
                self.gateway.set_host(upstream, hosts);
            }
        }
        // The resolver gives up and asks again without a word; what it does not wait for any more can go.
        let gateway = &self.gateway;
        self.sources.retain(|_, source| match source {
            Source::Lookup(lookup) => gateway.waits_for(lookup.token),
            Source::Timer
            | Source::Commands
            | Source::Listener(_)
            | Source::Flow(_)
            | Source::Exchange(_) => true,
        });
        if let Err(error) = self.begin_lookup(server, bytes, token, over_tcp) {
            tracing::debug!(server = %server.address, %error, "cannot ask a name server");
            self.gateway.handle_no_answer(now, token);
        }
    }

    fn begin_lookup(&mut self, server: &Server, bytes: &[u8], token: u64, over_tcp: bool) -> io::Result<()> {
        let address = address(server);
        let kind = if over_tcp { SocketType::STREAM } else { SocketType::DGRAM };
        let descriptor = socket::open(&address, kind)?;
        match connect(&descriptor, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = if over_tcp {
            let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            Some(Stream { to_send: [&length.to_be_bytes(), bytes].concat(), received: Vec::new() })
        } else {
            send(&descriptor, bytes, SendFlags::NOSIGNAL)?;
            None
        };
        let flags = if over_tcp { EventFlags::IN | EventFlags::OUT | EventFlags::ET } else { EventFlags::IN };
        let source = self.sources.insert(Source::Lookup(Lookup { descriptor, token, stream }));
        let watched = match self.sources.get(source) {
            Some(Source::Lookup(lookup)) => self.watch(lookup.descriptor.as_fd(), source, flags),
            _ => Ok(()),
        };
        if watched.is_err() {
            self.sources.remove(source);
        }
        watched
    }

    /// Something came of a question.
    pub(super) fn handle_lookup(&mut self, now: Instant, source: SourceId, _flags: EventFlags) {
        let Some(Source::Lookup(lookup)) = self.sources.get_mut(source) else { return };
        let token = lookup.token;
        let outcome = match &mut lookup.stream {
            Some(stream) => stream.advance(&lookup.descriptor, &mut self.datagram),
            None => match recv(&lookup.descriptor, self.datagram.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, count)) => Ok(Some(self.datagram.get(..count).unwrap_or_default().to_vec())),
                Err(Errno::AGAIN | Errno::INTR) => Ok(None),
                Err(error) => Err(error.into()),
            },
        };
        match outcome {
            Ok(None) => {}
            // A datagram may be somebody else's guess: the right answer can still come, until the resolver has given up.
            Ok(Some(answer)) => {
                let is_stream = lookup.stream.is_some();
                self.gateway.handle_answer(now, token, &answer);
                if is_stream || !self.gateway.waits_for(token) {
                    self.sources.remove(source);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a name server does not answer");
                self.sources.remove(source);
                self.gateway.handle_no_answer(now, token);
            }
        }
    }
}

impl Stream {
    /// Sends and receives what is possible now; the answer, once it is whole.
    fn advance(&mut self, descriptor: &OwnedFd, space: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        while !self.to_send.is_empty() {
            match send(descriptor, &self.to_send, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.to_send.drain(..count.min(self.to_send.len()))),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Not connected yet.
                Err(Errno::NOTCONN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            match recv(descriptor, &mut *space, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, count)) => {
                    self.received.extend_from_slice(space.get(..count).unwrap_or_default());
                    if let Some(length) = self.received.first_chunk::<2>() {
                        let length = usize::from(u16::from_be_bytes(*length));
                        let message = self.received.get(2..).and_then(|rest| rest.get(..length));
                        if let Some(message) = message {
                            return Ok(Some(message.to_vec()));
                        }
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where the server is. A scope that is no number would have to be looked up by its name, which only such servers need.
fn address(server: &Server) -> SocketAddr {
    match server.address {
        IpAddr::V6(address) => {
            let scope = server.scope.as_deref().and_then(|scope| scope.parse().ok()).unwrap_or(0);
            SocketAddr::V6(SocketAddrV6::new(address, server.port, 0, scope))
        }
        address @ IpAddr::V4(_) => SocketAddr::new(address, server.port),
    }
}
