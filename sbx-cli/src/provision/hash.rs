//! What a downloaded file must hash to.

use std::{fmt, io::Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256, Sha512};

/// Bytes that are hashed at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A hash of a file, as a pin has it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Hash {
    /// `sha256:` and hexadecimal digits.
    Sha256([u8; 32]),
    /// npm's integrity: `sha512-` and base64.
    Sha512([u8; 64]),
}

impl Hash {
    /// The hash in a pin; none if it is of a kind that says too little, or none at all.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            return unhex(digits)?.try_into().ok().map(Self::Sha256);
        }
        let encoded = text.strip_prefix("sha512-")?;
        BASE64_STANDARD.decode(encoded).ok()?.try_into().ok().map(Self::Sha512)
    }

    /// Copies `from` to `to` and gives the hash of what was copied, of the kind of `self`.
    ///
    /// # Errors
    /// If reading or writing fails.
    pub(super) fn of_copy(&self, from: &mut dyn Read, to: &mut dyn std::io::Write) -> std::io::Result<Self> {
        Ok(match self {
            Self::Sha256(_) => Self::Sha256(copy::<Sha256>(from, to)?.into()),
            Self::Sha512(_) => Self::Sha512(copy::<Sha512>(from, to)?.into()),
        })
    }

    /// The kind of a file that nobody has named a hash for.
    pub(super) const fn any() -> Self {
        Self::Sha256([0; 32])
    }

    /// A file name: the kind, a slash, and hexadecimal digits.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Sha256(bytes) => format!("sha256/{}", hex(bytes)),
            Self::Sha512(bytes) => format!("sha512/{}", hex(bytes)),
        }
    }
}

/// As a pin has it.
impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(formatter, "sha256:{}", hex(bytes)),
            Self::Sha512(bytes) => write!(formatter, "sha512-{}", BASE64_STANDARD.encode(bytes)),
        }
    }
}

/// A SHA-256 in small hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn copy<D: Digest>(
    from: &mut dyn Read,
    to: &mut dyn std::io::Write,
) -> std::io::Result<sha2::digest::Output<D>> {
    let (mut hash, mut chunk) = (D::new(), vec![0; CHUNK_BYTES]);
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => return Ok(hash.finalize()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        hash.update(bytes);
        to.write_all(bytes)?;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_and_written_as_pins_have_them() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hash = Hash::parse(text).unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(hash.path(), text.replace(':', "/"));
        assert_eq!(Hash::any().of_copy(&mut [].as_slice(), &mut std::io::sink()).unwrap(), hash);
        let hash = Hash::Sha512([0; 64]);
        let hash = hash.of_copy(&mut b"abc".as_slice(), &mut std::io::sink()).unwrap();
        // From FIPS 180-4's example, in base64.
        let text =
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        assert_eq!((hash.to_string().as_str(), Hash::parse(text)), (text, Some(hash)));
    }

    #[test]
    fn what_says_too_little_is_no_hash() {
        let short = "sha256:e3b0c442";
        for text in
            ["", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", short, "sha512-AAAA", "md5:00", "sha256:../../x"]
        {
            assert_eq!(Hash::parse(text), None, "{text}");
        }
    }
}
