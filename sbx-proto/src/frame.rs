//! Length-prefixed postcard frames.
//!
//! ```text
//! | u32 little-endian: length of the body | body: one postcard-encoded message |
//! ```

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Largest body that is read or written. The peer is not trusted: without a bound, four bytes would make us
/// allocate 4 GiB.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended between two frames, which is how a peer says goodbye.
    #[error("the peer closed the connection")]
    Closed,
    /// The stream failed, or ended inside a frame.
    #[error("the connection failed")]
    Io {
        /// What the stream said.
        #[source]
        source: io::Error,
    },
    /// A frame larger than [`MAX_FRAME_BYTES`].
    #[error("a frame of {length} bytes is larger than the {MAX_FRAME_BYTES} bytes allowed")]
    TooLong {
        /// The length that was announced, or that a message encoded to.
        length: usize,
    },
    /// The body is not a message of the expected type.
    #[error("a frame cannot be decoded")]
    Malformed {
        /// What postcard said.
        #[source]
        source: postcard::Error,
    },
}

/// Reads one frame.
///
/// # Errors
/// [`FrameError::Closed`] at a clean end of stream, the other variants as they say.
pub fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> Result<T, FrameError> {
    let mut header = [0_u8; 4];
    let mut filled = 0;
    while filled < header.len() {
        match reader.read(header.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Io { source: io::ErrorKind::UnexpectedEof.into() }),
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(FrameError::Io { source }),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { length });
    }
    let mut body = vec![0_u8; length];
    reader.read_exact(&mut body).map_err(|source| FrameError::Io { source })?;
    postcard::from_bytes(&body).map_err(|source| FrameError::Malformed { source })
}

/// Encodes one frame, header included, so that it can be written with one system call.
///
/// # Errors
/// [`FrameError::TooLong`] if the message does not fit.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes =
        postcard::to_extend(message, vec![0_u8; 4]).map_err(|source| FrameError::Malformed { source })?;
    let length = bytes.len().saturating_sub(4);
    match u32::try_from(length) {
        Ok(header) if length <= MAX_FRAME_BYTES => {
            if let Some(slot) = bytes.get_mut(..4) {
                slot.copy_from_slice(&header.to_le_bytes());
            }
            Ok(bytes)
        }
        _ => Err(FrameError::TooLong { length }),
    }
}

/// Writes one frame and flushes.
///
/// # Errors
/// [`FrameError::TooLong`] before anything is written, [`FrameError::Io`] if the stream fails.
pub fn write_frame<T: Serialize>(writer: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let bytes = encode_frame(message)?;
    writer.write_all(&bytes).and_then(|()| writer.flush()).map_err(|source| FrameError::Io { source })
}
