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
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub mod block;
mod buffers;
mod events;
pub mod fs;
pub mod mmio;
pub mod net;
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
    /// Network card (5.1).
    Net = 1,
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
            Self::Net => "net",
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
    /// The used ring's index when the driver was last asked whether it wants an interrupt.
    interrupted_at: u16,
    budget: u32,
    unfinished: bool,
}

impl<'a> Virtqueue<'a> {
    /// Wraps `queue`, the device's `index`-th, over `memory`.
    pub fn new(index: usize, queue: &'a mut Queue, memory: &'a GuestMemoryMmap) -> Self {
        let interrupted_at = queue.next_used();
        Self { index, queue, memory, interrupted_at, budget: CHAINS_PER_ROUND, unfinished: false }
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

    /// Puts the `count` chains popped last back, to be popped again (a device that waits for space, its own or the
    /// driver's).
    pub fn undo_pop(&mut self, count: u16) {
        let index = self.queue.next_avail().wrapping_sub(count);
        self.queue.set_next_avail(index);
    }

    /// Gives a chain back to the driver, `length` bytes of it written by the device.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the used ring is not in guest memory.
    pub fn push(&mut self, head: u16, length: u32) -> Result<(), DeviceError> {
        let index = self.index;
        let pushed = self.queue.add_used(self.memory, head, length);
        pushed.map_err(|source| DeviceError::Queue { index, source })
    }

    /// Gives `chains` back, each with the number of bytes that were written to it, in such a way that the driver sees all
    /// of them or none (virtio 1.2, 5.1.6.4.1). There are fewer than the queue has entries.
    ///
    /// # Errors
    /// As for `push`.
    pub fn push_together(&mut self, chains: &[(u16, u32)]) -> Result<(), DeviceError> {
        let Some(((head, length), others)) = chains.split_last() else { return Ok(()) };
        let first = self.queue.next_used();
        for (offset, (head, length)) in (0_u16..).zip(others) {
            self.write_used(first.wrapping_add(offset), *head, *length)?;
        }
        // The index of the ring is written with the last one, and with it the driver sees the others.
        let others = u16::try_from(others.len()).unwrap_or(u16::MAX);
        self.queue.set_next_used(first.wrapping_add(others));
        self.push(*head, *length)
    }

    /// Writes the entry of the used ring with this index (virtio 1.2, 2.7.8), which the driver does not look at yet.
    fn write_used(&self, index: u16, head: u16, length: u32) -> Result<(), DeviceError> {
        const ENTRIES: u64 = 4;
        const ENTRY_BYTES: u64 = 8;
        let slot = index.checked_rem(self.queue.size()).unwrap_or(0);
        let offset = ENTRIES.saturating_add(u64::from(slot).saturating_mul(ENTRY_BYTES));
        let place = GuestAddress(self.queue.used_ring().saturating_add(offset));
        self.write_entry(place, [u32::from(head).to_le(), length.to_le()])
    }

    fn write_entry(&self, place: GuestAddress, entry: [u32; 2]) -> Result<(), DeviceError> {
        let written = self.memory.write_obj(entry, place);
        written.map_err(|source| self.malformed(virtio_queue::Error::GuestMemory(source)))
    }

    fn malformed(&self, source: virtio_queue::Error) -> DeviceError {
        DeviceError::Queue { index: self.index, source }
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
    /// virtio-queue cannot tell: it counts chains that were pushed one by one.
    ///
    /// # Errors
    /// [`DeviceError::Queue`] if the ring is not in guest memory.
    pub fn needs_interrupt(&mut self) -> Result<bool, DeviceError> {
        let now = self.queue.next_used();
        let before = std::mem::replace(&mut self.interrupted_at, now);
        if now == before || !self.queue.event_idx_enabled() {
            return Ok(now != before);
        }
        // The driver, which writes its wish before it looks at the ring once more, either sees what was pushed or is seen.
        fence(Ordering::SeqCst);
        let wanted_at = self.used_event()?;
        Ok(now.wrapping_sub(wanted_at).wrapping_sub(1) < now.wrapping_sub(before))
    }

    /// The index of the used ring at which the driver wants an interrupt (virtio 1.2, 2.7.7).
    fn used_event(&self) -> Result<u16, DeviceError> {
        const ENTRIES: u64 = 4;
        const ENTRY_BYTES: u64 = 2;
        let offset = ENTRIES.saturating_add(u64::from(self.queue.size()).saturating_mul(ENTRY_BYTES));
        let place = GuestAddress(self.queue.avail_ring().saturating_add(offset));
        let event = self.memory.load(place, Ordering::Relaxed).map(u16::from_le);
        event.map_err(|source| self.malformed(virtio_queue::Error::GuestMemory(source)))
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
