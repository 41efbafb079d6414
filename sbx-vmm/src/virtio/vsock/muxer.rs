//! All connections: who gets a packet from the guest, and whose turn it is to send one.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use zerocopy::little_endian::{U16, U32, U64};

use super::connection::{Connection, Violation};
use super::credit::BUFFER_BYTES;
use super::handle::Shared;
use super::packet::{HOST_CID, Header, Operation, Ports, STREAM, Shutdown};
use super::saved::VsockState;
use crate::virtio::buffers::Buffers;
use crate::virtio::{DeviceKind, RestoreError};

/// Most connections at a time, those included that only have to be flushed. More are refused.
const MAX_CONNECTIONS: usize = 1024;

/// Most connections of them that the guest began: each costs two file descriptors of this process, which must not run
/// out of them.
const MAX_ACCEPTED: usize = 256;

/// Resets waiting for a receive buffer of the guest, above which its packets are left in the queue: the additional
/// resources of virtio 1.2, 5.10.6.1, bounded.
const MAX_RESETS: usize = 256;

/// Events taken from epoll for one call.
const EVENTS: usize = 64;

/// The token of the handles' bell; connections have others.
const BELL: u64 = 0;

/// The first port of the host that is given to a connection to the guest, above those that programs agree on.
const FIRST_PORT: u32 = 0x4000_0000;

/// The connections of one guest.
#[derive(Debug)]
pub(super) struct Muxer {
    guest_cid: u64,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    /// By number, which is also the token in epoll and never used twice.
    connections: HashMap<u64, Connection>,
    /// Connections that the guest knows of.
    numbers: HashMap<Ports, u64>,
    /// Connections that have something for the guest; each gets one packet in turn.
    ready: VecDeque<u64>,
    resets: VecDeque<Header>,
    next_number: u64,
    next_port: u32,
}

