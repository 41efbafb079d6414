//! Connections through a proxy of the host: made to the proxy, and the guest's once that has said yes.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType, connect, recv, send, sockopt};

use super::Driver;
use super::connect::EDGES;
use super::socket::{self, HostSocket, Kind};
use crate::flow::FlowId;
use crate::name::Name;
use crate::proxy::{Dialogue, MAX_HEAD_BYTES, Progress, Proxy, Refusal};

/// How long a proxy may take to connect.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deadlines of dialogues that have ended, which are thrown away when there are this many.
const MAX_DEADLINES: usize = 1024;

/// A connection to a proxy that is not one to a host yet.
#[derive(Debug)]
pub(super) struct Negotiation {
    dialogue: Dialogue,
    /// What has still to be said.
    outgoing: Vec<u8>,
    /// Addresses of the proxy that were not tried.
    others: Vec<SocketAddr>,
    /// Whether the proxy is connected.
    connected: bool,
    /// Whether it has hung up.
    ended: bool,
}

/// How far a dialogue is.
enum Step {
    Waiting,
    Open,
    /// This address of the proxy leads nowhere.
    NotConnected,
}

impl Driver {
    /// Begins to connect `flow` to `address` through `proxy`.
    pub(super) fn connect_through(
        &mut self,
        now: Instant,
        flow: FlowId,
        proxy: &Proxy,
        address: SocketAddr,
        name: Option<&Name>,
    ) {
        let (dialogue, outgoing) = Dialogue::begin(proxy, address, name);
        let mut others = proxy.addresses.clone();
        others.reverse();
        let negotiation =
            Box::new(Negotiation { dialogue, outgoing, others, connected: false, ended: false });
        if self.deadlines.len() >= MAX_DEADLINES {
            let sockets = &self.sockets;
            self.deadlines.retain(|(_, flow)| sockets.get(*flow).is_some_and(negotiates));
        }
        if let Some(deadline) = now.checked_add(PATIENCE) {
            self.deadlines.push_back((deadline, flow));
        }
        self.try_next(now, flow, negotiation);
    }

    /// Begins to connect to the next address of the proxy.
    fn try_next(&mut self, now: Instant, flow: FlowId, mut negotiation: Box<Negotiation>) {
        while let Some(address) = negotiation.others.pop() {
            let Ok(descriptor) = socket::open(&address, SocketType::STREAM) else { continue };
            if matches!(connect(&descriptor, &address), Ok(()) | Err(Errno::INPROGRESS)) {
                // Edges: one that is connected at once is told so by the next look at the descriptors.
                if self.keep(flow, descriptor, Kind::Proxy(negotiation), EDGES).is_err() {
                    self.refused(now, flow, Refusal::Unreachable);
                }
                return;
            }
        }
        self.refused(now, flow, Refusal::Unreachable);
    }

    /// Something happened to the connection to the proxy of `flow`.
    pub(super) fn negotiate(&mut self, now: Instant, flow: FlowId, flags: EventFlags) {
        let Some(socket) = self.sockets.get_mut(flow) else { return };
        let HostSocket { descriptor, kind: Kind::Proxy(negotiation), .. } = socket else { return };
        match negotiation.advance(descriptor, flags) {
            Ok(Step::Waiting) => {}
            Ok(Step::Open) => self.established(now, flow),
            Ok(Step::NotConnected) => {
                if let Some(Kind::Proxy(negotiation)) = self.forget(flow) {
                    self.try_next(now, flow, negotiation);
                }
            }
            Err(refusal) => self.refused(now, flow, refusal),
        }
    }

    fn refused(&mut self, now: Instant, flow: FlowId, refusal: Refusal) {
        self.forget(flow);
        self.gateway.proxy_refused(now, flow, refusal);
    }

    /// When the next proxy has had its time.
    pub(super) fn negotiation_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, flow)) = self.deadlines.front().copied() {
            if self.sockets.get(flow).is_some_and(negotiates) {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Waits no longer for proxies that have had their time.
    pub(super) fn expire_negotiations(&mut self, now: Instant) {
        while self.negotiation_deadline().is_some_and(|deadline| deadline <= now) {
            if let Some((_, flow)) = self.deadlines.pop_front() {
                self.refused(now, flow, Refusal::TimedOut);
            }
        }
    }
}

fn negotiates(socket: &HostSocket) -> bool {
    matches!(socket.kind, Kind::Proxy(_))
}

impl Negotiation {
    /// Says and hears what there is.
    fn advance(&mut self, descriptor: &std::os::fd::OwnedFd, flags: EventFlags) -> Result<Step, Refusal> {
        if !self.connected {
            match sockopt::socket_error(descriptor) {
                Ok(Ok(())) if flags.contains(EventFlags::OUT) => self.connected = true,
                Ok(Ok(())) => return Ok(Step::Waiting),
                Ok(Err(_)) | Err(_) => return Ok(Step::NotConnected),
            }
        }
        self.ended |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.converse(descriptor).map_err(|_| Refusal::Nonsense)?
    }

    fn converse(&mut self, descriptor: &std::os::fd::OwnedFd) -> io::Result<Result<Step, Refusal>> {
        loop {
            while !self.outgoing.is_empty() {
                match send(descriptor, &self.outgoing, SendFlags::NOSIGNAL) {
                    Ok(count) => drop(self.outgoing.drain(..count.min(self.outgoing.len()))),
                    Err(Errno::AGAIN) => return Ok(Ok(Step::Waiting)),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Looked at first: what follows the dialogue belongs to the guest and stays where it is.
            let mut bytes = [0; MAX_HEAD_BYTES];
            let count = match recv(descriptor, &mut bytes, RecvFlags::PEEK) {
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(Ok(Step::Waiting)),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (taken, progress) = self.dialogue.receive(bytes.get(..count).unwrap_or_default());
            if let Some(taken) = bytes.get_mut(..taken).filter(|taken| !taken.is_empty()) {
                recv(descriptor, taken, RecvFlags::empty())?;
            }
            match progress {
                Progress::Open => return Ok(Ok(Step::Open)),
                Progress::Refused(refusal) => return Ok(Err(refusal)),
                Progress::Send(message) => self.outgoing = message,
                Progress::Wait if taken > 0 => {}
                Progress::Wait if count == 0 || self.ended => return Ok(Err(Refusal::Nonsense)),
                Progress::Wait => return Ok(Ok(Step::Waiting)),
            }
        }
    }
}
