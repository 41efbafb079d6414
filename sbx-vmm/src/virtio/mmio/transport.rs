//! What the driver's writes change: features, queues and status, and from them the life of the device.
//!
//! ```text
//!          ACKNOWLEDGE, DRIVER, FEATURES_OK        DRIVER_OK
//! reset ──────────────────────────────▶ negotiated ─────────▶ active ──▶ needs reset (the driver broke a rule)
//!   ▲                                                            │              │
//!   └──────────────────────────── 0 is written to Status ────────┴──────────────┘
//! ```

use std::io;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::registers::{Area, Half, Register};
use crate::virtio::round::{self, EVENT_IDX, TRANSPORT_FEATURES, bit};
use crate::virtio::{DeviceError, VirtioDevice, Virtqueue};

mod saved;

pub use saved::MmioState;

/// "virt", little-endian, the version of the transport since virtio 1.0, and a vendor of no meaning: "sbx".
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
const VENDOR: u32 = 0x0078_6273;

/// Broken rules that are logged of one device; a driver can break them as often as it likes.
const LOGGED_FAULTS: u32 = 8;

/// What the driver has told, as plain values.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Negotiation {
    /// The Status register.
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueRegisters>,
}

/// Size and places of a queue, which count once it is made ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct QueueRegisters {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl QueueRegisters {
    fn area(&mut self, area: Area) -> &mut u64 {
        match area {
            Area::Descriptors => &mut self.descriptors,
            Area::Available => &mut self.available,
            Area::Used => &mut self.used,
        }
    }
}

/// What is left to do after the driver's write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The device came alive or is to be looked after: all its queues are due.
    Due,
    /// This queue is due.
    Kicked(u32),
    /// The device is as if no driver had been there.
    Reset,
    /// The driver broke a rule.
    Broken,
}

/// What a round of the device came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Outcome {
    /// There are used buffers that the driver wants to be told of.
    pub(super) used: bool,
    /// The driver broke a rule.
    pub(super) broken: bool,
}

/// A device with what its driver has told.
pub(super) struct Transport {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemoryMmap,
    negotiation: Negotiation,
    queues: Vec<Queue>,
    /// Queues to be handled without another kick, one bit each.
    pending: u64,
    /// Whether the device was activated since the last reset.
    activated: bool,
    faults: u32,
}

impl Transport {
    /// # Errors
    /// If the device names a queue size that is no power of two.
    pub(super) fn new(device: Box<dyn VirtioDevice>, memory: GuestMemoryMmap) -> io::Result<Self> {
        let queues = device.queue_sizes().iter().map(|size| Queue::new(*size));
        let queues = queues.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let negotiation = blank(queues.len());
        Ok(Self { device, memory, negotiation, queues, pending: 0, activated: false, faults: 0 })
    }

    /// Whether the driver is ready for the device.
    pub(super) fn is_active(&self) -> bool {
        const STOPPED: u32 = VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET;
        self.has(VIRTIO_CONFIG_S_DRIVER_OK) && self.negotiation.status & STOPPED == 0
    }

    /// Whether the driver may be told of anything at all (virtio 1.2, 3.1.1).
    pub(super) fn may_notify(&self) -> bool {
        self.has(VIRTIO_CONFIG_S_DRIVER_OK)
    }

