//! Compression formats of layers, recognised by their first bytes: media types are often wrong.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// Largest window of a zstd frame, as a power of two: 128 MiB, what `zstd --long` uses and what engines accept.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Not at all.
    Plain,
    /// RFC 1952; several members in a row count as one.
    Gzip,
    /// RFC 8878; several frames in a row count as one.
    Zstd,
    /// A format that no container engine writes.
    Unknown(&'static str),
}

impl Format {
    /// Recognises the format from at least the first four bytes.
    pub(crate) fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which some tools begin a file.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', ..] => Self::Unknown("xz"),
            [b'B', b'Z', b'h', ..] => Self::Unknown("bzip2"),
            _ => Self::Plain,
        }
    }
}

/// Uncompresses `input`.
pub(crate) fn decoder<'a>(format: Format, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match format {
        Format::Plain => Ok(Box::new(input)),
        Format::Gzip => Ok(Box::new(MultiGzDecoder::new(input))),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder))
        }
        Format::Unknown(name) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} compression is not supported")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoder(Format::sniff(bytes), bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn formats() {
        assert_eq!(decoded(b"plain").unwrap(), b"plain");
        assert_eq!(decoded(&[gzip(b"one"), gzip(b"two")].concat()).unwrap(), b"onetwo");
        let frames =
            [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(decoded(&frames).unwrap(), b"onetwo");
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn faults() {
        assert!(decoded(&gzip(b"cut off")[..12]).is_err());
        assert!(decoded(b"BZh91AY&SY").unwrap_err().to_string().contains("bzip2"));
        assert!(decoded(b"\xfd7zXZ\0").unwrap_err().to_string().contains("xz"));
    }
}
