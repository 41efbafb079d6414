//! The host's door to the guest's sockets.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::virtio::events;

/// Connections to one port that the host has not picked up yet; more are refused.
const BACKLOG: usize = 128;

/// Connects the host's streams with the guest's ports. Clones are the same door.
#[derive(Clone, Debug)]
pub struct VsockHandle {
    shared: Arc<Shared>,
}

impl VsockHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Connects `stream` to `guest_port`. From now on the device reads and writes it, non-blocking; the other end of
    /// it is the guest's socket. It is closed when the guest refuses, closes or is reset.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] if no driver in the guest serves the device (yet, or any more).
    pub fn connect(&self, guest_port: u32, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut state = self.shared.lock();
        if !state.active {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the guest has no socket driver running",
            ));
        }
        state.requests.push_back((guest_port, stream));
        drop(state);
        self.shared.ring()
    }

    /// Takes connections that the guest makes to `port` of the host. Ends with the device; whoever listened on this
    /// port before gets no more.
    pub fn listen(&self, port: u32) -> Receiver<UnixStream> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let mut state = self.shared.lock();
        if !state.closed {
            state.listeners.insert(port, sender);
        }
        receiver
    }
}

/// What the device and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Tells the device of new requests.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    active: bool,
    closed: bool,
    requests: VecDeque<(u32, UnixStream)>,
    listeners: HashMap<u32, SyncSender<UnixStream>>,
}

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: Mutex::default(), bell })
    }

    /// Readable when there are requests.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// The connections that the host asked for since the last time.
    pub(super) fn take_requests(&self) -> VecDeque<(u32, UnixStream)> {
        let mut counter = [0_u8; 8];
        if let Err(error) = rustix::io::read(&self.bell, &mut counter) {
            tracing::trace!(%error, "nobody rang");
        }
        std::mem::take(&mut self.lock().requests)
    }

    /// Hands `stream` to whoever listens on `port`; `false` if nobody does, or has no time.
    pub(super) fn offer(&self, port: u32, stream: UnixStream) -> bool {
        let mut state = self.lock();
        let Some(listener) = state.listeners.get(&port) else { return false };
        match listener.try_send(stream) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                state.listeners.remove(&port);
                false
            }
        }
    }

    /// Whether connections can be made.
    pub(super) fn is_active(&self) -> bool {
        self.lock().active
    }

    /// Whether the guest's driver is there. When it goes, requests that it has not seen are dropped.
    pub(super) fn set_active(&self, active: bool) {
        let mut state = self.lock();
        state.active = active;
        state.requests.clear();
    }

    /// The device is gone.
    pub(super) fn close(&self) {
        *self.lock() = State { closed: true, ..State::default() };
    }

    fn ring(&self) -> io::Result<()> {
        events::ring(&self.bell)
    }

    /// The state is consistent between any two of its statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