    /// The descriptor with which the host side of the device wakes it.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.device.wake_fd()
    }

    /// The value of a register; write-only ones are zero.
    pub(super) fn read(&self, register: Register) -> u32 {
        match register {
            Register::MagicValue => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => self.device.kind() as u32,
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => word(self.offered(), self.negotiation.device_features_sel),
            Register::QueueNumMax => self.selected().map_or(0, |queue| u32::from(queue.max_size())),
            Register::QueueReady => self.selected().map_or(0, |queue| u32::from(queue.ready())),
            Register::Status => self.negotiation.status,
            // A length of all ones says that there is no such region (4.2.2).
            Register::ShmLenLow | Register::ShmLenHigh | Register::ShmBaseLow | Register::ShmBaseHigh => {
                u32::MAX
            }
            // The configuration of no device changes.
            Register::ConfigGeneration => 0,
            Register::DeviceFeaturesSel
            | Register::DriverFeatures
            | Register::DriverFeaturesSel
            | Register::QueueSel
            | Register::QueueNum
            | Register::QueueNotify
            | Register::InterruptStatus
            | Register::InterruptAck
            | Register::Address(..) => 0,
        }
    }

    /// Copies the configuration space from `offset` on; zeros behind its end.
    pub(super) fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        let config = usize::try_from(offset).ok().and_then(|offset| self.device.config().get(offset..));
        let config = config.unwrap_or_default().iter().copied();
        for (byte, value) in bytes.iter_mut().zip(config.chain(std::iter::repeat(0))) {
            *byte = value;
        }
    }

    /// Takes a value for a register; read-only ones ignore it.
    pub(super) fn write(&mut self, register: Register, value: u32) -> Effect {
        let result = match register {
            Register::DeviceFeaturesSel => {
                self.negotiation.device_features_sel = value;
                Ok(Effect::None)
            }
            Register::DriverFeaturesSel => {
                self.negotiation.driver_features_sel = value;
                Ok(Effect::None)
            }
            Register::DriverFeatures => self.accept_features(value),
            Register::QueueSel => {
                self.negotiation.queue_sel = value;
                Ok(Effect::None)
            }
            Register::QueueNum => self.set_queue(|queue| &mut queue.size, value),
            Register::Address(area, half) => self.set_address(area, half, value),
            Register::QueueReady => self.set_ready(value),
            Register::QueueNotify => Ok(Effect::Kicked(value)),
            Register::Status => self.set_status(value),
            Register::MagicValue
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueNumMax
            | Register::InterruptStatus
            | Register::InterruptAck
            | Register::ShmLenLow
            | Register::ShmLenHigh
            | Register::ShmBaseLow
            | Register::ShmBaseHigh
            | Register::ConfigGeneration => Ok(Effect::None),
        };
        result.unwrap_or_else(|error| {
            self.give_up(&error);
            Effect::Broken
        })
    }

    /// Lets the device handle queue `index`, which was kicked.
    pub(super) fn handle_queue(&mut self, index: usize) -> Outcome {
        if !self.queues.get(index).is_some_and(Queue::ready) {
            return Outcome::default();
        }
        self.run(|device, queues| device.handle_queue(index, queues))
    }

    /// Lets the device handle its `wake_fd`, which is readable.
    pub(super) fn handle_wake(&mut self) -> Outcome {
        self.run(|device, queues| device.handle_wake(queues))
    }

    /// Lets the device handle each queue once that it was not finished with.
    pub(super) fn handle_pending(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let due = std::mem::take(&mut self.pending);
        for index in (0..self.queues.len()).filter(|index| due & bit(*index) != 0) {
            let one = self.handle_queue(index);
            outcome = Outcome { used: outcome.used | one.used, broken: outcome.broken | one.broken };
        }
        outcome
    }

    /// Whether there is something for `handle_pending`.
    pub(super) fn has_pending(&self) -> bool {
        self.pending != 0
    }

    /// Back to where no driver has been seen.
    pub(super) fn reset(&mut self) {
        if std::mem::take(&mut self.activated) {
            self.device.reset();
        }
        self.queues.iter_mut().for_each(QueueT::reset);
        self.negotiation = blank(self.queues.len());
        self.pending = 0;
    }

    fn run(
        &mut self,
        call: impl FnOnce(&mut dyn VirtioDevice, &mut [Virtqueue<'_>]) -> Result<(), DeviceError>,
    ) -> Outcome {
        if !self.is_active() {
            return Outcome::default();
        }
        let round = round::run(&mut *self.device, self.queues.iter_mut(), &self.memory, call);
        self.pending |= round.unfinished;
        let broken = round.result.is_err();
        if let Err(error) = round.result {
            self.give_up(&error);
        }
        Outcome { used: round.interrupts != 0, broken }
    }

    /// Serves nothing any more until the driver resets the device.
    fn give_up(&mut self, error: &DeviceError) {
        self.negotiation.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        self.pending = 0;
        if self.faults < LOGGED_FAULTS {
            self.faults = self.faults.saturating_add(1);
            round::log_broken(&*self.device, error);
        }
    }

    /// Bits can only be added, until 0 resets the device.
    fn set_status(&mut self, value: u32) -> Result<Effect, DeviceError> {
        if value == 0 {
            self.reset();
            return Ok(Effect::Reset);
        }
        let added = value & !self.negotiation.status;
        self.negotiation.status |=
            added & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED);
        // The driver reads the bit back to see whether it was understood (3.1.1).
        if added & VIRTIO_CONFIG_S_FEATURES_OK != 0 && self.are_fine(self.negotiation.driver_features) {
            self.negotiation.status |= VIRTIO_CONFIG_S_FEATURES_OK;
        }
        if added & VIRTIO_CONFIG_S_DRIVER_OK == 0 {
            return Ok(Effect::None);
        }
        if !self.has(VIRTIO_CONFIG_S_FEATURES_OK) {
            return Err(protocol("the driver started without having agreed on features"));
        }
        self.negotiation.status |= VIRTIO_CONFIG_S_DRIVER_OK;
        if !self.is_active() {
            return Ok(Effect::None);
        }
        self.device.activate(self.negotiation.driver_features);
        self.activated = true;
        Ok(Effect::Due)
    }

    fn accept_features(&mut self, value: u32) -> Result<Effect, DeviceError> {
        if self.has(VIRTIO_CONFIG_S_FEATURES_OK) {
            return Err(protocol("the driver changed the features that it had agreed on"));
        }
        let half = match self.negotiation.driver_features_sel {
            0 => Half::Low,
            1 => Half::High,
            // There are no such features to accept.
            _ if value == 0 => return Ok(Effect::None),
            _ => return Err(protocol("the driver accepted features that there are not")),
        };
        self.negotiation.driver_features = half.replace(self.negotiation.driver_features, value);
        Ok(Effect::None)
    }

    /// Whether a driver may accept these features.
    fn are_fine(&self, accepted: u64) -> bool {
        accepted & !self.offered() == 0 && accepted & (1 << VIRTIO_F_VERSION_1) != 0
    }

    fn set_address(&mut self, area: Area, half: Half, value: u32) -> Result<Effect, DeviceError> {
        let Some((registers, ready)) = self.selected_registers() else { return Ok(Effect::None) };
        let place = registers.area(area);
        let changed = half.replace(*place, value);
        if ready && changed != *place {
            return Err(protocol("the driver moved a queue in use"));
        }
        *place = changed;
        Ok(Effect::None)
    }

    fn set_queue(
        &mut self,
        field: impl FnOnce(&mut QueueRegisters) -> &mut u32,
        value: u32,
    ) -> Result<Effect, DeviceError> {
        let Some((registers, ready)) = self.selected_registers() else { return Ok(Effect::None) };
        let place = field(registers);
        if ready && *place != value {
            return Err(protocol("the driver changed the size of a queue in use"));
        }
        *place = value;
        Ok(Effect::None)
    }

    /// Takes the selected queue into use as its registers say, from its beginning, or out of use.
    fn set_ready(&mut self, value: u32) -> Result<Effect, DeviceError> {
        let index = usize::try_from(self.negotiation.queue_sel).unwrap_or(usize::MAX);
        let (Some(queue), Some(registers)) =
            (self.queues.get_mut(index), self.negotiation.queues.get(index).copied())
        else {
            return Ok(Effect::None);
        };
        if value == 0 {
            queue.set_ready(false);
            return Ok(Effect::None);
        }
        if queue.ready() {
            return Ok(Effect::None);
        }
        queue.reset();
        set_up(queue, &registers).map_err(|source| DeviceError::Queue { index, source })?;
        if !round::fits(queue, &self.memory) {
            return Err(protocol("a queue does not lie in guest memory"));
        }
        queue.set_event_idx(self.negotiation.driver_features & EVENT_IDX != 0);
        queue.set_ready(true);
        // With a driver that adds a queue later, the device has to look at it as after a start.
        Ok(if self.is_active() { Effect::Due } else { Effect::None })
    }

    /// The registers of the selected queue, and whether it is in use.
    fn selected_registers(&mut self) -> Option<(&mut QueueRegisters, bool)> {
        let index = usize::try_from(self.negotiation.queue_sel).ok()?;
        Some((self.negotiation.queues.get_mut(index)?, self.queues.get(index)?.ready()))
    }

    fn selected(&self) -> Option<&Queue> {
        usize::try_from(self.negotiation.queue_sel).ok().and_then(|index| self.queues.get(index))
    }

    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    fn has(&self, status: u32) -> bool {
        self.negotiation.status & status != 0
    }
}

/// Registers that nobody has written.
fn blank(queues: usize) -> Negotiation {
    Negotiation { queues: vec![QueueRegisters::default(); queues], ..Negotiation::default() }
}

/// Gives `queue` the size and the places that the driver chose.
fn set_up(queue: &mut Queue, registers: &QueueRegisters) -> Result<(), virtio_queue::Error> {
    queue.try_set_size(u16::try_from(registers.size).unwrap_or(0))?;
    queue.try_set_desc_table_address(GuestAddress(registers.descriptors))?;
    queue.try_set_avail_ring_address(GuestAddress(registers.available))?;
    queue.try_set_used_ring_address(GuestAddress(registers.used))
}

/// The 32 bits of `value` that a selector names; there are two.
fn word(value: u64, selector: u32) -> u32 {
    let shift = selector.checked_mul(32);
    let shifted = shift.and_then(|shift| value.checked_shr(shift)).unwrap_or(0);
    u32::try_from(shifted & 0xffff_ffff).unwrap_or(0)
}

fn protocol(what: &'static str) -> DeviceError {
    DeviceError::Protocol { what }
}
