//! One round of a device over its queues, the same for every transport.
//!
//! ```text
//! kick, wake ──▶ run() ──▶ VirtioDevice::handle_*(queues) ──▶ Round: queues to interrupt for, queues to come back to
//! ```

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use super::{DeviceError, VirtioDevice, Virtqueue};

/// What every transport offers besides the device's own bits.
pub(super) const TRANSPORT_FEATURES: u64 =
    (1 << VIRTIO_F_VERSION_1) | (1 << VIRTIO_RING_F_EVENT_IDX) | (1 << VIRTIO_RING_F_INDIRECT_DESC);

/// The feature bit with which both sides say at which index they want to be told.
pub(super) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// Bytes of a descriptor, of an entry of the available ring and of one of the used ring (virtio 1.2, 2.7).
const DESCRIPTOR_BYTES: usize = 16;
const AVAILABLE_BYTES: usize = 2;
const USED_BYTES: usize = 8;

/// Bytes of a ring besides its entries: flags, index, and the event field behind the entries.
const RING_BYTES: usize = 6;

/// What a round left to the transport. One bit for each queue.
#[derive(Debug)]
pub(super) struct Round {
    /// Queues for which the driver wants an interrupt.
    pub(super) interrupts: u64,
    /// Queues that the device has to be called for again without another kick.
    pub(super) unfinished: u64,
    /// Whether the device can go on.
    pub(super) result: Result<(), DeviceError>,
}

/// Lends `queues`, in their order, to `device` for `call`.
pub(super) fn run<'a>(
    device: &mut dyn VirtioDevice,
    queues: impl Iterator<Item = &'a mut Queue>,
    memory: &'a GuestMemoryMmap,
    call: impl FnOnce(&mut dyn VirtioDevice, &mut [Virtqueue<'_>]) -> Result<(), DeviceError>,
) -> Round {
    let mut queues: Vec<Virtqueue<'_>> =
        queues.enumerate().map(|(index, queue)| Virtqueue::new(index, queue, memory)).collect();
    let mut result = call(device, &mut queues);
    let (mut interrupts, mut unfinished) = (0, 0);
    for (index, queue) in queues.iter_mut().enumerate() {
        if queue.is_unfinished() {
            unfinished |= bit(index);
        }
        match queue.needs_interrupt() {
            Ok(true) => interrupts |= bit(index),
            Ok(false) => {}
            Err(error) => result = Err(error),
        }
    }
    Round { interrupts, unfinished, result }
}

/// Says that `device` is not served any more until its driver sets it up anew.
pub(super) fn log_broken(device: &dyn VirtioDevice, error: &dyn std::error::Error) {
    let cause = error.source().map(ToString::to_string);
    let device = device.kind().name();
    tracing::warn!(device, %error, cause, "the device waits for a reset by the guest");
}

/// Whether every byte of the ring is in guest memory, without which the queue could be neither read nor drained.
pub(super) fn fits(queue: &Queue, memory: &GuestMemoryMmap) -> bool {
    let entries = usize::from(queue.size());
    let fits = |address: u64, entry: usize, besides: usize| {
        let length = entries.checked_mul(entry).and_then(|bytes| bytes.checked_add(besides));
        length.is_some_and(|length| memory.check_range(GuestAddress(address), length))
    };
    fits(queue.desc_table(), DESCRIPTOR_BYTES, 0)
        && fits(queue.avail_ring(), AVAILABLE_BYTES, RING_BYTES)
        && fits(queue.used_ring(), USED_BYTES, RING_BYTES)
}

/// The bit of queue `index`; no device has 64 queues.
pub(super) fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}
