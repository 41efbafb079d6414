//! A request as the driver wrote it, parsed without doing anything.
//!
//! ```text
//! readable [ type u32 | reserved u32 | sector u64 | data of a write, or segments … ]
//! writable [ data of a read … | status u8 ]
//! segment  [ sector u64 | sectors u32 | flags u32 (bit 0: unmap) ]
//! ```
//!
//! All numbers are little-endian (virtio 1.2, 5.2.6).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use crate::virtio::buffers::Buffers;

/// Bytes of a sector, the unit of all addresses.
pub(super) const SECTOR_BYTES: u64 = 512;

/// Most bytes of one read or write: keeps a request from holding the device's thread for long. No driver reaches it
/// that heeds `MAX_SEGMENTS` and `MAX_SEGMENT_BYTES`.
const MAX_TRANSFER_BYTES: u64 = 64 << 20;

/// Most segments of data in one request: with header and status a chain of 128 descriptors.
pub(super) const MAX_SEGMENTS: u32 = 126;

/// Most bytes of one segment of data.
pub(super) const MAX_SEGMENT_BYTES: u32 = 512 << 10;

/// Most ranges of one discard or write-zeroes request.
pub(super) const MAX_RANGES: u32 = 64;

/// Most sectors of one such range: 4 GiB, so that a range takes the host's file system a bearable time.
pub(super) const MAX_RANGE_SECTORS: u32 = 1 << 23;

/// Bytes of the header and of a range.
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// Bytes of the answer to GET_ID.
pub(super) const ID_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

/// Set in a range's flags to let its space go.
const UNMAP: u32 = 1;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    /// Fill `data` from byte `offset` of the disk.
    Read { offset: u64, data: Buffers<'a> },
    /// Write `data` at byte `offset` of the disk.
    Write { offset: u64, data: Buffers<'a> },
    /// Make what was written lasting.
    Flush,
    /// Write the disk's name to `data`.
    Identify { data: Buffers<'a> },
    /// The ranges' contents are not needed any more.
    Discard { ranges: Vec<Range> },
    /// The ranges shall read as zeros.
    WriteZeroes { ranges: Vec<Range> },
}

/// A run of bytes of the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) unmap: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Status IOERR: it makes no sense, or reaches behind the end of the disk.
    Invalid,
    /// Status UNSUPP: a type or flag that the device does not have.
    Unsupported,
}

/// Parses a request without its status byte, for a disk of `size` bytes.
pub(super) fn parse<'a>(
    mut readable: Buffers<'a>,
    writable: Buffers<'a>,
    size: u64,
) -> Result<Operation<'a>, Refusal> {
    let header: [u8; HEADER_BYTES] = readable.take_front(HEADER_BYTES).read().ok_or(Refusal::Invalid)?;
    let (kind, sector) = parse_header(header);
    match kind {
        VIRTIO_BLK_T_IN => {
            let offset = check_transfer(sector, writable.len(), size)?;
            Ok(Operation::Read { offset, data: writable })
        }
        VIRTIO_BLK_T_OUT => {
            let offset = check_transfer(sector, readable.len(), size)?;
            Ok(Operation::Write { offset, data: readable })
        }
        VIRTIO_BLK_T_FLUSH => Ok(Operation::Flush),
        VIRTIO_BLK_T_GET_ID => Ok(Operation::Identify { data: writable }),
        VIRTIO_BLK_T_DISCARD => Ok(Operation::Discard { ranges: parse_ranges(&readable, size, false)? }),
        VIRTIO_BLK_T_WRITE_ZEROES => {
            Ok(Operation::WriteZeroes { ranges: parse_ranges(&readable, size, true)? })
        }
        _ => Err(Refusal::Unsupported),
    }
}

/// The type and the sector.
fn parse_header(header: [u8; HEADER_BYTES]) -> (u32, u64) {
    let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
    (u32::from_le_bytes([k0, k1, k2, k3]), u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]))
}

/// Where a transfer begins, in bytes, if it is whole sectors and on the disk.
fn check_transfer(sector: u64, length: usize, size: u64) -> Result<u64, Refusal> {
    let length = u64::try_from(length).map_err(|_| Refusal::Invalid)?;
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Refusal::Invalid)?;
    let end = offset.checked_add(length).ok_or(Refusal::Invalid)?;
    let whole = length.is_multiple_of(SECTOR_BYTES);
    if whole && end <= size && length <= MAX_TRANSFER_BYTES { Ok(offset) } else { Err(Refusal::Invalid) }
}

/// The ranges of a discard or write-zeroes request; only the latter may say `unmap`.
fn parse_ranges(data: &Buffers<'_>, size: u64, may_unmap: bool) -> Result<Vec<Range>, Refusal> {
    let count = data.len().checked_div(RANGE_BYTES).unwrap_or(0);
    let fits = u32::try_from(count).is_ok_and(|count| (1..=MAX_RANGES).contains(&count));
    if !fits || !data.len().is_multiple_of(RANGE_BYTES) {
        return Err(Refusal::Invalid);
    }
    let mut bytes = vec![0; data.len()];
    data.copy_to(&mut bytes);
    bytes.as_chunks::<RANGE_BYTES>().0.iter().map(|range| parse_range(*range, size, may_unmap)).collect()
}

fn parse_range(bytes: [u8; RANGE_BYTES], size: u64, may_unmap: bool) -> Result<Range, Refusal> {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = bytes;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
    let flags = u32::from_le_bytes([f0, f1, f2, f3]);
    if flags & !UNMAP != 0 || (flags != 0 && !may_unmap) {
        return Err(Refusal::Unsupported);
    }
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Refusal::Invalid)?;
    let length = u64::from(sectors).checked_mul(SECTOR_BYTES).ok_or(Refusal::Invalid)?;
    let end = offset.checked_add(length).ok_or(Refusal::Invalid)?;
    if sectors > MAX_RANGE_SECTORS || end > size {
        return Err(Refusal::Invalid);
    }
    Ok(Range { offset, length, unmap: flags & UNMAP != 0 })
}
