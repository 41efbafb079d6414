//! One 512-byte tar header read into plain values.
//!
//! The layouts come from the tar crate; the number fields are read here, as Go's `archive/tar` reads them for
//! containerd: blanks and NULs around octal digits do not count, an empty field is 0, base-256 may be negative.

use tar::{GnuExtSparseHeader, Header as TarHeader};

use crate::layer::sparse::Segment;
use crate::layer::{TarError, printable};
use crate::node::Timestamp;

/// Size of headers, and what contents are padded to, in bytes.
pub(crate) const RECORD_BYTES: u64 = 512;
/// [`RECORD_BYTES`] for arrays.
pub(crate) const RECORD_LENGTH: usize = 512;

/// Values of a header before extension headers are applied.
#[derive(Debug)]
pub(crate) struct Header {
    inner: TarHeader,
}

impl Header {
    /// Takes a record that is not all zero, if its checksum is right.
    pub(crate) fn new(record: &[u8; RECORD_LENGTH]) -> Option<Self> {
        let mut inner = TarHeader::new_old();
        inner.as_mut_bytes().copy_from_slice(record);
        let stored = number(&inner.as_old().cksum)?;
        // The checksum counts its own field as blanks. Some old writers summed signed bytes.
        let others =
            || record.iter().enumerate().filter(|(at, _)| !(148..156).contains(at)).map(|(_, byte)| *byte);
        let unsigned: i64 = others().map(i64::from).sum::<i64>().saturating_add(256);
        let signed: i64 = others().map(|byte| i64::from(byte.cast_signed())).sum::<i64>().saturating_add(256);
        (stored == unsigned || stored == signed).then_some(Self { inner })
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.inner.as_old().linkflag.first().copied().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> Vec<u8> {
        self.inner.path_bytes().into_owned()
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        let link = &self.inner.as_old().linkname;
        link.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    }

    pub(crate) fn mode(&self) -> Option<u16> {
        // Only permissions: the type flag alone says what kind of file it is.
        u16::try_from(number(&self.inner.as_old().mode)? & 0o7777).ok()
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        u64::try_from(number(&self.inner.as_old().uid)?).ok()
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        u64::try_from(number(&self.inner.as_old().gid)?).ok()
    }

    pub(crate) fn size(&self) -> Option<u64> {
        u64::try_from(number(&self.inner.as_old().size)?).ok()
    }

    pub(crate) fn modified(&self) -> Option<Timestamp> {
        Some(Timestamp { seconds: number(&self.inner.as_old().mtime)?, nanoseconds: 0 })
    }

    /// Major and minor number.
    pub(crate) fn device(&self) -> Option<(u64, u64)> {
        // Both formats keep these fields at the same place; old headers have none.
        let (major, minor) = match (self.inner.as_ustar(), self.inner.as_gnu()) {
            (Some(ustar), _) => (ustar.dev_major, ustar.dev_minor),
            (None, Some(gnu)) => (gnu.dev_major, gnu.dev_minor),
            (None, None) => return Some((0, 0)),
        };
        Some((u64::try_from(number(&major)?).ok()?, u64::try_from(number(&minor)?).ok()?))
    }

    /// Map of an old GNU sparse file (type `S`): the first segments, its apparent size, and whether more segments follow.
    pub(crate) fn gnu_sparse(&self) -> Option<(Vec<Segment>, u64, bool)> {
        let gnu = self.inner.as_gnu()?;
        let size = u64::try_from(number(&gnu.realsize)?).ok()?;
        let segments = segments(gnu.sparse.iter().map(|one| (&one.offset, &one.numbytes)))?;
        Some((segments, size, gnu.isextended != [0]))
    }
}

/// Reads a continuation of an old GNU sparse map: its segments and whether one more follows.
pub(crate) fn gnu_sparse_continued(record: &[u8; RECORD_LENGTH]) -> Option<(Vec<Segment>, bool)> {
    let mut continued = GnuExtSparseHeader::new();
    continued.as_mut_bytes().copy_from_slice(record);
    let segments = segments(continued.sparse.iter().map(|one| (&one.offset, &one.numbytes)))?;
    Some((segments, continued.isextended != [0]))
}

fn segments<'a>(fields: impl Iterator<Item = (&'a [u8; 12], &'a [u8; 12])>) -> Option<Vec<Segment>> {
    fields
        // The first empty slot ends the map.
        .take_while(|(offset, _)| offset.first() != Some(&0))
        .map(|(offset, length)| {
            Some(Segment {
                offset: u64::try_from(number(offset)?).ok()?,
                length: u64::try_from(number(length)?).ok()?,
            })
        })
        .collect()
}

/// Narrows a user or group id.
pub(crate) fn identity(value: u64, path: &[u8]) -> Result<u32, TarError> {
    u32::try_from(value).map_err(|_| TarError::Identity { path: printable(path), value })
}

/// Reads a number field: octal digits, or base-256 in two's complement behind a set top bit.
fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    digits.get(..end)?.iter().try_fold(0i64, |value, byte| {
        let digit = matches!(byte, b'0'..=b'7').then(|| i64::from(byte.wrapping_sub(b'0')))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field.first()? & 0x40 != 0;
    // Bit 7 of the first byte is the marker, bit 6 the sign; fill bit 7 with the sign.
    let mut value: i128 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 { (byte & 0x7f) | (if negative { 0x80 } else { 0 }) } else { *byte };
        // Fields have at most 12 bytes: 96 bits.
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_writers_write_them() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }
}
