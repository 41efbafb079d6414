//! The guest's own disk: a sparse file with an ext4 file system.
//!
//! ```text
//! 0                                                    BUILT_BYTES at most             size of the disk
//! ├── ext4 as made: superblocks, bitmaps, journal, holes ──┼──────────── a hole ─────────────┤
//! ```
//!
//! The file system is made in its full size, unless the disk is very large. The guest that finds the block device larger
//! than the file system (a very large disk, or one whose size in the manifest has grown) grows it online at boot, with
//! `EXT4_IOC_RESIZE_FS`; so growing needs nothing but a longer file here. A file system cannot be made smaller while it
//! may be in use, so that is refused.
//!
//! Blocks of zeros are left as holes, which are most of the bitmaps. Measured for 40 GiB: 20 ms and 352 KiB of disk. The
//! alternative, a small file system that the guest grows at its first boot, takes less than a millisecond here, but
//! 0.3 s of the boot under emulation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mkext4::{FsBuilder, Options, RegionSink};

/// The largest file system that is made here, in bytes; it takes time and disk in proportion to its size.
const BUILT_BYTES: u64 = 64 << 30;

/// The smallest disk that the journal and a little work fit on, in bytes.
pub const MIN_BYTES: u64 = 64 << 20;

/// The largest disk, in bytes: the block numbers of the file system have 32 bits, and blocks 4 KiB.
pub const MAX_BYTES: u64 = 8 << 40;

/// Journal in blocks, 64 MiB, of disks of at least `JOURNAL_FROM_BYTES`; smaller ones have what mke2fs gives them. It
/// cannot be grown later, and once it has been written through it is no hole of the file any more.
const JOURNAL_BLOCKS: u32 = 16_384;
const JOURNAL_FROM_BYTES: u64 = 1 << 30;

/// Sizes are multiples of the file system's blocks, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// Unit in which zeros are left out, in bytes: what host file systems allocate.
const CHUNK_BYTES: usize = 4096;

/// The disk belongs to one machine, nobody ever looks for it by its id.
const UUID: [u8; 16] = *b"sbx scratch disk";

/// Where the magic number of ext4 lies in the image, in bytes, and what it is (fs/ext4/ext4.h).
const MAGIC_OFFSET: u64 = 0x438;
const MAGIC: [u8; 2] = [0x53, 0xef];

/// Why a disk cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Sizes beyond what the file system can have.
    #[error(
        "a disk of {size_bytes} bytes cannot be made: it has at least {MIN_BYTES} and at most {MAX_BYTES}"
    )]
    Size {
        /// The size that was asked for.
        size_bytes: u64,
    },
    /// A file system cannot be made smaller.
    #[error("the disk has {present_bytes} bytes and cannot be made smaller, to {size_bytes}")]
    Shrink {
        /// Its size.
        present_bytes: u64,
        /// The size that was asked for.
        size_bytes: u64,
    },
    /// Something else lies where the disk should be.
    #[error("{path} is not a disk that sbx made")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The host's file system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done to it.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file system could not be laid out.
    #[error("cannot lay out a file system of {size_bytes} bytes")]
    Layout {
        /// Its size.
        size_bytes: u64,
        /// Why not.
        #[source]
        source: mkext4::Error,
    },
}

/// Makes the disk at `path` if there is none, or longer if it has less than `size_bytes` (rounded down to whole
/// blocks). At every moment either the old or the new disk is there.
///
/// # Errors
/// [`ScratchError::Shrink`] if it is larger already, and whatever the host refuses.
pub fn prepare(path: &Path, size_bytes: u64) -> Result<(), ScratchError> {
    let size_bytes = size_bytes - size_bytes % BLOCK_BYTES;
    if !(MIN_BYTES..=MAX_BYTES).contains(&size_bytes) {
        return Err(ScratchError::Size { size_bytes });
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => grow(path, file, size_bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, size_bytes),
        Err(source) => Err(ScratchError::Io { doing: "open", path: path.to_path_buf(), source }),
    }
}

