//! Virtio devices, each written once, for every transport.
//!
//! A device sees its queues and guest memory, nothing else: not the bus it sits on, not the engine, not the
//! thread that runs it. The transport ([`mmio`] inside of this process, [`vhost_user`] to another one) owns
//! feature negotiation, queue addresses, interrupts and the event loop, and calls the device from one thread at
//! a time.
//!
//! ```text
//!            features()/config()           activate(features)            handle_queue / handle_wake
//! created ─────────────────────▶ offered ─────────────────────▶ active ───────────────────────────▶ active
//!                                   ▲                              │  ▲
//!                                   └────────── reset() ───────────┘  └─ save(), or in another process restore(state)
//! ```

// What a guest wrote must not be able to stop the host.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

pub mod block;
mod buffers;
mod events;
pub mod fs;
pub mod mmio;
pub mod rng;
mod round;
mod saved;
pub mod vhost_user;
pub mod vsock;

pub(crate) use events::ring;
pub use saved::{DeviceState, RestoreError};

/// Chains that a device may take from one queue before the transport looks after everything else: long enough to make
/// the cost of a round vanish, short enough that a guest which never stops filling its ring cannot hold the thread.
const CHAINS_PER_ROUND: u32 = 256;

/// Virtio device ids (virtio 1.2, section 5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u32)]
pub enum DeviceKind {
    /// Block device (5.2).
    Block = 2,
    /// Entropy source (5.4).
    Rng = 4,
    /// Socket device (5.10).
    Vsock = 19,
    /// File system device (5.11).
    Fs = 26,
}

impl DeviceKind {
    /// The device's name in logs and names of threads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
            Self::Fs => "fs",
        }
    }
}

/// What went wrong with a device so badly that the guest has to reset it (DEVICE_NEEDS_RESET).
///
/// A request that is merely wrong is answered with the device's own error status instead.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ring itself is broken: indexes or addresses that cannot be.
    #[error("queue {index} is malformed")]
    Queue {
        /// Which queue.
        index: usize,
        /// What virtio-queue found.
        #[source]
        source: virtio_queue::Error,
    },
    /// The guest kicked or filled a queue in a way that the device does not have.
    #[error("{what}")]
    Protocol {
        /// What the guest did.
        what: &'static str,
    },
    /// Something on the host failed that the device cannot do without.
    #[error("{what}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// A queue that the transport lends to the device for one call.
///
/// A queue that the driver has not set up is empty and stays so.
#[derive(Debug)]
pub struct Virtqueue<'a> {
    index: usize,
    queue: &'a mut Queue,
    memory: &'a GuestMemoryMmap,
    used: bool,
    budget: u32,
    unfinished: bool,
}

impl<'a> Virtqueue<'a> {
    /// Wraps `queue`, the device's `index`-th, over `memory`.
    pub fn new(index: usize, queue: &'a mut Queue, memory: &'a GuestMemoryMmap) -> Self {
        Self { index, queue, memory, used: false, budget: CHAINS_PER_ROUND, unfinished: false }
    }

