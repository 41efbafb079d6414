//! The sandbox's own disk: ext4 on `/dev/vdb`, where everything lies that is written in the guest.
//!
//! ```text
//! upper/    what differs from the image          (upper directory of the overlay)
//! work/     the overlay's own
//! docker/   /var/lib/docker, which cannot lie on an overlay
//! home/     the user's home, if it is one of its own (module `home`)
//! discarded/   what was thrown away and is being removed (module `discard`)
//! ```
//!
//! The file system has a journal and writes data before the metadata that shows it (`data=ordered`), so a machine
//! that is killed leaves nothing to repair.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::mount::MountFlags;

use crate::console;
use crate::discard::{self, Removal};
use crate::mount::{MountError, make_directory, mount, reconfigure};
use crate::sys::ext4;

/// The block device, second of the machine.
const DEVICE: &str = "/dev/vdb";

/// Where it is mounted, out of sight once the root has been switched.
pub(crate) const MOUNTED: &str = "/scratch";

/// Block groups that are added at once, 64 GiB: as long as that takes, the machine cannot power off, but each step
/// writes anew what describes the whole.
const STEP_GROUPS: u64 = 512;

/// Where the superblock begins, in bytes, and how much of it is read (fs/ext4/ext4.h, `struct ext4_super_block`).
const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 0x154;

/// The mounted disk.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: File,
}

impl Scratch {
    /// Mounts the disk.
    pub(crate) fn mount() -> Result<Self, MountError> {
        // Nothing in the background: uninitialised inode tables stay holes of the sparse file on the host, instead of
        // being filled with zeros. Their groups are marked as unused, so nothing ever reads them. What is deleted
        // becomes a hole again (`discard`).
        let options = c"discard,noinit_itable,no_prefetch_block_bitmaps";
        mount("ext4", DEVICE, Path::new(MOUNTED), MountFlags::NOATIME, options)?;
        let directory = File::open(MOUNTED)
            .map_err(|source| MountError::Prepare { what: "open the scratch disk".to_owned(), source })?;
        Ok(Self { directory })
    }

    /// Makes the directories of the layout. `upper` is what `/` looks like, so it gets owner and mode of the
    /// image's root.
    pub(crate) fn lay_out(&self, image: &Path) -> Result<(), MountError> {
        let upper = Path::new(MOUNTED).join("upper");
        if upper.symlink_metadata().is_ok() {
            return Ok(());
        }
        make_directory(&Path::new(MOUNTED).join("work"))?;
        make_directory(&Path::new(MOUNTED).join("docker"))?;
        // Last, because it says that the others are there.
        make_directory(&upper)?;
        let copy = || -> io::Result<()> {
            let metadata = fs::metadata(image)?;
            chown(&upper, Some(metadata.uid()), Some(metadata.gid()))?;
            fs::set_permissions(&upper, metadata.permissions())
        };
        copy().map_err(|source| MountError::Prepare { what: "prepare the scratch disk".to_owned(), source })
    }

    /// Grows the file system to the size of its device, if that has become larger, while the machine is already used.
    ///
    /// # Errors
    /// If the sizes cannot be read, or there is no thread to be had.
    pub(crate) fn start_to_grow(&self) -> io::Result<Growth> {
        let stop = Arc::new(AtomicBool::new(false));
        let device = File::open(DEVICE)?;
        let mut superblock = [0_u8; SUPERBLOCK_BYTES];
        device.read_exact_at(&mut superblock, SUPERBLOCK_OFFSET)?;
        let size = io::Seek::seek(&mut &device, io::SeekFrom::End(0))?;
        let Some(geometry) = Geometry::parse(&superblock).filter(|geometry| geometry.is_below(size)) else {
            return Ok(Growth { stop, thread: None });
        };
        let directory = self.directory.try_clone()?;
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("grow".to_owned()).stack_size(64 * 1024).spawn(move || {
                if let Err(error) = grow(&directory, geometry, size, &stopped) {
                    console::say(&format!("cannot grow the disk: {error}"));
                }
            })?;
        Ok(Growth { stop, thread: Some(thread) })
    }

    /// Its root directory once more, for who wants to read what was written.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub(crate) fn root(&self) -> io::Result<OwnedFd> {
        self.directory.try_clone().map(OwnedFd::from)
    }

    /// Begins to remove what was thrown away, while the machine is already used.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start_to_remove(&self) -> io::Result<Option<Removal>> {
        discard::start(&self.directory)
    }

    /// Makes the file system read-only, which writes everything out and leaves it clean.
    ///
    /// # Errors
    /// If something still writes to it.
    pub(crate) fn make_clean(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.directory)?;
        Ok(reconfigure(&self.directory, "ro")?)
    }
}

