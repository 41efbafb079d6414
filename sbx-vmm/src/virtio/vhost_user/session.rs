//! What the peer's messages change: features, memory and rings, and from them the life of the device.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error as ProtocolError, GpuBackend, Result as ProtocolResult, VhostUserBackendReqHandlerMut,
};
use virtio_queue::QueueT;

use super::memory::{SharedMemory, refuse};
use super::vring::Vring;
use super::{FIRST_RING, ServeError, WAKE};
use crate::virtio::events::watch;
use crate::virtio::round::{self, EVENT_IDX, TRANSPORT_FEATURES, bit};
use crate::virtio::{DeviceError, DeviceKind, VirtioDevice, Virtqueue};

/// Largest ring that is accepted, whatever size the device names: QEMU's virtio-mmio tells every guest that its rings
/// may have 1024 entries (VIRTQUEUE_MAX_SIZE), and Linux takes what it is told.
const MAX_RING: u16 = 1024;

/// One connection: the device and what the peer has told of the guest.
pub(super) struct Session {
    device: Box<dyn VirtioDevice>,
    epoll: Arc<OwnedFd>,
    rings: Vec<Vring>,
    /// Rings to be handled before waiting again, one bit each.
    pending: u64,
    memory: Option<SharedMemory>,
    features: u64,
    state: State,
}

/// The device's life as seen from here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No ring is live.
    Idle,
    /// `activate` was called.
    Active,
    /// The device gave up; it waits for a reset.
    Broken,
}

impl Session {
    pub(super) fn new(device: Box<dyn VirtioDevice>, epoll: Arc<OwnedFd>) -> Self {
        // Making a ring fails only for a size that is no power of two, which is a bug of the device: it is left out.
        let rings = (FIRST_RING..)
            .zip(device.queue_sizes())
            .filter_map(|(token, size)| Vring::new((*size).max(MAX_RING), token).ok())
            .collect();
        Self { device, epoll, rings, pending: 0, memory: None, features: 0, state: State::Idle }
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending != 0
    }

    /// Ring `index` was kicked.
    pub(super) fn kicked(&mut self, index: u64) -> Result<(), ServeError> {
        let Some((index, ring)) =
            usize::try_from(index).ok().and_then(|index| Some((index, self.rings.get(index)?)))
        else {
            return Ok(());
        };
        ring.consume_kick().map_err(|source| ServeError::Kick { index, source })?;
        self.mark(index);
        Ok(())
    }

    /// Lets the device handle every ring that is due, each once.
    pub(super) fn run_pending(&mut self) {
        let due = std::mem::take(&mut self.pending);
        for index in (0..self.rings.len()).filter(|index| due & bit(*index) != 0) {
            if self.rings.get(index).is_some_and(Vring::is_live) {
                self.with_queues(|device, queues| device.handle_queue(index, queues));
            }
        }
    }

    /// The device's `wake_fd` is readable.
    pub(super) fn wake(&mut self) {
        self.with_queues(|device, queues| device.handle_wake(queues));
    }

