//! What is behind a disk: the extents of an image, or one file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::request::{Range, SECTOR_BYTES};
use crate::config::Extent;
use crate::sys::vectored;
use crate::virtio::buffers::Buffers;

/// Why a disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not something that a disk can be made of.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// A disk has at least one sector, and no more than 2^63 bytes.
    #[error("a disk of {size} bytes is not possible")]
    Size {
        /// The size that it would have, in bytes.
        size: u64,
    },
}

/// A disk's contents. Offsets and lengths are within its size and whole sectors, which the device has checked.
pub(super) trait Backend: Send {
    /// Size in bytes, a multiple of the sector.
    fn size(&self) -> u64;

    /// Whether every change fails.
    fn is_read_only(&self) -> bool;

    /// Fills `data` from `offset`.
    fn read(&self, offset: u64, data: Buffers<'_>) -> io::Result<()>;

    /// Writes `data` at `offset`.
    fn write(&self, _offset: u64, _data: Buffers<'_>) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Makes what was written lasting.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Gives the range's space back if possible.
    fn discard(&self, _range: Range) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Makes the range read as zeros.
    fn write_zeroes(&self, _range: Range) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A read-only disk put together from runs of files.
#[derive(Debug)]
pub(super) struct Extents {
    files: Vec<File>,
    /// In the order of the disk, without gaps.
    runs: Vec<Run>,
    size: u64,
}

/// An extent with its place on the disk.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    length: u64,
    file: usize,
    offset: u64,
}

impl Extents {
    /// Opens each file once.
    pub(super) fn open(extents: &[Extent]) -> Result<Self, DiskError> {
        let mut files = Vec::new();
        let mut known: HashMap<&Path, usize> = HashMap::new();
        let mut runs = Vec::with_capacity(extents.len());
        let mut start = 0_u64;
        for extent in extents.iter().filter(|extent| extent.length > 0) {
            let file = match known.get(extent.file.as_path()) {
                Some(file) => *file,
                None => {
                    files.push(open_regular(&extent.file, OpenOptions::new().read(true))?);
                    let file = files.len().saturating_sub(1);
                    known.insert(&extent.file, file);
                    file
                }
            };
            let (length, offset) = (extent.length, extent.offset);
            runs.push(Run { start, length, file, offset });
            let end = start.checked_add(length).filter(|_| offset.checked_add(length).is_some());
            start = end.ok_or(DiskError::Size { size: u64::MAX })?;
        }
        check_size(start)?;
        Ok(Self { files, runs, size: start })
    }
}

impl Backend for Extents {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, mut data: Buffers<'_>) -> io::Result<()> {
        let mut position = offset;
        let first = self.runs.partition_point(|run| run.start <= offset).saturating_sub(1);
        for run in self.runs.iter().skip(first) {
            if data.len() == 0 {
                break;
            }
            let skipped = position.saturating_sub(run.start);
            let here = usize::try_from(run.length.saturating_sub(skipped)).unwrap_or(usize::MAX);
            let part = data.take_front(here);
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            let file = self.files.get(run.file).ok_or(io::ErrorKind::NotFound)?;
            read_run(file, run.offset.saturating_add(skipped), part)?;
            position = position.saturating_add(length);
        }
        if data.len() == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// A read-write disk in one sparse file.
#[derive(Debug)]
pub(super) struct RawFile {
    file: File,
    size: u64,
}

impl RawFile {
    /// Opens the file; what does not fill a sector at its end is left out.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = open_regular(path, OpenOptions::new().read(true).write(true))?;
        let length =
            file.metadata().map_err(|source| DiskError::Open { path: path.to_owned(), source })?.len();
        let size = length.saturating_sub(length.checked_rem(SECTOR_BYTES).unwrap_or(0));
        check_size(size)?;
        Ok(Self { file, size })
    }

    /// Writes zeros where the file system cannot make a hole.
    fn fill(&self, range: Range) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let end = range.offset.saturating_add(range.length);
        let mut position = range.offset;
        while position < end {
            let length = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file.write_all_at(ZEROS.get(..length).unwrap_or(&ZEROS), position)?;
            position = position.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

impl Backend for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, data: Buffers<'_>) -> io::Result<()> {
        read_run(&self.file, offset, data)
    }

    fn write(&self, offset: u64, mut data: Buffers<'_>) -> io::Result<()> {
        let mut position = offset;
        while data.len() > 0 {
            match vectored::write_at(self.file.as_fd(), data.slices(), position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) if count >= data.len() => return Ok(()),
                Ok(count) => {
                    data.take_front(count);
                    position = position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, range: Range) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match allocate(&self.file, mode, range) {
            // Discarding is advice.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, range: Range) -> io::Result<()> {
        let how = if range.unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match allocate(&self.file, how | FallocateFlags::KEEP_SIZE, range) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.fill(range),
            result => result,
        }
    }
}

/// Opens a regular file.
fn open_regular(path: &Path, options: &OpenOptions) -> Result<File, DiskError> {
    let open = |source| DiskError::Open { path: path.to_owned(), source };
    let file = options.open(path).map_err(open)?;
    let kind = file.metadata().map_err(open)?.file_type();
    if kind.is_file() { Ok(file) } else { Err(DiskError::NotAFile { path: path.to_owned() }) }
}

fn check_size(size: u64) -> Result<(), DiskError> {
    if size >= SECTOR_BYTES && i64::try_from(size).is_ok() { Ok(()) } else { Err(DiskError::Size { size }) }
}

/// Fills `data` from `offset` of `file`, with zeros behind its end.
fn read_run(file: &File, offset: u64, mut data: Buffers<'_>) -> io::Result<()> {
    let mut position = offset;
    while data.len() > 0 {
        match vectored::read_at(file.as_fd(), data.slices(), position) {
            Ok(0) => {
                data.zero();
                return Ok(());
            }
            Ok(count) if count >= data.len() => return Ok(()),
            Ok(count) => {
                data.take_front(count);
                position = position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn allocate(file: &File, mode: FallocateFlags, range: Range) -> io::Result<()> {
    if range.length == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, mode, range.offset, range.length) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return Err(io::ErrorKind::Unsupported.into()),
            result => return Ok(result?),
        }
    }
}
