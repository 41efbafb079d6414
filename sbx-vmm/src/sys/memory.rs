//! Advice to the kernel about guest memory.

use vm_memory::{GuestMemory, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

/// Asks for huge pages where the kernel has them, and leaves guest memory out of core dumps. It is advice: if the kernel
/// does not take it, the guest is slower or a dump larger.
pub(crate) fn advise(memory: &GuestMemoryMmap) {
    for region in memory.iter() {
        let (Ok(start), Ok(length)) =
            (region.get_host_address(MemoryRegionAddress(0)), usize::try_from(region.len()))
        else {
            continue;
        };
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_DONTDUMP] {
            // SAFETY: the range is the region's whole mapping, which lives as long as `memory` is borrowed; neither
            // advice changes what is in it.
            unsafe { libc::madvise(start.cast(), length, advice) };
        }
    }
}
