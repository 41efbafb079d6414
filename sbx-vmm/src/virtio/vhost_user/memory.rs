//! Guest memory as the peer shares it, and the translation of the peer's addresses.

use std::fs::File;
use std::io;

use rustix::fs::{SealFlags, fcntl_get_seals};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost::vhost_user::{Error as ProtocolError, Result as ProtocolResult};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// All guest memory, mapped here.
#[derive(Debug)]
pub(super) struct SharedMemory {
    memory: GuestMemoryMmap,
    windows: Vec<Window>,
}

/// A region: the peer names addresses of rings in its own address space.
#[derive(Debug)]
struct Window {
    peer: u64,
    guest: u64,
    length: u64,
}

impl SharedMemory {
    /// Maps what SET_MEM_TABLE says.
    ///
    /// The files must be memfds sealed against shrinking, as QEMU's `memory-backend-memfd` makes them: touching a
    /// page behind the end of a file would kill this process.
    pub(super) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> ProtocolResult<Self> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut windows = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            let seals = fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
            if !seals.contains(SealFlags::SHRINK) {
                return Err(refuse("guest memory is not a memfd sealed against shrinking"));
            }
            let guest = region.guest_phys_addr;
            windows.push(Window { peer: region.user_addr, guest, length: region.memory_size });
            let mapping = GuestRegionMmap::new(region.mmap_region(file)?, GuestAddress(guest));
            let mapping = mapping.ok_or_else(|| refuse("a region of guest memory ends behind 2^64"))?;
            mapped.push((guest, mapping));
        }
        mapped.sort_by_key(|(guest, _)| *guest);
        let regions = mapped.into_iter().map(|(_, mapping)| mapping).collect();
        let memory = GuestMemoryMmap::from_regions(regions)
            .map_err(|error| ProtocolError::ReqHandlerError(io::Error::other(error)))?;
        Ok(Self { memory, windows })
    }

    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The guest physical address of what the peer has at `address`.
    pub(super) fn translate(&self, address: u64) -> Option<GuestAddress> {
        self.windows.iter().find_map(|window| {
            let offset = address.checked_sub(window.peer)?;
            (offset < window.length).then(|| window.guest.checked_add(offset).map(GuestAddress))?
        })
    }
}

/// A refusal with its reason, which ends the connection.
pub(super) fn refuse(reason: &'static str) -> ProtocolError {
    ProtocolError::ReqHandlerError(io::Error::new(io::ErrorKind::InvalidInput, reason))
}