    /// Guest memory that descriptors point into.
    #[must_use]
    pub fn memory(&self) -> &'a GuestMemoryMmap {
        self.memory
    }

    /// Whether the driver has set the queue up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.queue.ready()
    }

    /// Takes the next chain that the driver made available. After enough of them for one call the queue behaves as if
    /// it were empty, and the transport calls the device again soon.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the available ring cannot be what a driver wrote.
    pub fn pop(&mut self) -> Result<Option<DescriptorChain<&'a GuestMemoryMmap>>, DeviceError> {
        let index = self.index;
        if !self.queue.ready() {
            return Ok(None);
        }
        let mut chains =
            self.queue.iter(self.memory).map_err(|source| DeviceError::Queue { index, source })?;
        let Some(budget) = self.budget.checked_sub(1) else {
            self.unfinished = true;
            return Ok(None);
        };
        self.budget = budget;
        Ok(chains.next())
    }

    /// Puts the chain popped last back, to be popped again (a device that waits for its own buffer space).
    pub fn undo_pop(&mut self) {
        let index = self.queue.next_avail().wrapping_sub(1);
        self.queue.set_next_avail(index);
    }

    /// Gives a chain back to the driver, `length` bytes of it written by the device.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the used ring is not in guest memory.
    pub fn push(&mut self, head: u16, length: u32) -> Result<(), DeviceError> {
        let index = self.index;
        let pushed = self.queue.add_used(self.memory, head, length);
        pushed.map_err(|source| DeviceError::Queue { index, source })?;
        self.used = true;
        Ok(())
    }

    /// Asks the driver not to kick while the device polls the queue itself.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the ring is not in guest memory.
    pub fn disable_notification(&mut self) -> Result<(), DeviceError> {
        let index = self.index;
        if !self.queue.ready() {
            return Ok(());
        }
        self.queue.disable_notification(self.memory).map_err(|source| DeviceError::Queue { index, source })
    }

    /// Asks for kicks again; `true` if a chain came in between, so that the device must look once more before it
    /// returns.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the ring is not in guest memory.
    pub fn enable_notification(&mut self) -> Result<bool, DeviceError> {
        let index = self.index;
        if self.unfinished || !self.queue.ready() {
            return Ok(false);
        }
        self.queue.enable_notification(self.memory).map_err(|source| DeviceError::Queue { index, source })
    }

    /// Asks for a kick when the driver makes one more chain available than there are now, taken or not. `true` if it
    /// has already, and no kick will come.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the ring is not in guest memory.
    pub fn enable_notification_of_more(&mut self) -> Result<bool, DeviceError> {
        let index = self.index;
        if !self.queue.ready() {
            return Ok(false);
        }
        let malformed = |source| DeviceError::Queue { index, source };
        let available = self.queue.avail_idx(self.memory, Ordering::Acquire).map_err(malformed)?;
        // virtio-queue asks for the chain behind the one that is next for the device.
        let next = self.queue.next_avail();
        self.queue.set_next_avail(available.0);
        let more = self.queue.enable_notification(self.memory).map_err(malformed);
        self.queue.set_next_avail(next);
        more
    }

    /// For the transport: whether the device has to be called again for this queue without another kick.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// For the transport: whether the driver wants an interrupt for what was pushed since the queue was lent.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the ring is not in guest memory.
    pub fn needs_interrupt(&mut self) -> Result<bool, DeviceError> {
        let index = self.index;
        if !std::mem::take(&mut self.used) {
            return Ok(false);
        }
        self.queue.needs_notification(self.memory).map_err(|source| DeviceError::Queue { index, source })
    }
}

/// A virtio device.
pub trait VirtioDevice: Send {
    /// Which device the guest sees. Called any time.
    fn kind(&self) -> DeviceKind;

    /// Largest size of each queue, in descriptors; its length is the number of queues. Called any time.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits of the device's own. The transport adds `VERSION_1`, `EVENT_IDX` and `INDIRECT_DESC`, and never
    /// activates a device with a bit that was not offered.
    fn features(&self) -> u64;

    /// The device's configuration space, little-endian. Reads beyond its end are zero, writes are ignored.
    fn config(&self) -> &[u8];

    /// The driver accepted `features` and set up the queues. Called once before any `handle_*`, and again only
    /// after `reset`.
    fn activate(&mut self, features: u64);

    /// The driver kicked queue `index`. Called with all queues, since an answer may go to another one.
    ///
    /// # Errors
    /// Only what makes the device unusable until the driver resets it.
    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError>;

    /// A file descriptor that becomes readable when the host side of the device has something to do; the
    /// transport then calls `handle_wake`. Asked for once, before `activate`.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// `wake_fd` is readable.
    ///
    /// # Errors
    /// As for `handle_queue`.
    fn handle_wake(&mut self, _queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The driver reset the device, or went away: drop all that belongs to the guest's old state.
    fn reset(&mut self);

    /// What a device with the same configuration has to know to go on in this one's place. Called while the device is
    /// active, by the transport, when no vCPU runs and nobody calls `handle_*`: whoever saves a machine stops its vCPUs,
    /// then the thread of the devices, then saves the devices, then guest memory. No request is in flight then, because
    /// each `handle_*` gives back every chain that it took before it returns.
    fn save(&self) -> DeviceState;

    /// Goes on where `save` left off, with guest memory as it was then. Called at most once, right after `activate` and
    /// before any `handle_*`; the transport then lets the device handle every queue as if it had been kicked.
    ///
    /// The state may come from a file that somebody made: it is checked, and gives the guest nothing that the device's
    /// configuration does not.
    ///
    /// # Errors
    /// If the state is not one of such a device with such a configuration. The device then has to be reset.
    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError>;
}
