//! The kernel and its initramfs, loaded into guest memory.
//!
//! ```text
//! 1 MiB … kernel, where it was linked … │ … │ initramfs, at the end of the memory below 4 GiB
//! ```

use std::fs::File;
use std::io;
use std::path::Path;

use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

use crate::arch;

/// Alignment of the initramfs in bytes: a page.
const PAGE_BYTES: u64 = 4096;

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file cannot be opened or read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is no kernel.
    #[error("it is not an ELF kernel, or does not fit into the machine's memory")]
    Kernel(#[source] linux_loader::loader::Error),
    /// It is a kernel for something else.
    #[error("its entry at {entry:#x} is not in the machine's memory")]
    Entry {
        /// Where it would be entered.
        entry: u64,
    },
    /// Memory is too small.
    #[error("{bytes} bytes do not fit into the machine's memory besides the kernel")]
    Memory {
        /// How large it is.
        bytes: u64,
    },
    /// The command line is too long.
    #[error("the kernel takes a command line of {most} bytes, and this one has {bytes}")]
    CommandLine {
        /// Its length.
        bytes: usize,
        /// The most.
        most: usize,
    },
}

/// A kernel in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Kernel {
    /// Where it is entered.
    pub(super) entry: u64,
    /// The first address behind it.
    pub(super) end: u64,
}

/// Loads the ELF at `path` to where it was linked.
pub(super) fn load_kernel(memory: &GuestMemoryMmap, path: &Path) -> Result<Kernel, BootError> {
    let mut file = File::open(path).map_err(BootError::Read)?;
    let start = Some(GuestAddress(arch::KERNEL_START));
    let loaded = Elf::load(memory, None, &mut file, start).map_err(BootError::Kernel)?;
    let (entry, end) = (loaded.kernel_load.0, loaded.kernel_end);
    if entry >= end || !memory.address_in_range(loaded.kernel_load) {
        return Err(BootError::Entry { entry });
    }
    Ok(Kernel { entry, end })
}

/// Loads the file at `path` behind the kernel, as high as the kernel can reach, and returns address and length.
pub(super) fn load_initramfs(
    memory: &GuestMemoryMmap,
    path: &Path,
    kernel: Kernel,
    memory_bytes: u64,
) -> Result<(u64, u64), BootError> {
    let mut file = File::open(path).map_err(BootError::Read)?;
    let bytes = file.metadata().map_err(BootError::Read)?.len();
    let start = arch::initramfs_end(memory_bytes).checked_sub(bytes).map(|start| start & !(PAGE_BYTES - 1));
    let start = start.filter(|start| *start >= kernel.end).ok_or(BootError::Memory { bytes })?;
    let count = usize::try_from(bytes).map_err(|_| BootError::Memory { bytes })?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, count)
        .map_err(|error| BootError::Read(io::Error::other(error)))?;
    Ok((start, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::memory::guest_memory;
    use super::*;

    fn failure<T: std::fmt::Debug>(
        bytes: &[u8],
        load: impl FnOnce(&GuestMemoryMmap, &Path) -> Result<T, BootError>,
    ) -> BootError {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        load(&guest_memory(16 << 20).unwrap(), &path).unwrap_err()
    }

    fn elf(entry: u64, address: u64, size: u64) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        elf.extend([entry.to_le_bytes(), 64_u64.to_le_bytes(), [0; 8]].concat());
        elf.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\x40\0\0\0\0\0");
        elf.extend(b"\x01\0\0\0\x07\0\0\0");
        for field in [0, address, address, 4, size, 4096] {
            elf.extend(field.to_le_bytes());
        }
        elf
    }

    #[test]
    fn what_is_no_kernel_for_this_machine_is_refused() {
        let load = |bytes: &[u8]| failure(bytes, load_kernel);
        for bytes in
            [&b""[..], b"#!/bin/sh\n", &[0; 4096], &elf(0x10_0000, 16 << 20, 4), &elf(0x1000, 0x1000, 4)]
        {
            assert!(matches!(load(bytes), BootError::Kernel(_)), "{bytes:?}");
        }
        let error = load(&elf(0x100_0000, 0x10_0000, 8));
        assert_eq!(error.to_string(), "its entry at 0x1000000 is not in the machine's memory");
        assert!(matches!(
            load_kernel(&guest_memory(1 << 20).unwrap(), Path::new("/nowhere")),
            Err(BootError::Read(_))
        ));
    }

    #[test]
    fn a_kernel_is_loaded_where_it_was_linked_and_the_initramfs_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let memory = guest_memory(16 << 20).unwrap();
        let path = directory.path().join("kernel");
        std::fs::write(&path, elf(0x20_0000, 0x20_0000, 0x1000)).unwrap();
        let kernel = load_kernel(&memory, &path).unwrap();
        assert_eq!(kernel, Kernel { entry: 0x20_0000, end: 0x20_1000 });
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(0x20_0000)).unwrap(), *b"\x7fELF");
        let path = directory.path().join("initramfs");
        std::fs::write(&path, [9; 5000]).unwrap();
        assert_eq!(load_initramfs(&memory, &path, kernel, 16 << 20).unwrap(), ((16 << 20) - 8192, 5000));
        assert_eq!(memory.read_obj::<u8>(GuestAddress((16 << 20) - 8192 + 4999)).unwrap(), 9);
        File::create(&path).unwrap().set_len(15 << 20).unwrap();
        let error = load_initramfs(&memory, &path, kernel, 16 << 20).unwrap_err();
        assert!(matches!(error, BootError::Memory { .. }), "{error}");
    }
}