/// The file system on its way to the size of its device.
///
/// At 40 GiB that takes a few tenths of a second under emulation, which nobody should have to wait for: what there is
/// at once is room enough to start.
#[derive(Debug)]
pub(crate) struct Growth {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Growth {
    /// Stops after the current step; the next boot does the rest.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

fn grow(directory: &File, mut geometry: Geometry, size: u64, stop: &AtomicBool) -> io::Result<()> {
    // While the file system allows lazy initialisation, new inode tables are not written out.
    reconfigure(directory, "init_itable")?;
    let mut result = Ok(());
    while let Some(blocks) = geometry.next_step(size) {
        result = ext4::resize(directory, blocks);
        if result.is_err() || stop.load(Ordering::Relaxed) {
            break;
        }
        geometry.blocks = blocks;
    }
    reconfigure(directory, "noinit_itable")?;
    result
}

/// Sizes in an ext4 superblock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Geometry {
    blocks: u64,
    block_bytes: u64,
    /// Groups are grown as a whole where less than this would be left over.
    blocks_per_group: u64,
}

impl Geometry {
    fn parse(superblock: &[u8; SUPERBLOCK_BYTES]) -> Option<Self> {
        let word = |offset: usize| {
            let bytes = superblock.get(offset..)?.first_chunk::<4>()?;
            Some(u64::from(u32::from_le_bytes(*bytes)))
        };
        let magic = superblock.get(0x38..0x3a)?;
        let log_block_size = u32::try_from(word(0x18)?).ok()?;
        let geometry = Self {
            // s_blocks_count_lo and, with the 64bit feature (0x80 of s_feature_incompat), s_blocks_count_hi.
            blocks: word(0x4)? | if word(0x60)? & 0x80 != 0 { word(0x150)? << 32 } else { 0 },
            block_bytes: 1024_u64.checked_shl(log_block_size)?,
            blocks_per_group: word(0x20)?,
        };
        (magic == [0x53, 0xef] && geometry.block_bytes <= 65_536 && geometry.blocks_per_group > 0)
            .then_some(geometry)
    }

    /// Whether a device of `size` bytes has room for more.
    fn is_below(self, size: u64) -> bool {
        self.next_step(size).is_some()
    }

    /// How many blocks to have next on the way to fill a device of `size` bytes; `None` if it is full. A last group
    /// that would be too small for its own metadata is what the kernel leaves out, so that much does not count.
    fn next_step(self, size: u64) -> Option<u64> {
        let fitting = size / self.block_bytes;
        let least = self.blocks_per_group / 16;
        // Whole steps from the start of the disk, so that each adds whole flexible groups.
        let step = self.blocks_per_group.saturating_mul(STEP_GROUPS);
        let next = (self.blocks / step).saturating_add(1).saturating_mul(step).min(fitting);
        (fitting > self.blocks.saturating_add(least)).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(blocks: u32, log_block_size: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0_u8; SUPERBLOCK_BYTES];
        for (offset, value) in [(0x4, blocks), (0x18, log_block_size), (0x20, 32_768), (0x38, 0xef53)] {
            bytes[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        bytes
    }

    #[test]
    fn a_larger_device_is_filled() {
        let geometry = Geometry::parse(&superblock(262_144, 2)).unwrap();
        assert_eq!(geometry, Geometry { blocks: 262_144, block_bytes: 4096, blocks_per_group: 32_768 });
        assert_eq!(geometry.next_step(1 << 30), None);
        assert_eq!(geometry.next_step((1 << 30) + 8192), None);
        assert_eq!(geometry.next_step(1 << 29), None);
        assert_eq!(geometry.next_step(2 << 30), Some(524_288));
    }

    #[test]
    fn a_much_larger_device_is_filled_in_steps() {
        let mut geometry = Geometry::parse(&superblock(262_144, 2)).unwrap();
        let mut steps = Vec::new();
        while let Some(blocks) = geometry.next_step((129 << 30) + 5_000_000) {
            steps.push((blocks * 4096) >> 20);
            geometry.blocks = blocks;
        }
        assert_eq!(steps, [65_536, 131_072, 132_100]);
    }

    #[test]
    fn something_else_than_ext4_is_left_alone() {
        assert_eq!(Geometry::parse(&[0; SUPERBLOCK_BYTES]), None);
        assert_eq!(Geometry::parse(&superblock(1, 40)), None);
    }
}
