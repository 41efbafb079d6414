//! A cable whose far end is the test's.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::virtio::net::{Checksum, Link};
use crate::virtio::ring;

/// Frames that an echoing far end keeps at most.
const MOST_ECHOES: usize = 64;

/// What the far end was told and sent.
#[derive(Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// The driver came, and whether it takes frames without checksums.
    Started(bool),
    /// The driver went away.
    Stopped,
    /// It sent a frame.
    Frame(Vec<u8>, Checksum),
}

/// The near end, for a network card.
#[derive(Debug)]
pub struct FakeLink {
    shared: Arc<Shared>,
    ready: VecDeque<Vec<u8>>,
    echoes: bool,
}

/// The far end.
#[derive(Clone, Debug)]
pub struct FarEnd {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    frames: Mutex<VecDeque<Vec<u8>>>,
    events: Mutex<Vec<LinkEvent>>,
}

impl FakeLink {
    /// A new cable.
    ///
    /// # Panics
    /// If the host gives no eventfd.
    #[must_use]
    pub fn new() -> (Self, FarEnd) {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd");
        let shared = Arc::new(Shared { wake, frames: Mutex::default(), events: Mutex::default() });
        let near = Self { shared: Arc::clone(&shared), ready: VecDeque::new(), echoes: false };
        (near, FarEnd { shared })
    }

    /// A cable that sends everything back.
    #[must_use]
    pub fn echoing() -> Self {
        Self { echoes: true, ..Self::new().0 }
    }
}

impl FarEnd {
    /// Sends a frame to the guest.
    ///
    /// # Panics
    /// If the eventfd is broken.
    pub fn send(&self, frame: &[u8]) {
        lock(&self.shared.frames).push_back(frame.to_vec());
        ring(&self.shared.wake).expect("an eventfd");
    }

    /// What happened since this was last asked.
    #[must_use]
    pub fn events(&self) -> Vec<LinkEvent> {
        std::mem::take(&mut *lock(&self.shared.events))
    }
}

impl Link for FakeLink {
    fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    fn start(&mut self, checksums: bool) {
        lock(&self.shared.events).push(LinkEvent::Started(checksums));
    }

    fn transmit(&mut self, frame: &[u8], checksum: Checksum) {
        if self.echoes {
            let room = self.ready.len() < MOST_ECHOES;
            self.ready.extend(room.then(|| frame.to_vec()));
        } else {
            lock(&self.shared.events).push(LinkEvent::Frame(frame.to_vec(), checksum));
        }
    }

    fn poll(&mut self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0_u8; 8]);
        self.ready.extend(lock(&self.shared.frames).drain(..));
    }

    fn frame(&self) -> Option<&[u8]> {
        self.ready.front().map(Vec::as_slice)
    }

    fn pop_frame(&mut self) {
        self.ready.pop_front();
    }

    fn stop(&mut self) {
        self.ready.clear();
        lock(&self.shared.events).push(LinkEvent::Stopped);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
