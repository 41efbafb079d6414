//! One connection between a port of the guest and a stream of the host.
//!
//! ```text
//! host asks:   requested ──RESPONSE──▶ established ──both sides shut down, or RST──▶ draining ──buffer empty──▶ gone
//! guest asks:  ─────────REQUEST─────▶ established
//! ```
//!
//! Towards the guest nothing is buffered: bytes stay in the host's socket until the guest has both credit and a
//! receive buffer, so whoever writes there feels the guest's pace. From the guest, what the socket does not take at
//! once is kept, at most as much as the guest was given credit for.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown as Direction;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::epoll::EventFlags;
use rustix::net::SendFlags;

use super::credit::{BUFFER_BYTES, ReceiveCredit, SendCredit};
use super::packet::{Operation, Ports, Shutdown};
use crate::sys::vectored;
use crate::virtio::buffers::Buffers;

/// Most bytes of data in one packet to the guest: as much as Linux puts in one.
const MAX_DATA_BYTES: u32 = 64 << 10;

/// Most bytes thrown away when a stream is closed: more than a socket's buffer holds by default.
const MAX_DISCARD_BYTES: usize = 1 << 20;

/// How far a connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Requested,
    Established,
    Draining,
}

/// The guest broke the protocol; the connection has to be reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Violation;

/// A packet for the guest, less what all packets of the connection have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Output {
    pub(super) operation: Operation,
    pub(super) shutdown: Shutdown,
    pub(super) length: u32,
}

impl Output {
    fn control(operation: Operation) -> Self {
        Self { operation, shutdown: Shutdown::default(), length: 0 }
    }
}

/// A connection and the host's end of it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    ports: Ports,
    phase: Phase,
    /// Whether the guest began it.
    accepted: bool,
    /// REQUEST or RESPONSE, until it is sent.
    announcement: Option<Operation>,
    send_credit: SendCredit,
    receive_credit: ReceiveCredit,
    credit_requested: bool,
    /// Bytes from the guest that the stream has not taken yet.
    pending: VecDeque<u8>,
    /// Whether the stream may have bytes, or room, respectively; known to be false after it said so.
    readable: bool,
    writable: bool,
    /// What the host's program, and the guest's, have given up; and what the guest was told.
    host: Shutdown,
    guest: Shutdown,
    told: Shutdown,
    /// Whether the connection is in the muxer's list of those that have something to send.
    pub(super) queued: bool,
}

impl Connection {
    /// A connection that the host asks for.
    pub(super) fn requested(stream: UnixStream, ports: Ports) -> Self {
        Self::new(stream, ports, Phase::Requested, Operation::Request)
    }

    /// A connection that the guest asked for.
    pub(super) fn accepted(stream: UnixStream, ports: Ports) -> Self {
        Self::new(stream, ports, Phase::Established, Operation::Response)
    }

