//! What a transport keeps of its driver across a save and a restore.
//!
//! A kick that nobody has taken yet is not kept: after a restore every queue is looked at. Nor is which queues have to
//! be come back to without a kick, for the same reason.

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};
use virtio_queue::{Queue, QueueT};

use super::{Negotiation, Transport};
use crate::virtio::{DeviceState, RestoreError, round};

/// Bits of the Status register that there are.
const STATUS: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE
    | VIRTIO_CONFIG_S_DRIVER
    | VIRTIO_CONFIG_S_FEATURES_OK
    | VIRTIO_CONFIG_S_DRIVER_OK
    | VIRTIO_CONFIG_S_NEEDS_RESET
    | VIRTIO_CONFIG_S_FAILED;

/// A device with all that its driver has told.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MmioState {
    negotiation: Negotiation,
    queues: Vec<QueueState>,
    /// The InterruptStatus register.
    pub(in crate::virtio::mmio) interrupt_status: u32,
    /// What the device itself knows; nothing unless it is active.
    device: Option<DeviceState>,
}

/// A queue: virtio-queue's own state of it, in a form that can be written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct QueueState {
    max_size: u16,
    size: u16,
    ready: bool,
    event_idx: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
}

impl From<&Queue> for QueueState {
    fn from(queue: &Queue) -> Self {
        let state = queue.state();
        Self {
            max_size: state.max_size,
            size: state.size,
            ready: state.ready,
            event_idx: state.event_idx_enabled,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail,
            next_used: state.next_used,
        }
    }
}

impl TryFrom<QueueState> for Queue {
    type Error = virtio_queue::Error;

    fn try_from(state: QueueState) -> Result<Self, Self::Error> {
        Self::try_from(virtio_queue::QueueState {
            max_size: state.max_size,
            next_avail: state.next_available,
            next_used: state.next_used,
            event_idx_enabled: state.event_idx,
            size: state.size,
            ready: state.ready,
            desc_table: state.descriptors,
            avail_ring: state.available,
            used_ring: state.used,
        })
    }
}

impl Transport {
    /// Nobody calls the device or writes to the registers meanwhile.
    pub(in crate::virtio::mmio) fn save(&self, interrupt_status: u32) -> MmioState {
        MmioState {
            negotiation: self.negotiation.clone(),
            queues: self.queues.iter().map(QueueState::from).collect(),
            interrupt_status,
            device: self.is_active().then(|| self.device.save()),
        }
    }

    /// Goes on for a driver; if that fails, none has been seen.
    pub(in crate::virtio::mmio) fn restore(&mut self, state: MmioState) -> Result<(), RestoreError> {
        self.reset();
        self.take_up(state).inspect_err(|_| self.reset())
    }

    fn take_up(&mut self, state: MmioState) -> Result<(), RestoreError> {
        self.check_negotiation(&state.negotiation)?;
        if state.queues.len() != self.queues.len() {
            return Err(self.malformed("the device has other queues"));
        }
        let mut queues = Vec::with_capacity(self.queues.len());
        for (saved, own) in state.queues.iter().zip(&self.queues) {
            let queue = Queue::try_from(*saved).ok().filter(|queue| queue.max_size() == own.max_size());
            let queue =
                queue.ok_or_else(|| self.malformed("a queue has a size or place that it cannot have"))?;
            if queue.ready() && !round::fits(&queue, &self.memory) {
                return Err(self.malformed("a queue does not lie in guest memory"));
            }
            queues.push(queue);
        }
        self.queues = queues;
        self.negotiation = state.negotiation;
        match (self.is_active(), state.device) {
            (false, None) => Ok(()),
            (true, Some(device)) => {
                self.device.activate(self.negotiation.driver_features);
                self.activated = true;
                self.device.restore(device)
            }
            _ => Err(self.malformed("the device was active and was not")),
        }
    }

    /// Whether the driver can have come to this.
    fn check_negotiation(&self, negotiation: &Negotiation) -> Result<(), RestoreError> {
        let has = |bit: u32| negotiation.status & bit != 0;
        if negotiation.status & !STATUS != 0 || negotiation.queues.len() != self.queues.len() {
            return Err(self.malformed("its registers say what they cannot say"));
        }
        if has(VIRTIO_CONFIG_S_DRIVER_OK) && !has(VIRTIO_CONFIG_S_FEATURES_OK) {
            return Err(self.malformed("the driver started without having agreed on features"));
        }
        let missing = negotiation.driver_features & !self.offered();
        if has(VIRTIO_CONFIG_S_FEATURES_OK) && missing != 0 {
            return Err(RestoreError::Features { device: self.device.kind().name(), missing });
        }
        if has(VIRTIO_CONFIG_S_FEATURES_OK) && !self.are_fine(negotiation.driver_features) {
            return Err(self.malformed("the driver agreed on features without version 1"));
        }
        Ok(())
    }

    fn malformed(&self, what: &'static str) -> RestoreError {
        RestoreError::malformed(self.device.kind(), what)
    }
}
