//! How a sparse file is laid out: in chunks, of which only those with contents exist.
//!
//! EROFS describes holes per chunk of a file. Chunks are as small as a table of [`CHUNKS_MAX`] entries allows: 4 KiB up
//! to a file of 64 MiB, 64 MiB for one of a terabyte. A chunk with contents has its full size in `data`; what the
//! tar leaves out of it is a hole there, on the host's disk.

use crate::layer::sparse::Segment;
use crate::node::{BLOCK_BYTES, ChunkRun, Content, chunk_count};

/// Most chunks of one file: 64 KiB of metadata in a snapshot.
const CHUNKS_MAX: u64 = 1 << 14;

/// Gaps below this size in bytes are written as zeros: many small files on a disk cost more than a few zeros.
const HOLE_BYTES_MIN: u64 = 64 << 10;

/// One step of writing the file to `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes from the tar.
    Copy(u64),
    /// So many zeros.
    Zeros(u64),
    /// A hole of so many bytes.
    Skip(u64),
}

/// Layout of one sparse file.
#[derive(Debug)]
pub(crate) struct Plan {
    chunk_bits: u8,
    /// First chunk and number of chunks, ascending, apart from each other.
    runs: Vec<(u64, u64)>,
    steps: Vec<Step>,
    device_bytes: u64,
    /// There are no holes to tell the guest of.
    dense: bool,
}

impl Plan {
    /// Plans a file of `size` bytes whose segments have passed [`crate::layer::sparse::check`].
    pub(crate) fn new(size: u64, segments: &[Segment]) -> Self {
        let chunk_bits = (0u8..).find(|bits| chunk_count(size, *bits) <= CHUNKS_MAX).unwrap_or_default();
        let chunk = BLOCK_BYTES << chunk_bits;
        let filled: Vec<Segment> = segments.iter().copied().filter(|segment| segment.length > 0).collect();
        let runs = runs(&filled, chunk);
        let mut steps = Vec::new();
        let mut device_bytes = 0u64;
        let mut pieces = filled.iter().copied().peekable();
        for (first, count) in &runs {
            let mut position = first.saturating_mul(chunk);
            let end = first.saturating_add(*count).saturating_mul(chunk).min(size);
            device_bytes =
                device_bytes.saturating_add(end.saturating_sub(position).next_multiple_of(BLOCK_BYTES));
            while let Some(piece) = pieces.next_if(|piece| piece.offset < end) {
                push_gap(&mut steps, piece.offset.saturating_sub(position));
                steps.push(Step::Copy(piece.length));
                position = piece.end();
            }
            push_gap(&mut steps, end.saturating_sub(position));
        }
        let dense = runs == [(0, chunk_count(size, chunk_bits))];
        Self { chunk_bits, runs, steps, device_bytes, dense }
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Length that the file takes in `data`, in bytes.
    pub(crate) fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// Bytes that will be written to the disk, at most.
    pub(crate) fn written_bytes(&self) -> u64 {
        let steps = self.steps.iter().map(|step| match *step {
            Step::Copy(bytes) | Step::Zeros(bytes) => bytes,
            // The blocks that a hole begins and ends in.
            Step::Skip(_) => BLOCK_BYTES.saturating_mul(2),
        });
        steps.fold(BLOCK_BYTES, u64::saturating_add)
    }

    /// What the node says, once the file has been written from `first_block` on.
    pub(crate) fn content(&self, first_block: u32) -> Content<'static> {
        if self.dense {
            return Content::Blocks { first_block };
        }
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut block = u64::from(first_block);
        let runs = self.runs.iter().map(|(first, count)| {
            let run =
                ChunkRun { first_chunk: narrow(*first), chunks: narrow(*count), first_block: narrow(block) };
            block = block.saturating_add(count.saturating_mul(1 << self.chunk_bits));
            run
        });
        Content::Chunks { chunk_bits: self.chunk_bits, runs: runs.collect() }
    }
}

/// Chunks that the segments touch.
fn runs(segments: &[Segment], chunk: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for segment in segments {
        let first = segment.offset / chunk;
        let end = segment.end().div_ceil(chunk);
        match runs.last_mut() {
            Some((start, count)) if start.saturating_add(*count) >= first => {
                *count = end.saturating_sub(*start);
            }
            _ => runs.push((first, end.saturating_sub(first))),
        }
    }
    runs
}

fn push_gap(steps: &mut Vec<Step>, bytes: u64) {
    match bytes {
        0 => {}
        1..HOLE_BYTES_MIN => steps.push(Step::Zeros(bytes)),
        _ => steps.push(Step::Skip(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn holes_cost_no_blocks() {
        let plan = Plan::new(4 << 30, &[segment(0, 10), segment(3 << 30, 100), segment(4 << 30, 0)]);
        assert_eq!(plan.chunk_bits, 6);
        assert_eq!(plan.device_bytes(), 2 * (256 << 10));
        assert_eq!(plan.steps(), [Step::Copy(10), Step::Skip(262_134), Step::Copy(100), Step::Skip(262_044)]);
        let runs = vec![
            ChunkRun { first_chunk: 0, chunks: 1, first_block: 7 },
            ChunkRun { first_chunk: 12288, chunks: 1, first_block: 71 },
        ];
        assert_eq!(plan.content(7), Content::Chunks { chunk_bits: 6, runs });
        assert!(plan.written_bytes() < 32768);
    }

    #[test]
    fn a_file_without_contents_is_one_hole() {
        let plan = Plan::new(4 << 40, &[]);
        assert_eq!((plan.device_bytes(), plan.steps()), (0, &[][..]));
        assert_eq!(plan.content(0), Content::Chunks { chunk_bits: 16, runs: vec![] });
    }

    #[test]
    fn small_gaps_are_written_and_a_dense_file_has_no_chunks() {
        let plan = Plan::new(10_000, &[segment(100, 4000), segment(9000, 1000)]);
        assert_eq!(plan.steps(), [Step::Zeros(100), Step::Copy(4000), Step::Zeros(4900), Step::Copy(1000)]);
        assert_eq!(plan.content(3), Content::Blocks { first_block: 3 });
        assert_eq!(plan.device_bytes(), 12288);
    }
}
