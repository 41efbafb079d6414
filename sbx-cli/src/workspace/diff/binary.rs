//! Contents that are no text, as `git apply` reads them: zlib, then base 85.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};

/// git's alphabet of base 85 (RFC 1924).
const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Bytes on one line, at most: its length is one letter.
const LINE_BYTES: usize = 52;

/// git looks this far for a NUL.
const LOOKED_AT_BYTES: usize = 8000;

/// Whether git would take `bytes` for something else than text.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(LOOKED_AT_BYTES).any(|byte| *byte == 0)
}

/// The body of a `GIT binary patch` from `old` to `new`.
pub(super) fn patch(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut text = b"GIT binary patch\n".to_vec();
    for contents in [new, old] {
        text.extend_from_slice(format!("literal {}\n", contents.len()).as_bytes());
        for line in deflate(contents).chunks(LINE_BYTES) {
            text.push(length_letter(line.len()));
            for group in line.chunks(4) {
                text.extend_from_slice(&encode(group));
            }
            text.push(b'\n');
        }
        text.push(b'\n');
    }
    text
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// `A` for one byte to `Z` for 26, then `a` to `z`.
fn length_letter(length: usize) -> u8 {
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    if length <= 26 { b'A' + length.saturating_sub(1) } else { b'a' + (length - 27).min(25) }
}

/// Four bytes, or fewer and zeros, as five digits, the most significant first.
fn encode(group: &[u8]) -> [u8; 5] {
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(group).for_each(|(to, from)| *to = *from);
    let mut value = u32::from_be_bytes(bytes);
    let mut digits = [0; 5];
    for digit in digits.iter_mut().rev() {
        let place = usize::try_from(value % 85).unwrap_or(0);
        *digit = ALPHABET.get(place).copied().unwrap_or(b'0');
        value /= 85;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_digits_are_those_of_git() {
        let text = String::from_utf8(patch(b"", &[7; 100_000])).unwrap();
        assert!(text.starts_with("GIT binary patch\nliteral 100000\nz"), "{text}");
        assert!(text.contains("\n\nliteral 0\nH"), "{text}");
        // RFC 1924's own digits.
        assert_eq!(&encode(&[0, 0, 0, 0]), b"00000");
        assert_eq!(&encode(&[0xff; 4]), b"|NsC0");
        assert_eq!([1, 26, 27, 52].map(length_letter), *b"AZaz");
    }

    #[test]
    fn text_is_what_has_no_nul_at_its_beginning() {
        assert!(!is_binary(b"text\r\n\xff"));
        assert!(is_binary(b"a\0b"));
        assert!(!is_binary(&[&vec![b'x'; 8000][..], b"\0"].concat()));
    }
}