impl Muxer {
    pub(super) fn new(guest_cid: u64, shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, shared.bell(), EventData::new_u64(BELL), EventFlags::IN)?;
        Ok(Self {
            guest_cid,
            shared,
            epoll,
            connections: HashMap::new(),
            numbers: HashMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            next_number: BELL,
            next_port: FIRST_PORT,
        })
    }

    /// Readable when `handle_host` has something to do.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Whether packets of the guest should wait until it has taken some.
    pub(super) fn is_congested(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    /// Whether there is something to send to the guest.
    pub(super) fn has_output(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Drops everything: the guest has begun anew.
    pub(super) fn reset(&mut self) {
        for number in self.connections.keys().copied().collect::<Vec<_>>() {
            self.remove(number);
        }
        self.ready.clear();
        self.resets.clear();
    }

    /// What a muxer without connections has to know to go on for the same guest.
    pub(super) fn save(&self) -> VsockState {
        VsockState { guest_cid: self.guest_cid, next_port: self.next_port }
    }

    /// Goes on for a guest whose connections are gone.
    pub(super) fn restore(&mut self, state: &VsockState) -> Result<(), RestoreError> {
        if state.guest_cid != self.guest_cid {
            return Err(RestoreError::ContextId { expected: state.guest_cid, found: self.guest_cid });
        }
        if !(FIRST_PORT..u32::MAX).contains(&state.next_port) {
            return Err(RestoreError::malformed(DeviceKind::Vsock, "the host has no such port to give"));
        }
        self.next_port = state.next_port;
        Ok(())
    }

    /// Looks after the host's side.
    pub(super) fn handle_host(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match event.data.u64() {
                BELL => self.connect_requested(),
                number => self.note_events(number, event.flags),
            }
        }
        Ok(())
    }

    /// A packet from the guest.
    pub(super) fn receive(&mut self, header: &Header, data: Buffers<'_>) {
        if header.source_cid.get() != self.guest_cid {
            // Nobody would get the answer.
            return;
        }
        let operation = Operation::from_code(header.operation);
        let for_us = header.destination_cid.get() == HOST_CID && header.kind.get() == STREAM;
        let number = self.numbers.get(&header.ports()).copied().filter(|_| for_us);
        match (number, operation) {
            (Some(number), Some(operation)) => {
                if self.receive_on(number, operation, header, data).is_err() {
                    self.resets.push_back(header.reset());
                    self.remove(number);
                }
            }
            (None, Some(Operation::Reset)) => {}
            (None, Some(Operation::Request)) if for_us && self.accept(header) => {}
            (number, _) => {
                self.resets.push_back(header.reset());
                if let Some(number) = number {
                    self.remove(number);
                }
            }
        }
    }

    /// The next packet for the guest, its data in `space`.
    pub(super) fn next_packet(&mut self, space: &Buffers<'_>) -> Option<Header> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        while let Some(number) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.queued = false;
            let output = connection.next_output(space.clone());
            let ports = connection.ports();
            let forwarded = output.map(|_| connection.tell_credit());
            self.enqueue(number);
            if let (Some(output), Some(forwarded)) = (output, forwarded) {
                return Some(Header {
                    source_cid: U64::new(HOST_CID),
                    destination_cid: U64::new(self.guest_cid),
                    source_port: U32::new(ports.host),
                    destination_port: U32::new(ports.guest),
                    length: U32::new(output.length),
                    kind: U16::new(STREAM),
                    operation: output.operation.code(),
                    flags: output.shutdown.flags(),
                    buffer_allocation: U32::new(BUFFER_BYTES),
                    forward_count: U32::new(forwarded),
                });
            }
            if self.ready.back() == Some(&number) {
                // It has data and credit, but there was no room for data in `space`.
                return None;
            }
        }
        None
    }

    fn receive_on(
        &mut self,
        number: u64,
        operation: Operation,
        header: &Header,
        data: Buffers<'_>,
    ) -> Result<(), Violation> {
        let connection = self.connections.get_mut(&number).ok_or(Violation)?;
        connection.update_credit(header.buffer_allocation.get(), header.forward_count.get());
        match operation {
            Operation::Request => return Err(Violation),
            Operation::Response => connection.establish()?,
            Operation::Data => connection.deliver(data)?,
            Operation::CreditRequest => connection.ask_credit(),
            Operation::CreditUpdate => {}
            Operation::Shutdown => {
                if connection.shut_down(Shutdown::from_flags(header.flags)) {
                    self.resets.push_back(header.reset());
                    self.let_go(number);
                }
            }
            Operation::Reset => self.let_go(number),
        }
        self.enqueue(number);
        Ok(())
    }

    /// The guest has forgotten the connection; what it sent before may still have to be written.
    fn let_go(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        self.numbers.remove(&connection.ports());
        connection.drain();
        if connection.is_done() {
            self.remove(number);
        }
    }

    /// Whether the guest's request finds somebody who listens.
    fn accept(&mut self, header: &Header) -> bool {
        let ports = header.ports();
        let accepted = self.connections.values().filter(|connection| connection.is_accepted()).count();
        if accepted >= MAX_ACCEPTED || self.connections.len() >= MAX_CONNECTIONS || !self.shared.is_active() {
            return false;
        }
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let Ok((ours, theirs)) = pair else { return false };
        if !self.shared.offer(ports.host, theirs) {
            return false;
        }
        let mut connection = Connection::accepted(ours, ports);
        connection.update_credit(header.buffer_allocation.get(), header.forward_count.get());
        self.add(connection)
    }

    /// Begins the connections that the host asked for; what cannot be begun is closed.
    fn connect_requested(&mut self) {
        for (guest, stream) in self.shared.take_requests() {
            let Some(host) = self.free_port(guest).filter(|_| self.connections.len() < MAX_CONNECTIONS)
            else {
                tracing::warn!("the guest has too many connections; a new one is refused");
                continue;
            };
            self.add(Connection::requested(stream, Ports { host, guest }));
        }
    }

    /// A port of the host that no connection to `guest` uses. There are far more ports than connections.
    fn free_port(&mut self, guest: u32) -> Option<u32> {
        for _ in 0..=MAX_CONNECTIONS {
            let host = self.next_port;
            self.next_port = host.checked_add(1).filter(|port| *port < u32::MAX).unwrap_or(FIRST_PORT);
            if !self.numbers.contains_key(&Ports { host, guest }) {
                return Some(host);
            }
        }
        None
    }

    /// Watches a connection's stream. Edges only: a stream that is not read because the guest is slow must not keep
    /// the thread awake.
    fn add(&mut self, connection: Connection) -> bool {
        let Some(number) = self.next_number.checked_add(1) else { return false };
        self.next_number = number;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, connection.stream(), EventData::new_u64(number), interest)
        {
            tracing::warn!(%error, "cannot watch a stream to the guest");
            return false;
        }
        self.numbers.insert(connection.ports(), number);
        self.connections.insert(number, connection);
        self.enqueue(number);
        true
    }

    /// Closes a connection for good.
    fn remove(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else { return };
        if self.numbers.get(&connection.ports()) == Some(&number) {
            self.numbers.remove(&connection.ports());
        }
        if let Err(error) = epoll::delete(&self.epoll, connection.stream()) {
            tracing::warn!(%error, "cannot stop watching a stream to the guest");
        }
        connection.finish();
    }

    fn note_events(&mut self, number: u64, events: EventFlags) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.note_events(events);
        if connection.is_done() {
            self.remove(number);
        } else if connection.is_requested() && connection.is_abandoned() {
            // If the guest has not seen the request, the reset is for nothing but does no harm.
            let ports = connection.ports();
            self.resets.push_back(Header {
                source_cid: U64::new(HOST_CID),
                destination_cid: U64::new(self.guest_cid),
                source_port: U32::new(ports.host),
                destination_port: U32::new(ports.guest),
                kind: U16::new(STREAM),
                operation: Operation::Reset.code(),
                ..Header::default()
            });
            self.remove(number);
        } else {
            self.enqueue(number);
        }
    }

    /// Puts a connection in the list of those that have something to send, once.
    fn enqueue(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.has_output() && !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(number);
        }
    }
}
