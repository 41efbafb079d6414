//! Frames on their way to the host.

use std::os::fd::AsFd;

use rustix::io::Errno;
use sbx_proto::{AgentReply, FrameError, encode_frame};

/// Bytes that wait before nothing more is read from a command, so that a host that does not read makes the
/// command wait, not this buffer grow.
pub(crate) const HIGH_WATER_BYTES: usize = 256 * 1024;

/// Frames that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Adds a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], which no frame of a session is.
    pub(crate) fn push(&mut self, reply: &AgentReply) -> Result<(), FrameError> {
        let frame = encode_frame(reply)?;
        if self.bytes.is_empty() {
            self.bytes = frame;
        } else {
            self.bytes.extend_from_slice(&frame);
        }
        Ok(())
    }

    /// Writes as much as `connection` takes without blocking.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(crate) fn flush(&mut self, connection: impl AsFd) -> Result<(), Errno> {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&connection, rest) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the host must read before more may be added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len().saturating_sub(self.written) >= HIGH_WATER_BYTES
    }
}
