//! PAX extended header records: `LENGTH KEY=VALUE\n` (POSIX.1-2017, pax, "pax Extended Header").
//!
//! The tar crate's own reader splits the block at newlines, and so refuses extended attributes whose binary value
//! holds byte 0x0a (file capabilities do); this one goes by the length.

use thiserror::Error;

use crate::node::Timestamp;

/// Why a record cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PaxError {
    /// The text does not follow the grammar.
    #[error("PAX record at byte {offset} is not of the form `LENGTH KEY=VALUE`")]
    Malformed {
        /// Where the record starts in the extension header.
        offset: usize,
    },
    /// A value that has to be a number is none.
    #[error("PAX record `{key}` has the value `{value}`, which is no {expected}")]
    Value {
        /// Name of the record.
        key: &'static str,
        /// The value, unprintable bytes escaped.
        value: String,
        /// What the value should have been.
        expected: &'static str,
    },
}

/// Key and value of one record, borrowed from the header's bytes.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);

/// Iterates over the records of one extended header; after an error there are none.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, PaxError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        // Some writers pad the block with NULs within its size.
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        let offset = bytes.len().saturating_sub(rest.len());
        match split_record(rest) {
            Some((record, after)) => {
                rest = after;
                Some(Ok(record))
            }
            None => {
                rest = &[];
                Some(Err(PaxError::Malformed { offset }))
            }
        }
    })
}

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    // 20 digits hold every 64-bit length; looking no further keeps hostile headers linear.
    let space = bytes.iter().take(21).position(|byte| *byte == b' ')?;
    let length = decimal(bytes.get(..space)?)?;
    let (record, after) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let body = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    (!key.is_empty()).then_some(((key, value.get(1..)?), after))
}

/// Reads an unsigned decimal number without sign or blanks.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads the value of the record `key` as an unsigned number.
pub(crate) fn number(key: &'static str, value: &[u8]) -> Result<u64, PaxError> {
    decimal(value).ok_or_else(|| PaxError::Value {
        key,
        value: value.escape_ascii().to_string(),
        expected: "decimal number",
    })
}

/// Reads a time: decimal seconds since the epoch with an optional sign and fraction; digits beyond nanoseconds are dropped.
pub(crate) fn time(key: &'static str, value: &[u8]) -> Result<Timestamp, PaxError> {
    parse_time(value).ok_or_else(|| PaxError::Value {
        key,
        value: value.escape_ascii().to_string(),
        expected: "time in seconds",
    })
}

fn parse_time(value: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at_checked(point)?;
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0u32;
    let mut scale = 100_000_000u32;
    for byte in fraction.iter().skip(1) {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte.wrapping_sub(b'0')))?;
        nanoseconds = nanoseconds.checked_add(digit.checked_mul(scale)?)?;
        scale /= 10;
    }
    if !negative {
        return Some(Timestamp { seconds, nanoseconds });
    }
    let seconds = seconds.checked_neg()?;
    match nanoseconds {
        0 => Some(Timestamp { seconds, nanoseconds }),
        _ => Some(Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000u32.checked_sub(nanoseconds)?,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_nuls() {
        let read: Result<Vec<_>, _> = records(b"10 k=a\nb\0\n11 path=xy\n").collect();
        assert_eq!(read.unwrap(), [(&b"k"[..], &b"a\nb\0"[..]), (b"path", b"xy")]);
    }

    #[test]
    fn malformed_records_are_refused_with_their_place() {
        for (bytes, offset) in [
            (&b"9 k=ab\n"[..], 0),
            (b"7 k=ab\n99999999999999999999999 k=v\n", 7),
            (b"0 k=v\n", 0),
            (b"5 k=v", 0),
            (b"6 kvv\n", 0),
            (b"-6 k=v\n", 0),
            (b"5 =v\n", 0),
        ] {
            let error = records(bytes).find_map(Result::err);
            assert_eq!(error, Some(PaxError::Malformed { offset }), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times_before_the_epoch_count_forward() {
        for (text, seconds, nanoseconds) in [
            (&b"0"[..], 0, 0),
            (b"1700000000.123456789", 1_700_000_000, 123_456_789),
            (b"1.5", 1, 500_000_000),
            (b"1.", 1, 0),
            (b"1.9999999999999", 1, 999_999_999),
            (b"-1.5", -2, 500_000_000),
            (b"-3", -3, 0),
        ] {
            assert_eq!(
                time("mtime", text),
                Ok(Timestamp { seconds, nanoseconds }),
                "{}",
                text.escape_ascii()
            );
        }
        for text in [&b""[..], b"-", b"1.x", b"+1", b"99999999999999999999"] {
            assert!(time("mtime", text).is_err(), "{}", text.escape_ascii());
        }
    }
}
