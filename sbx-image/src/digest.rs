//! Content digests: the names that blobs, layers and manifests go by.
//!
//! Format: `algorithm:hex` as in the OCI image specification, "Descriptors", section "Digests". Only the two
//! registered algorithms are understood. A [`Digest`] is checked when it is made, so it is safe to use as a file name.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use thiserror::Error;

/// Bytes read at a time when something is hashed from a file or stream: large enough to make the system calls
/// disappear, small enough to stay in a core's second-level cache.
const READ_BYTES: usize = 256 * 1024;

/// A checked digest of some bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// A hash function that the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every registry uses.
    Sha256,
    /// SHA-512, which the specification allows.
    Sha512,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The `algorithm:` part is missing or is one that we cannot compute.
    #[error("digest `{text}` does not start with `sha256:` or `sha512:`")]
    Algorithm {
        /// The text as given, shortened.
        text: String,
    },
    /// The part after the colon is not lower-case hexadecimal of the right length.
    #[error("digest `{text}` does not have {expected} lower-case hexadecimal digits after the colon")]
    Hex {
        /// The text as given, shortened.
        text: String,
        /// Digits that the algorithm has.
        expected: usize,
    },
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.hex.get(..12).unwrap_or(&self.hex)
    }

    /// The digest of `bytes` with the same algorithm as this one; equal to it when `bytes` are what it names.
    pub fn of_same_kind(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Hashes everything that `reader` gives, with the same algorithm as this digest.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(&self, reader: &mut dyn Read) -> io::Result<Self> {
        let mut hasher = Hasher::new(self.algorithm);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Algorithm {
    /// The name as it is written in a digest and used as a directory name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = match text.split_once(':') {
            Some(("sha256", hex)) => (Algorithm::Sha256, hex),
            Some(("sha512", hex)) => (Algorithm::Sha512, hex),
            _ => return Err(DigestError::Algorithm { text: shorten(text) }),
        };
        let expected = algorithm.hex_digits();
        if hex.len() != expected || !is_hexadecimal(hex) {
            return Err(DigestError::Hex { text: shorten(text), expected });
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    /// SHA-256 in progress.
    Sha256(sha2::Sha256),
    /// SHA-512 in progress.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Adds `bytes` to what is hashed.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything added.
    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => {
                Digest { algorithm: Algorithm::Sha256, hex: hexadecimal(&state.finalize()) }
            }
            Self::Sha512(state) => {
                Digest { algorithm: Algorithm::Sha512, hex: hexadecimal(&state.finalize()) }
            }
        }
    }
}

/// Whether there is nothing but lower-case hexadecimal digits, and at least one.
pub(crate) fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hexadecimal(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hostile texts are not repeated at full length in an error.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest_of_nothing() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn only_well_formed_digests_are_taken() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        assert!(format!("sha512:{hex}{hex}").parse::<Digest>().is_ok());
        for bad in [
            String::new(),
            "sha256".to_owned(),
            "sha256:".to_owned(),
            format!("md5:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha512:{hex}"),
            format!("sha256:{hex}/../x"),
            format!("sha256:../../{}", &hex[6..]),
            "é".repeat(1000),
        ] {
            let error = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_reader_hashes_like_its_bytes() {
        let bytes = vec![7; 1_000_000];
        let digest = Digest::sha256(&bytes);
        assert_eq!(digest.of_reader(&mut bytes.as_slice()).unwrap(), digest);
        assert_eq!(digest.of_same_kind(&bytes), digest);
    }
}
