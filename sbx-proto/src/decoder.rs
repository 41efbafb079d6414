//! Frames out of a stream that is read piece by piece, for loops that must not block in a read.

use serde::de::DeserializeOwned;

use crate::frame::{FrameError, MAX_FRAME_BYTES};

const HEADER_BYTES: usize = 4;

/// Takes the bytes of a stream as they come and gives out whole frames.
///
/// It holds at most one incomplete frame and what was pushed last, if [`FrameDecoder::next_frame`] is called
/// until it has nothing more to give after each push.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    /// How many of `bytes` were given out already.
    taken: usize,
}

impl FrameDecoder {
    /// Makes a decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken.min(self.bytes.len()));
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next frame, `None` if the rest of it has yet to come.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] as soon as the header is there, [`FrameError::Malformed`] for a body that is not a
    /// `T`. After either the stream cannot be read on.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong { length });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = postcard::from_bytes(body).map_err(|source| FrameError::Malformed { source })?;
        self.taken = self.taken.saturating_add(HEADER_BYTES).saturating_add(length);
        Ok(Some(message))
    }

    /// Whether the stream may end here: nothing of a next frame has come.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.taken >= self.bytes.len()
    }
}