    /// Lends the rings to the device for `call` and sends the interrupts that this caused.
    fn with_queues(
        &mut self,
        call: impl FnOnce(&mut dyn VirtioDevice, &mut [Virtqueue<'_>]) -> Result<(), DeviceError>,
    ) {
        let (State::Active, Some(memory)) = (self.state, &self.memory) else { return };
        let queues = self.rings.iter_mut().map(|ring| &mut ring.queue);
        let round = round::run(&mut *self.device, queues, memory.memory(), call);
        self.pending |= round.unfinished;
        for (index, ring) in self.rings.iter().enumerate() {
            if round.interrupts & bit(index) != 0 {
                ring.interrupt();
            }
        }
        if let Err(error) = round.result {
            self.give_up(&error);
        }
    }

    /// Serves nothing any more until the driver sets the device up anew.
    fn give_up(&mut self, error: &dyn std::error::Error) {
        round::log_broken(&*self.device, error);
        self.unwatch_device();
        self.state = State::Broken;
        self.pending = 0;
    }

    /// Starts or stops ring `index` after a change, and the device with the first and the last one.
    fn update(&mut self, index: usize) -> ProtocolResult<()> {
        let ring = self.rings.get_mut(index).ok_or(ProtocolError::InvalidParam)?;
        let memory = self.memory.as_ref().map(SharedMemory::memory);
        if ring.update(&self.epoll, memory).map_err(ProtocolError::ReqHandlerError)? {
            if self.state == State::Idle {
                self.state = State::Active;
                self.device.activate(self.features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());
                self.watch_device().map_err(ProtocolError::ReqHandlerError)?;
            }
            self.mark(index);
        }
        Ok(())
    }

    /// Back to where no driver has been seen.
    pub(super) fn reset(&mut self) {
        for ring in &mut self.rings {
            ring.stop(&self.epoll);
            ring.queue.reset();
            ring.enabled = false;
        }
        self.reset_device();
    }

    fn reset_device(&mut self) {
        self.unwatch_device();
        if self.state != State::Idle {
            self.device.reset();
        }
        self.state = State::Idle;
        self.pending = 0;
    }

    /// The peer enabled a ring although it has accepted no features yet: so they are from the start. False if this is no
    /// device with which that happens.
    pub(super) fn enable_early(&mut self) -> bool {
        let tolerated = self.device.kind() == DeviceKind::Net && self.features == 0;
        if tolerated {
            self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        }
        tolerated
    }

    fn watch_device(&self) -> io::Result<()> {
        self.device.wake_fd().map_or(Ok(()), |wake| watch(&self.epoll, wake, WAKE))
    }

    fn unwatch_device(&self) {
        if self.state != State::Active {
            return;
        }
        if let Some(Err(error)) = self.device.wake_fd().map(|wake| epoll::delete(&*self.epoll, wake)) {
            tracing::warn!(%error, "cannot stop watching the host side of a device");
        }
    }

    fn mark(&mut self, index: usize) {
        if self.state == State::Active {
            self.pending |= bit(index);
        }
    }

    fn ring(&mut self, index: u32) -> ProtocolResult<&mut Vring> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.rings.get_mut(index))
            .ok_or(ProtocolError::InvalidParam)
    }

    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> ProtocolResult<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> ProtocolResult<()> {
        self.reset();
        Ok(())
    }

    fn reset_device(&mut self) -> ProtocolResult<()> {
        self.reset();
        Ok(())
    }

    fn get_features(&mut self) -> ProtocolResult<u64> {
        Ok(self.offered())
    }

