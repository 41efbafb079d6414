//! One ring as the peer set it up.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::event::epoll;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use crate::virtio::{events, round};

/// A ring, its eventfds and its state: *started* from the kick fd's arrival until GET_VRING_BASE, *enabled* between
/// SET_VRING_ENABLE 1 and 0. It is served while both.
#[derive(Debug)]
pub(super) struct Vring {
    pub(super) queue: Queue,
    kick: Option<OwnedFd>,
    call: Option<OwnedFd>,
    pub(super) enabled: bool,
    token: u64,
}

impl Vring {
    pub(super) fn new(size: u16, token: u64) -> Result<Self, QueueError> {
        Ok(Self { queue: Queue::new(size)?, kick: None, call: None, enabled: false, token })
    }

    pub(super) fn is_started(&self) -> bool {
        self.kick.is_some()
    }

    pub(super) fn is_live(&self) -> bool {
        self.queue.ready()
    }

    /// Takes the fd that the peer kicks, in place of the former one.
    pub(super) fn set_kick(&mut self, epoll: &OwnedFd, file: Option<File>) -> io::Result<()> {
        self.retire(epoll);
        self.kick = file.map(OwnedFd::from);
        if let Some(kick) = &self.kick {
            fcntl_setfl(kick, fcntl_getfl(kick)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Takes the fd that tells the peer of used buffers.
    pub(super) fn set_call(&mut self, file: Option<File>) -> io::Result<()> {
        self.call = file.map(OwnedFd::from);
        if let Some(call) = &self.call {
            fcntl_setfl(call, fcntl_getfl(call)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Starts serving if the ring is started and enabled, and stops otherwise. `true` if it has just come alive: a
    /// kick may have come before, so that the device has to look once.
    pub(super) fn update(&mut self, epoll: &OwnedFd, memory: Option<&GuestMemoryMmap>) -> io::Result<bool> {
        let Some(kick) = self.kick.as_ref().filter(|_| self.enabled) else {
            self.retire(epoll);
            return Ok(false);
        };
        if self.queue.ready() {
            return Ok(false);
        }
        let memory = memory.filter(|memory| round::fits(&self.queue, memory)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a ring does not lie in guest memory")
        })?;
        // After a reset of the driver the used index is 0 again, after a mere stop it is not; it is in the ring.
        let used = self.queue.used_idx(memory, Ordering::Acquire).map_err(io::Error::other)?;
        self.queue.set_next_used(used.0);
        events::watch(epoll, kick.as_fd(), self.token)?;
        self.queue.set_ready(true);
        Ok(true)
    }

    /// Empties the kick fd's counter.
    pub(super) fn consume_kick(&self) -> io::Result<()> {
        self.kick.as_ref().map_or(Ok(()), events::drain)
    }

    /// Tells the peer that there are used buffers. A full counter means that it has been told already.
    pub(super) fn interrupt(&self) {
        let Some(call) = &self.call else { return };
        if let Err(error) = events::ring(call) {
            tracing::warn!(%error, "cannot interrupt the guest");
        }
    }

    /// Stops the ring and forgets its fds; what remains is the position in the available ring.
    pub(super) fn stop(&mut self, epoll: &OwnedFd) {
        self.retire(epoll);
        self.kick = None;
        self.call = None;
    }

    /// Takes the kick fd out of epoll, which dropping it would not do: the peer holds the same file open.
    fn retire(&mut self, epoll: &OwnedFd) {
        if let Some(kick) = self.kick.as_ref().filter(|_| self.queue.ready())
            && let Err(error) = epoll::delete(epoll, kick)
        {
            tracing::warn!(%error, "cannot stop watching a ring");
        }
        self.queue.set_ready(false);
    }
}
