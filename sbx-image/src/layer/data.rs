//! Writer of a layer's `data`: file contents one after the other, each starting at a block.
//!
//! ```text
//!     block   0        1        2        3 … 5            6
//!            │ file A          │ file B │ hole of file C │ file C │ …      the last block of a file is padded with zeros
//! ```
//!
//! Holes are left out on the disk as well; the blocks that were written are listed (`ranges`), so that re-hashing a
//! layer never reads terabytes of nothing. One buffer takes everything: contents are read into it where they will
//! stay until it is written, small files share one `write`.
//!
//! The file is written past the page cache where the file system can do that (`O_DIRECT`). A pull writes gigabytes of
//! which a machine reads a small part: copying all of it into the cache, and out again to sync it, was a tenth of a
//! pull's processor time, and what the cache held before would have to go. It also means that writing goes on while
//! the layer arrives, instead of when it is synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::node::BLOCK_BYTES;

/// Size of the one buffer in bytes: enough for full throughput of the disk and of BLAKE3, small enough for the cache.
const BUFFER_BYTES: usize = 1 << 20;

/// Where in memory the buffer has to begin for `O_DIRECT`, in bytes: no device asks for more than a page.
const ALIGNMENT_BYTES: usize = 4096;

/// Blocks of `data` that hold contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRange {
    pub(crate) first_block: u64,
    pub(crate) blocks: u64,
}

/// What has been written.
#[derive(Debug)]
pub(crate) struct Written {
    /// Length of `data` in bytes, holes included: a multiple of the block size.
    pub(crate) length: u64,
    /// Blocks that were written, ascending, apart from each other.
    pub(crate) ranges: Vec<BlockRange>,
    /// BLAKE3 over the contents of `ranges`.
    pub(crate) digest: [u8; 32],
}

/// Appends to `data`.
#[derive(Debug)]
pub(crate) struct DataWriter {
    file: File,
    /// Whether the file has `O_DIRECT` set.
    direct: bool,
    buffer: AlignedBuffer,
    filled: usize,
    /// Where the buffer's first byte goes in the file.
    offset: u64,
    hasher: blake3::Hasher,
    ranges: Vec<BlockRange>,
    /// Where the range that is being written began.
    range_start: u64,
}

impl DataWriter {
    /// Writes to the empty `file`.
    pub(crate) fn new(file: File) -> Self {
        Self {
            direct: set_direct(&file, true).is_ok(),
            file,
            buffer: AlignedBuffer::new(),
            filled: 0,
            offset: 0,
            hasher: blake3::Hasher::new(),
            ranges: Vec::new(),
            range_start: 0,
        }
    }

    /// Bytes of the file so far, holes included.
    pub(crate) fn position(&self) -> u64 {
        self.offset.saturating_add(u64::try_from(self.filled).unwrap_or(u64::MAX))
    }

    /// Bytes of the file so far without holes.
    pub(crate) fn written_bytes(&self) -> u64 {
        let blocks = self.ranges.iter().map(|range| range.blocks).fold(0u64, u64::saturating_add);
        let ended = blocks.saturating_mul(BLOCK_BYTES);
        ended.saturating_add(self.position().saturating_sub(self.range_start))
    }

    /// Space for contents to be read into, of at least one byte and at most `most` (which must not be 0).
    pub(crate) fn space(&mut self, most: u64) -> io::Result<&mut [u8]> {
        if self.filled == BUFFER_BYTES {
            self.flush()?;
        }
        let free = BUFFER_BYTES.saturating_sub(self.filled);
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(free);
        let end = self.filled.saturating_add(length);
        Ok(self.buffer.bytes_mut().get_mut(self.filled..end).unwrap_or_default())
    }

    /// Appends the first `count` bytes of what [`DataWriter::space`] gave.
    pub(crate) fn commit(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(BUFFER_BYTES);
    }