    fn set_features(&mut self, features: u64) -> ProtocolResult<()> {
        if features & !self.offered() != 0 {
            return Err(refuse("the peer accepted features that were not offered"));
        }
        self.features = features;
        let event_idx = features & EVENT_IDX != 0;
        for ring in &mut self.rings {
            ring.queue.set_event_idx(event_idx);
        }
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            // Without this bit there is no SET_VRING_ENABLE: rings are enabled from the start.
            for index in 0..self.rings.len() {
                if let Some(ring) = self.rings.get_mut(index) {
                    ring.enabled = true;
                }
                self.update(index)?;
            }
        }
        Ok(())
    }

    fn set_mem_table(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> ProtocolResult<()> {
        let memory = SharedMemory::map(regions, files)?;
        if self.rings.iter().any(|ring| ring.is_live() && !round::fits(&ring.queue, memory.memory())) {
            return Err(refuse("a ring in use does not lie in the new guest memory"));
        }
        self.memory = Some(memory);
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> ProtocolResult<()> {
        let queue = &mut self.ring(index)?.queue;
        if queue.ready() {
            return Err(refuse("the peer changed the size of a ring in use"));
        }
        let size = u16::try_from(num).map_err(|_| ProtocolError::InvalidParam)?;
        queue.try_set_size(size).map_err(|_| ProtocolError::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> ProtocolResult<()> {
        let memory = self.memory.as_ref().ok_or_else(|| refuse("ring addresses came before guest memory"))?;
        let places = (memory.translate(descriptor), memory.translate(available), memory.translate(used));
        let (Some(descriptor), Some(available), Some(used)) = places else {
            return Err(refuse("a ring does not lie in guest memory"));
        };
        let queue = &mut self.ring(index)?.queue;
        if queue.ready() {
            let unchanged = queue.desc_table() == descriptor.0
                && queue.avail_ring() == available.0
                && queue.used_ring() == used.0;
            return if unchanged { Ok(()) } else { Err(refuse("the peer moved a ring in use")) };
        }
        queue
            .try_set_desc_table_address(descriptor)
            .and_then(|()| queue.try_set_avail_ring_address(available))
            .and_then(|()| queue.try_set_used_ring_address(used))
            .map_err(|error| ProtocolError::ReqHandlerError(io::Error::other(error)))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> ProtocolResult<()> {
        let base = u16::try_from(base).map_err(|_| ProtocolError::InvalidParam)?;
        self.ring(index)?.queue.set_next_avail(base);
        Ok(())
    }

    /// Stops a ring. When the last one stops the guest's driver has let go of the device.
    fn get_vring_base(&mut self, index: u32) -> ProtocolResult<VhostUserVringState> {
        let epoll = Arc::clone(&self.epoll);
        let ring = self.ring(index)?;
        ring.stop(&epoll);
        let base = ring.queue.next_avail();
        if !self.rings.iter().any(Vring::is_started) {
            self.reset_device();
        }
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> ProtocolResult<()> {
        let epoll = Arc::clone(&self.epoll);
        self.ring(u32::from(index))?.set_kick(&epoll, file).map_err(ProtocolError::ReqHandlerError)?;
        self.update(usize::from(index))
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> ProtocolResult<()> {
        self.ring(u32::from(index))?.set_call(file).map_err(ProtocolError::ReqHandlerError)
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> ProtocolResult<()> {
        self.ring(u32::from(index)).map(|_| ())
    }

    fn get_protocol_features(&mut self) -> ProtocolResult<VhostUserProtocolFeatures> {
        let mut features = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::RESET_DEVICE;
        // Newer versions of QEMU would wait for an answer to the message that `enable_early` is about.
        if self.device.kind() != DeviceKind::Net {
            features |= VhostUserProtocolFeatures::REPLY_ACK;
        }
        // QEMU keeps the configuration space of the others itself, and warns if they offer theirs.
        let config = matches!(self.device.kind(), DeviceKind::Block | DeviceKind::Vsock);
        Ok(if config { features | VhostUserProtocolFeatures::CONFIG } else { features })
    }

    fn set_protocol_features(&mut self, _features: u64) -> ProtocolResult<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> ProtocolResult<u64> {
        Ok(u64::try_from(self.rings.len()).unwrap_or(0))
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> ProtocolResult<()> {
        self.ring(index)?.enabled = enable;
        self.update(usize::try_from(index).map_err(|_| ProtocolError::InvalidParam)?)
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> ProtocolResult<Vec<u8>> {
        let offset = usize::try_from(offset).map_err(|_| ProtocolError::InvalidParam)?;
        let size = usize::try_from(size).map_err(|_| ProtocolError::InvalidParam)?;
        let config = self.device.config().iter().copied();
        Ok(config.chain(std::iter::repeat(0)).skip(offset).take(size).collect())
    }

    fn set_config(&mut self, _offset: u32, _buf: &[u8], _flags: VhostUserConfigFlags) -> ProtocolResult<()> {
        Ok(())
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> ProtocolResult<()> {
        Err(not_offered())
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> ProtocolResult<File> {
        Err(not_offered())
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> ProtocolResult<(VhostUserInflight, File)> {
        Err(not_offered())
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> ProtocolResult<()> {
        Err(not_offered())
    }

    fn get_max_mem_slots(&mut self) -> ProtocolResult<u64> {
        Err(not_offered())
    }

    fn add_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion, _fd: File) -> ProtocolResult<()> {
        Err(not_offered())
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> ProtocolResult<()> {
        Err(not_offered())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> ProtocolResult<Option<File>> {
        Err(not_offered())
    }

    fn check_device_state(&mut self) -> ProtocolResult<()> {
        Err(not_offered())
    }

    fn get_shmem_config(&mut self) -> ProtocolResult<VhostUserShMemConfig> {
        Err(not_offered())
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> ProtocolResult<()> {
        Err(not_offered())
    }
}

fn not_offered() -> ProtocolError {
    ProtocolError::InvalidOperation("a message that belongs to a protocol feature that was not offered")
}
