//! The block device's configuration space (virtio 1.2, 5.2.4).
//!
//! ```text
//!  0 capacity u64 (sectors)   8 size_max u32    12 seg_max u32            16 geometry u16 u8 u8
//! 20 blk_size u32            24 physical_block_exp u8, alignment_offset u8, min_io_size u16, opt_io_size u32
//! 32 writeback u8, unused u8, num_queues u16
//! 36 max_discard_sectors u32      40 max_discard_seg u32       44 discard_sector_alignment u32
//! 48 max_write_zeroes_sectors u32 52 max_write_zeroes_seg u32  56 write_zeroes_may_unmap u8, unused u8 × 3
//! ```

use super::request::{MAX_RANGE_SECTORS, MAX_RANGES, MAX_SEGMENT_BYTES, MAX_SEGMENTS, SECTOR_BYTES};

/// Smallest unit that the guest may address, in bytes: any file system can be put on the disk.
const LOGICAL_BLOCK_BYTES: u32 = 512;

/// Unit that costs no read-modify-write on the host, as a power of two of logical blocks: a page.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;
const PAGE_SECTORS: u32 = 8;

/// The configuration space of a disk of `size` bytes.
pub(super) fn config_space(size: u64, writable: bool) -> Vec<u8> {
    let range_sectors = if writable { MAX_RANGE_SECTORS } else { 0 };
    let ranges = if writable { MAX_RANGES } else { 0 };
    let mut bytes = Vec::with_capacity(60);
    bytes.extend(size.checked_div(SECTOR_BYTES).unwrap_or(0).to_le_bytes());
    bytes.extend(MAX_SEGMENT_BYTES.to_le_bytes());
    bytes.extend(MAX_SEGMENTS.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(LOGICAL_BLOCK_BYTES.to_le_bytes());
    bytes.extend([PHYSICAL_BLOCK_EXPONENT, 0, 0, 0]);
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(range_sectors.to_le_bytes());
    bytes.extend(ranges.to_le_bytes());
    bytes.extend(PAGE_SECTORS.to_le_bytes());
    bytes.extend(range_sectors.to_le_bytes());
    bytes.extend(ranges.to_le_bytes());
    bytes.extend([u8::from(writable), 0, 0, 0]);
    bytes
}