    /// Appends zeros.
    pub(crate) fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let space = self.space(count)?;
            space.fill(0);
            let written = space.len();
            self.commit(written);
            count = count.saturating_sub(u64::try_from(written).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Fills the last block with zeros.
    pub(crate) fn pad(&mut self) -> io::Result<()> {
        self.zeros(self.position().wrapping_neg() % BLOCK_BYTES)
    }

    /// Leaves a hole of `count` bytes; what is left of the current block and of the hole's last block is written as zeros.
    pub(crate) fn skip(&mut self, count: u64) -> io::Result<()> {
        let head = (self.position().wrapping_neg() % BLOCK_BYTES).min(count);
        self.zeros(head)?;
        let rest = count.saturating_sub(head);
        let hole = rest.saturating_sub(rest % BLOCK_BYTES);
        if hole > 0 {
            self.flush()?;
            self.end_range();
            self.offset = self.offset.saturating_add(hole);
            self.range_start = self.offset;
        }
        self.zeros(rest.saturating_sub(hole))
    }

    /// Writes what is left, and sets the file's length, which a hole at its end needs.
    pub(crate) fn finish(mut self) -> io::Result<Written> {
        self.pad()?;
        self.flush()?;
        self.end_range();
        self.file.set_len(self.offset)?;
        Ok(Written { length: self.offset, ranges: self.ranges, digest: *self.hasher.finalize().as_bytes() })
    }

    /// Writes the buffer, which ends at a block boundary.
    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.buffer.bytes().get(..self.filled).unwrap_or_default();
        match self.file.write_all_at(bytes, self.offset) {
            // The file system takes the flag but not these blocks, which are smaller than its own.
            Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                set_direct(&self.file, false)?;
                self.direct = false;
                self.file.write_all_at(bytes, self.offset)?;
            }
            result => result?,
        }
        self.hasher.update(bytes);
        self.offset = self.position();
        self.filled = 0;
        Ok(())
    }

    /// Only with an empty buffer, at a block boundary.
    fn end_range(&mut self) {
        let (first_block, end) = (self.range_start / BLOCK_BYTES, self.offset / BLOCK_BYTES);
        let blocks = end.saturating_sub(first_block);
        if blocks == 0 {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if last.first_block.saturating_add(last.blocks) == first_block => {
                last.blocks = last.blocks.saturating_add(blocks);
            }
            _ => self.ranges.push(BlockRange { first_block, blocks }),
        }
    }
}

/// Memory that `O_DIRECT` can write from.
#[derive(Debug)]
struct AlignedBuffer {
    /// More than [`BUFFER_BYTES`], by what has to be left out before the first aligned byte.
    memory: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let memory = vec![0; BUFFER_BYTES.saturating_add(ALIGNMENT_BYTES)];
        let start = memory.as_ptr().align_offset(ALIGNMENT_BYTES).min(ALIGNMENT_BYTES);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).and_then(|bytes| bytes.get(..BUFFER_BYTES)).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.memory.get_mut(self.start..);
        bytes.and_then(|bytes| bytes.get_mut(..BUFFER_BYTES)).unwrap_or_default()
    }
}

/// Sets or clears `O_DIRECT`, which some file systems do not have.
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_neither_written_nor_hashed_and_small_writes_join() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = DataWriter::new(file.try_clone().unwrap());
        writer.space(3).unwrap().copy_from_slice(b"abc");
        writer.commit(3);
        writer.pad().unwrap();
        assert_eq!(writer.position(), 4096);
        writer.skip(1 << 40).unwrap();
        writer.skip(5000).unwrap();
        writer.space(1).unwrap().copy_from_slice(b"d");
        writer.commit(1);
        let written = writer.finish().unwrap();

        let tail = (1 << 40) + 4096 + 4096;
        assert_eq!(written.length, tail + 4096);
        assert_eq!(
            written.ranges,
            [BlockRange { first_block: 0, blocks: 1 }, BlockRange { first_block: (tail) / 4096, blocks: 1 }]
        );
        let mut expected = vec![0; 8192];
        expected[..3].copy_from_slice(b"abc");
        expected[4096 + 904] = b'd';
        assert_eq!(written.digest, *blake3::hash(&expected).as_bytes());
        assert_eq!(file.metadata().unwrap().len(), written.length);
        set_direct(&file, false).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, tail + 904).unwrap();
        assert_eq!(&byte, b"d");
    }

    #[test]
    fn what_is_too_small_for_direct_writes_is_written_all_the_same() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = DataWriter::new(file.try_clone().unwrap());
        // Four bytes are no block of any device.
        writer.space(4).unwrap().copy_from_slice(b"abcd");
        writer.commit(4);
        writer.flush().unwrap();
        writer.pad().unwrap();
        let written = writer.finish().unwrap();
        assert_eq!(written.length, 4096);
        set_direct(&file, false).unwrap();
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abcd\0");
    }

    #[test]
    fn the_buffer_is_aligned_and_whole() {
        let mut buffer = AlignedBuffer::new();
        assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT_BYTES), 0);
        assert_eq!((buffer.bytes().len(), buffer.bytes_mut().len()), (BUFFER_BYTES, BUFFER_BYTES));
    }
}