fn grow(path: &Path, file: File, size_bytes: u64) -> Result<(), ScratchError> {
    let failed = |doing| move |source| ScratchError::Io { doing, path: path.to_path_buf(), source };
    let mut magic = [0; 2];
    match file.read_exact_at(&mut magic, MAGIC_OFFSET) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(failed("read")(error)),
        _ if magic != MAGIC => return Err(ScratchError::Foreign { path: path.to_path_buf() }),
        _ => {}
    }
    let present_bytes = file.metadata().map_err(failed("read the size of"))?.len();
    if size_bytes < present_bytes {
        return Err(ScratchError::Shrink { present_bytes, size_bytes });
    }
    if size_bytes > present_bytes {
        file.set_len(size_bytes).map_err(failed("grow"))?;
        file.sync_all().map_err(failed("write"))?;
    }
    Ok(())
}

fn create(path: &Path, size_bytes: u64) -> Result<(), ScratchError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let failed = |doing| {
        let path = temporary.clone();
        move |source| ScratchError::Io { doing, path, source }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("create"))?;
    let built_bytes = size_bytes.min(BUILT_BYTES);
    write_file_system(&file, built_bytes)
        .map_err(|source| match source {
            mkext4::Error::Io(source) => failed("write")(source),
            source => ScratchError::Layout { size_bytes: built_bytes, source },
        })
        .and_then(|()| file.set_len(size_bytes).map_err(failed("grow")))
        .and_then(|()| file.sync_all().map_err(failed("write")))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(failed("rename")))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed("write the directory of"))
}

fn write_file_system(file: &File, size_bytes: u64) -> Result<(), mkext4::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let mut options = Options::new(size_bytes, UUID, i64::try_from(now).unwrap_or(0));
    options.label = Some("sbx-scratch".to_owned());
    // Nothing on the host or in the guest depends on root being able to write to a full disk.
    options.reserved_percent = 0;
    if size_bytes >= JOURNAL_FROM_BYTES {
        options.journal_blocks = Some(JOURNAL_BLOCKS);
    }
    let mut sink = SparseFile(file);
    FsBuilder::new(options)?.seal()?.writer(&mut sink)?.finish()?;
    Ok(())
}

/// An empty file in which zeros stay holes.
struct SparseFile<'a>(&'a File);

impl RegionSink for SparseFile<'_> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut offset = offset;
        for block in bytes.chunks(CHUNK_BYTES) {
            if block.iter().any(|&byte| byte != 0) {
                self.0.write_all_at(block, offset)?;
            }
            offset = offset.saturating_add(block.len() as u64);
        }
        Ok(())
    }

    fn zeros(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    fn check(path: &Path) {
        let output = Command::new("e2fsck").arg("-fn").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn a_new_disk_is_sound_and_costs_next_to_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scratch.ext4");
        for size_bytes in [MIN_BYTES, JOURNAL_FROM_BYTES - 4096, 1 << 30, 40 << 30, MAX_BYTES] {
            prepare(&path, size_bytes + 1).unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), size_bytes);
            assert!(metadata.blocks() * 512 < 1024 * 1024, "{} KiB", metadata.blocks() / 2);
            check(&path);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_disk_grows_and_keeps_its_file_system_but_does_not_shrink() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scratch.ext4");
        prepare(&path, 2 << 30).unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();
        prepare(&path, 3 << 30).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.ino()), (3 << 30, before));
        check(&path);
        let error = prepare(&path, 2 << 30).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk has 3221225472 bytes and cannot be made smaller, to 2147483648"
        );
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scratch.ext4");
        std::fs::write(directory.path().join("scratch.ext4.new"), b"half a disk").unwrap();
        prepare(&path, 1 << 30).unwrap();
        check(&path);
    }

    #[test]
    fn another_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scratch.ext4");
        for content in [Vec::new(), vec![1; 8192]] {
            std::fs::write(&path, &content).unwrap();
            assert!(matches!(prepare(&path, 1 << 30), Err(ScratchError::Foreign { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert!(matches!(prepare(&path, 4096), Err(ScratchError::Size { .. })));
    }
}
