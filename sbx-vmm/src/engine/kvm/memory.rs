//! Guest memory: one memfd, mapped shared.

use std::fs::File;
use std::io;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use crate::arch;
use crate::sys::memory::advise;

/// Makes memory of `bytes`. What the guest has not touched takes no space.
pub(super) fn guest_memory(bytes: u64) -> io::Result<GuestMemoryMmap> {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    ftruncate(&file, bytes)?;
    // Nobody can make it shorter any more, which would kill whoever touches what is gone.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let mut offset = 0_u64;
    let mut ranges = Vec::new();
    for (start, length) in arch::memory_ranges(bytes) {
        let size = usize::try_from(length).map_err(io::Error::other)?;
        let place = FileOffset::new(file.try_clone()?, offset);
        ranges.push((GuestAddress(start), size, Some(place)));
        offset = offset.saturating_add(length);
    }
    let memory = GuestMemoryMmap::from_ranges_with_files(ranges).map_err(io::Error::other)?;
    advise(&memory);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemory, GuestMemoryRegion};

    use super::*;

    #[test]
    fn memory_has_a_gap_below_4_gib_and_no_byte_twice() {
        let memory = guest_memory(5 << 30).unwrap();
        let ranges: Vec<_> = memory.iter().map(|region| (region.start_addr().0, region.len())).collect();
        assert_eq!(ranges, [(0, 0xd000_0000), (1 << 32, (5 << 30) - 0xd000_0000)]);
        memory.write_obj(7_u32, GuestAddress(1 << 32)).unwrap();
        memory.write_obj(8_u32, GuestAddress(0)).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(1 << 32)).unwrap(), 7);
        assert!(memory.read_obj::<u32>(GuestAddress(0xd000_0000)).is_err());
    }
}
