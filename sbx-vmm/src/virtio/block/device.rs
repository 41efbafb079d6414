//! The block device: takes requests out of its one queue and answers each at once.

use std::fmt;
use std::io;
use std::path::Path;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::backend::{Backend, DiskError, Extents, RawFile};
use super::config::config_space;
use super::request::{ID_BYTES, Operation, Refusal, parse};
use super::saved::BlockState;
use crate::config::Extent;
use crate::virtio::buffers::Buffers;
use crate::virtio::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// One queue, of the size that QEMU gives a vhost-user-blk by default.
const QUEUE_SIZES: [u16; 1] = [128];

/// What every disk has, and what a writable one has besides.
const FEATURES: u64 = (1 << VIRTIO_BLK_F_SIZE_MAX)
    | (1 << VIRTIO_BLK_F_SEG_MAX)
    | (1 << VIRTIO_BLK_F_BLK_SIZE)
    | (1 << VIRTIO_BLK_F_TOPOLOGY);
const WRITABLE_FEATURES: u64 =
    (1 << VIRTIO_BLK_F_FLUSH) | (1 << VIRTIO_BLK_F_DISCARD) | (1 << VIRTIO_BLK_F_WRITE_ZEROES);

/// A block device.
pub struct BlockDevice {
    backend: Box<dyn Backend>,
    config: Vec<u8>,
    id: [u8; ID_BYTES],
    /// Whether a failure of the host was logged, so that a full disk does not fill the log as well.
    failure_logged: bool,
}

impl BlockDevice {
    /// A read-only disk of `extents`, one behind the other.
    ///
    /// # Errors
    /// If a file cannot be opened, or the disk would be empty or too large.
    pub fn from_extents(id: &str, extents: &[Extent]) -> Result<Self, DiskError> {
        Ok(Self::new(id, Box::new(Extents::open(extents)?)))
    }

    /// A read-write disk in the file at `path`, whose length is the disk's.
    ///
    /// # Errors
    /// If the file cannot be opened or is shorter than a sector.
    pub fn from_file(id: &str, path: &Path) -> Result<Self, DiskError> {
        Ok(Self::new(id, Box::new(RawFile::open(path)?)))
    }

    /// A disk with `backend`, whose `id` the guest sees as its serial number, cut after 20 bytes.
    fn new(id: &str, backend: Box<dyn Backend>) -> Self {
        let mut padded = [0; ID_BYTES];
        for (byte, letter) in padded.iter_mut().zip(id.bytes()) {
            *byte = letter;
        }
        let config = config_space(backend.size(), !backend.is_read_only());
        Self { backend, config, id: padded, failure_logged: false }
    }

    /// Answers one request and returns how many bytes of the chain were written.
    fn answer(&mut self, memory: &GuestMemoryMmap, chain: DescriptorChain<&GuestMemoryMmap>) -> u32 {
        let Ok((readable, mut writable)) = Buffers::split_chain(memory, chain) else { return 0 };
        let status = writable.take_back(1);
        if status.len() == 0 {
            return 0;
        }
        let (code, length) = match parse(readable, writable, self.backend.size()) {
            Err(Refusal::Invalid) => (VIRTIO_BLK_S_IOERR, 0),
            Err(Refusal::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
            Ok(operation) => match self.execute(operation) {
                Ok(length) => (VIRTIO_BLK_S_OK, length),
                Err(error) => {
                    self.log(&error);
                    (VIRTIO_BLK_S_IOERR, 0)
                }
            },
        };
        status.copy_from(&[u8::try_from(code).unwrap_or(u8::MAX)]);
        u32::try_from(length).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Does what is asked and returns how many bytes were written to guest memory.
    fn execute(&self, operation: Operation<'_>) -> io::Result<usize> {
        match operation {
            Operation::Read { offset, data } => {
                let length = data.len();
                self.backend.read(offset, data).map(|()| length)
            }
            Operation::Write { offset, data } => self.backend.write(offset, data).map(|()| 0),
            Operation::Flush => self.backend.flush().map(|()| 0),
            Operation::Identify { data } => Ok(data.copy_from(&self.id)),
            Operation::Discard { ranges } => {
                ranges.into_iter().try_for_each(|range| self.backend.discard(range)).map(|()| 0)
            }
            Operation::WriteZeroes { ranges } => {
                ranges.into_iter().try_for_each(|range| self.backend.write_zeroes(range)).map(|()| 0)
            }
        }
    }

    fn log(&mut self, error: &io::Error) {
        let by_the_guest = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
        if !by_the_guest && !std::mem::replace(&mut self.failure_logged, true) {
            let id = String::from_utf8_lossy(&self.id);
            let disk = id.trim_end_matches('\0');
            tracing::warn!(disk, %error, "the host could not read or write a disk; the guest sees I/O errors");
        }
    }
}

impl fmt::Debug for BlockDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlockDevice").field("size", &self.backend.size()).finish_non_exhaustive()
    }
}

impl VirtioDevice for BlockDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURES | if self.backend.is_read_only() { 1 << VIRTIO_BLK_F_RO } else { WRITABLE_FEATURES }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, _features: u64) {}

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(index) else { return Ok(()) };
        loop {
            queue.disable_notification()?;
            while let Some(chain) = queue.pop()? {
                let head = chain.head_index();
                let length = self.answer(queue.memory(), chain);
                queue.push(head, length)?;
            }
            if !queue.enable_notification()? {
                return Ok(());
            }
        }
    }

    fn reset(&mut self) {}

    fn save(&self) -> DeviceState {
        DeviceState::Block(BlockState { size: self.backend.size(), failure_logged: self.failure_logged })
    }

    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        let DeviceState::Block(state) = state else {
            return Err(RestoreError::kind(self.kind(), &state));
        };
        let found = self.backend.size();
        if state.size != found {
            return Err(RestoreError::Disk { expected: state.size, found });
        }
        self.failure_logged = state.failure_logged;
        Ok(())
    }
}
