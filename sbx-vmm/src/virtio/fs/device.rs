//! The virtio-fs device: takes FUSE messages out of the queues and puts the answers back.
//!
//! ```text
//! chain:  readable [ fuse_in_header | arguments | data … ]   writable [ fuse_out_header | reply | data … ]
//! ```
//!
//! Data of reads and writes goes between file and guest memory in one system call, without a copy of ours. The
//! message is decoded by fuse-backend-rs; what it refuses to decode is answered here, so that a driver that sends
//! rubbish gets an error and not a hung request.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode, OutHeader};
use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{Reader, VirtioFsWriter, Writer};
use virtio_queue::DescriptorChain;
use vm_memory::{ByteValued, GuestMemoryMmap};

use super::SharedDirectories;
use crate::virtio::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// The queue for FORGET and other messages that must not wait, and the queue for everything else.
///
/// Linux takes the size of the request queue, less four descriptors, as the limit of pages in a request, so 1024 is
/// what lets it use the 256 pages (1 MiB) that the server offers. QEMU knows one size for both queues.
const QUEUE_SIZES: [u16; 2] = [1024, 1024];

/// Length of the tag in the configuration space, in bytes (virtio 1.2, 5.11.4).
const TAG_BYTES: usize = 36;

/// A virtio-fs device.
pub struct FsDevice {
    file_system: Arc<SharedDirectories>,
    server: Server<Arc<SharedDirectories>>,
    config: Vec<u8>,
}

impl FsDevice {
    /// Serves `file_system` under `tag`, which is cut after 36 bytes.
    pub(super) fn new(tag: &str, file_system: SharedDirectories) -> Self {
        let mut config = vec![0_u8; TAG_BYTES];
        for (byte, letter) in config.iter_mut().zip(tag.bytes()) {
            *byte = letter;
        }
        config.extend_from_slice(&1_u32.to_le_bytes());
        let file_system = Arc::new(file_system);
        Self { server: Server::new(Arc::clone(&file_system)), file_system, config }
    }

    /// What is served.
    #[cfg(test)]
    pub(super) fn file_system(&self) -> &SharedDirectories {
        &self.file_system
    }

    /// Handles one message and returns the length of the answer.
    fn answer(&self, memory: &GuestMemoryMmap, chain: DescriptorChain<&GuestMemoryMmap>) -> u32 {
        let Ok(reader) = Reader::from_descriptor_chain(memory, chain.clone()) else { return 0 };
        let Ok(writer) = VirtioFsWriter::new(memory, chain) else { return 0 };
        let (mut header_reader, refusal) = (reader.clone(), writer.clone());
        let written = match self.server.handle_message(reader, Writer::from(writer), None, None) {
            Ok(written) => written,
            Err(_) => refuse(&mut header_reader, refusal),
        };
        u32::try_from(written).unwrap_or(0)
    }
}

impl fmt::Debug for FsDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FsDevice").finish_non_exhaustive()
    }
}

impl VirtioDevice for FsDevice {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Fs
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, _features: u64) {}

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(index) else {
            return Err(DeviceError::Protocol {
                what: "the driver kicked a queue that virtio-fs does not have",
            });
        };
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

    fn reset(&mut self) {
        self.file_system.destroy();
    }

    fn save(&self) -> DeviceState {
        DeviceState::Fs(self.file_system.lock().save())
    }

    /// The guest sends no INIT a second time. Without one fuse-backend-rs takes it that the guest's version of the
    /// protocol is its own, and differs for those only that are older than any Linux with virtio-fs.
    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        match state {
            DeviceState::Fs(state) => self.file_system.lock().restore(state),
            other => Err(RestoreError::kind(self.kind(), &other)),
        }
    }
}

/// Answers a message that could not be decoded with EINVAL, and one that wants no answer with nothing.
fn refuse(header: &mut Reader<'_>, mut writer: VirtioFsWriter<'_>) -> usize {
    let mut bytes = InHeader::default();
    if header.read_exact(bytes.as_mut_slice()).is_err() {
        return 0;
    }
    if [Opcode::Forget as u32, Opcode::BatchForget as u32, Opcode::Interrupt as u32].contains(&bytes.opcode) {
        return 0;
    }
    let length = size_of::<OutHeader>();
    let answer = OutHeader {
        len: u32::try_from(length).unwrap_or(0),
        error: rustix::io::Errno::INVAL.raw_os_error().wrapping_neg(),
        unique: bytes.unique,
    };
    match writer.write_all(answer.as_slice()) {
        Ok(()) => length,
        Err(_) => 0,
    }
}
