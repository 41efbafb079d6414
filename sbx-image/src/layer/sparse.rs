//! Maps of sparse files in a tar: which parts of the file are in the archive; all else is holes.
//!
//! Four encodings lead to the same list: the old GNU header (`header.rs`), and GNU's PAX versions 0.0 (repeated
//! `GNU.sparse.offset`/`numbytes`), 0.1 (`GNU.sparse.map`) and 1.0 (decimal lines before the contents).

use crate::layer::pax::decimal;

/// One part of the file that is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it starts in the file, in bytes.
    pub(crate) offset: u64,
    /// Its bytes, which may be none.
    pub(crate) length: u64,
}

impl Segment {
    /// One past its last byte; only for segments that [`check`] has passed.
    pub(crate) fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// Whether the segments ascend without overlap inside a file of `size` bytes and hold `stored` bytes together.
pub(crate) fn check(segments: &[Segment], size: u64, stored: u64) -> bool {
    let mut end = 0u64;
    let mut sum = 0u64;
    for segment in segments {
        let Some(after) = segment.offset.checked_add(segment.length) else { return false };
        if segment.offset < end || after > size {
            return false;
        }
        end = after;
        // Cannot overflow: disjoint parts of `size` bytes.
        sum = sum.saturating_add(segment.length);
    }
    sum == stored
}

/// Reads the map of version 0.1: `offset,length,offset,length…`.
pub(crate) fn parse_map(text: &[u8]) -> Option<Vec<Segment>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers = text.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<_>>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[offset, length]| Segment { offset: *offset, length: *length }).collect())
}

/// Reads the map of version 1.0 line by line as its records arrive.
#[derive(Debug, Default)]
pub(crate) struct MapLines {
    line: Vec<u8>,
    expected: Option<u64>,
    offset: Option<u64>,
    segments: Vec<Segment>,
}

impl MapLines {
    /// Takes one more record. `Some(true)`: the map is complete, contents follow; `None`: it is malformed or has more
    /// than `most` segments.
    pub(crate) fn push(&mut self, record: &[u8], most: u64) -> Option<bool> {
        for byte in record {
            if self.is_complete() {
                return Some(true);
            }
            match byte {
                b'\n' => self.finish_line(most)?,
                // No number that fits has more digits.
                _ if self.line.len() >= 20 => return None,
                _ => self.line.push(*byte),
            }
        }
        Some(self.is_complete())
    }

    pub(crate) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    fn is_complete(&self) -> bool {
        self.expected.is_some_and(|expected| u64::try_from(self.segments.len()) == Ok(expected))
    }

    fn finish_line(&mut self, most: u64) -> Option<()> {
        let value = decimal(&self.line)?;
        self.line.clear();
        if self.expected.is_none() {
            self.expected = Some(value);
            return (value <= most).then_some(());
        }
        match self.offset.take() {
            None => self.offset = Some(value),
            Some(offset) => self.segments.push(Segment { offset, length: value }),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Segment = Segment { offset: 0, length: 5 };
    const B: Segment = Segment { offset: 10, length: 5 };

    #[test]
    fn maps_must_ascend_fit_and_add_up() {
        assert!(check(&[A, B], 15, 10));
        assert!(check(&[A, B, Segment { offset: 20, length: 0 }], 20, 10));
        assert!(check(&[], 1 << 60, 0));
        for (segments, size, stored) in [
            (&[B, A][..], 15, 10),
            (&[A, B], 14, 10),
            (&[A, B], 15, 9),
            (&[A, A], 15, 10),
            (&[Segment { offset: u64::MAX, length: 2 }], u64::MAX, 2),
        ] {
            assert!(!check(segments, size, stored), "{segments:?}");
        }
    }

    #[test]
    fn both_texts_read_the_same() {
        assert_eq!(parse_map(b"0,5,10,5"), Some(vec![A, B]));
        assert_eq!(parse_map(b"0,5,10"), None);
        assert_eq!(parse_map(b"0,5,10,x"), None);

        let mut lines = MapLines::default();
        assert_eq!(lines.push(b"2\n0\n5\n1", 10), Some(false));
        assert_eq!(lines.push(b"0\n5\n\0\0\0", 10), Some(true));
        assert_eq!(lines.into_segments(), [A, B]);
        assert_eq!(MapLines::default().push(b"11\n", 10), None);
        assert_eq!(MapLines::default().push(b"0\n\0\0", 10), Some(true));
        assert_eq!(MapLines::default().push(b"one\n", 10), None);
        assert_eq!(MapLines::default().push(&[b'1'; 30], 10), None);
    }
}