    /// `stream` is non-blocking.
    fn new(stream: UnixStream, ports: Ports, phase: Phase, announcement: Operation) -> Self {
        Self {
            stream,
            ports,
            phase,
            accepted: announcement == Operation::Response,
            announcement: Some(announcement),
            send_credit: SendCredit::default(),
            receive_credit: ReceiveCredit::default(),
            credit_requested: false,
            pending: VecDeque::new(),
            readable: true,
            writable: true,
            host: Shutdown::default(),
            guest: Shutdown::default(),
            told: Shutdown::default(),
            queued: false,
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    /// Whether the guest began it.
    pub(super) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Whether the guest has not answered yet.
    pub(super) fn is_requested(&self) -> bool {
        self.phase == Phase::Requested
    }

    /// Whether the program on the host is gone altogether.
    pub(super) fn is_abandoned(&self) -> bool {
        self.host.receive
    }

    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Draining && (self.pending.is_empty() || self.host.receive)
    }

    /// The guest accepted.
    pub(super) fn establish(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Requested || self.announcement.is_some() {
            return Err(Violation);
        }
        self.phase = Phase::Established;
        Ok(())
    }

    /// The guest told how much it takes.
    pub(super) fn update_credit(&mut self, allocation: u32, forwarded: u32) {
        self.send_credit.update(allocation, forwarded);
        if self.send_credit.available() > 0 {
            self.credit_requested = false;
        }
    }

    /// The guest asked how much the host takes.
    pub(super) fn ask_credit(&mut self) {
        self.receive_credit.ask();
    }

    /// The counter for the header of a packet that is sent now.
    pub(super) fn tell_credit(&mut self) -> u32 {
        self.receive_credit.tell()
    }

    /// Bytes from the guest.
    pub(super) fn deliver(&mut self, mut data: Buffers<'_>) -> Result<(), Violation> {
        let total = self.pending.len().saturating_add(data.len());
        if self.phase != Phase::Established || self.guest.send || total > capacity() {
            return Err(Violation);
        }
        while self.pending.is_empty() && self.writable && data.len() > 0 && !self.host.receive {
            match vectored::send(self.stream.as_fd(), data.slices()) {
                Ok(count) => {
                    data.take_front(count);
                    self.receive_credit.forward(count);
                }
                Err(error) => self.note_write_error(&error),
            }
        }
        if self.host.receive {
            self.receive_credit.forward(data.len());
        } else if data.len() > 0 {
            let mut bytes = vec![0; data.len()];
            data.copy_to(&mut bytes);
            self.pending.extend(bytes);
        }
        Ok(())
    }

    /// Writes what is pending as far as the stream takes it, and passes on the guest's end of stream behind it.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.host.receive {
            let (bytes, _) = self.pending.as_slices();
            if bytes.is_empty() {
                break;
            }
            match rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.pending.drain(..count.min(bytes.len()));
                    self.receive_credit.forward(count);
                }
                Err(error) => self.note_write_error(&error.into()),
            }
        }
        if self.host.receive {
            self.receive_credit.forward(self.pending.len());
            self.pending.clear();
        }
        if self.pending.is_empty() {
            // The room that a burst took is not kept for a connection that may idle for days.
            self.pending.shrink_to_fit();
            if self.guest.send {
                self.close(Direction::Write);
            }
        }
    }

    /// The guest gave up one or both directions. `true` if it has given up both.
    pub(super) fn shut_down(&mut self, shutdown: Shutdown) -> bool {
        self.guest = self.guest.and(shutdown);
        if self.guest.receive {
            self.close(Direction::Read);
        }
        self.flush();
        self.guest.is_complete()
    }

    /// The guest's end is gone; what it has sent before still reaches the host.
    pub(super) fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.announcement = None;
        self.shut_down(Shutdown { receive: true, send: true });
    }

    /// epoll says what has changed with the stream.
    pub(super) fn note_events(&mut self, events: EventFlags) {
        if events.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.readable = true;
        }
        // A hang-up is also reported when only this end has shut down both directions.
        if events.intersects(EventFlags::HUP | EventFlags::ERR) && !self.guest.is_complete() {
            self.host.receive = true;
        }
        if events.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.writable = true;
            self.flush();
        }
    }

    /// Whether `next_output` may have something.
    pub(super) fn has_output(&self) -> bool {
        match self.phase {
            Phase::Requested => self.announcement.is_some(),
            Phase::Established => {
                self.announcement.is_some()
                    || self.receive_credit.is_due()
                    || self.wants_to_read() && (self.send_credit.available() > 0 || !self.credit_requested)
                    || self.host.and(self.told) != self.told
            }
            Phase::Draining => false,
        }
    }

    /// The next packet for the guest; data is read from the stream into `space`.
    pub(super) fn next_output(&mut self, space: Buffers<'_>) -> Option<Output> {
        if let Some(operation) = self.announcement.take() {
            return Some(Output::control(operation));
        }
        if self.phase != Phase::Established {
            return None;
        }
        if self.receive_credit.is_due() {
            return Some(Output::control(Operation::CreditUpdate));
        }
        if self.wants_to_read() {
            if self.send_credit.available() > 0 {
                if let Some(length) = self.read(space) {
                    return Some(Output { length, ..Output::control(Operation::Data) });
                }
            } else if !std::mem::replace(&mut self.credit_requested, true) {
                return Some(Output::control(Operation::CreditRequest));
            }
        }
        if self.host.and(self.told) == self.told {
            return None;
        }
        self.told = self.host;
        Some(Output { shutdown: self.told, ..Output::control(Operation::Shutdown) })
    }

    /// Closes the stream so that its other end reads all that was written and then the end, and not an error that it
    /// gets if something of its own was never read.
    pub(super) fn finish(mut self) {
        self.close(Direction::Both);
        let mut bytes = vec![0; 64 << 10];
        let mut discarded = 0_usize;
        while discarded < MAX_DISCARD_BYTES {
            match self.stream.read(&mut bytes) {
                Ok(count) if count > 0 => discarded = discarded.saturating_add(count),
                _ => break,
            }
        }
    }

    fn wants_to_read(&self) -> bool {
        self.readable && !self.host.send && !self.guest.receive
    }

    /// Reads from the stream into `space`, as far as credit allows; `None` if there is nothing.
    fn read(&mut self, mut space: Buffers<'_>) -> Option<u32> {
        let limit = self.send_credit.available().min(MAX_DATA_BYTES);
        let space = space.take_front(usize::try_from(limit).unwrap_or(0));
        if space.len() == 0 {
            return None;
        }
        loop {
            match vectored::receive(self.stream.as_fd(), space.slices()) {
                Ok(0) => self.host.send = true,
                Ok(count) => {
                    let count = u32::try_from(count).unwrap_or(limit);
                    self.send_credit.spend(count);
                    return Some(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                // The other end was closed with something unread.
                Err(_) => self.host = Shutdown { receive: true, send: true },
            }
            return None;
        }
    }

    fn note_write_error(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => self.writable = false,
            // Nobody will read this any more, though there may be something left to be read.
            _ => self.host.receive = true,
        }
    }

    /// Shuts the stream down; that it may be down already is no matter.
    fn close(&self, direction: Direction) {
        if let Err(error) = self.stream.shutdown(direction) {
            tracing::trace!(%error, "shutdown of a stream");
        }
    }
}

/// Most bytes that are pending at any time.
fn capacity() -> usize {
    usize::try_from(BUFFER_BYTES).unwrap_or(usize::MAX)
}
