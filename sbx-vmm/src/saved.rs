//! A machine that stands still, as bytes: all of it but guest memory, disks and the host's files.
//!
//! ```text
//! "sbxstate"  8 bytes
//! version     u32, little-endian
//! the rest    postcard: processors, machine, devices in the order of their windows
//! ```
//!
//! Whoever takes one stops the processors, then the threads of the devices, and saves each; memory comes last, for a
//! device may have written to it until then. Whoever takes one up builds the machine of the same configuration, with
//! that memory, and restores the machine, the processors and the devices before anything runs.
//!
//! The bytes may come from a file that somebody made. Reading them gives data or an error, and every part is checked once
//! more by what it is restored into. The version counts changes of any part: postcard has no names, so that what another
//! version wrote cannot be told apart by itself.

use serde::{Deserialize, Serialize};

use crate::virtio::mmio::MmioState;

pub use crate::arch::{ModelSpecific, StateError, VcpuState, VmState};

/// What the bytes begin with.
const MAGIC: [u8; 8] = *b"sbxstate";

/// The version of what follows. It goes up by one whenever anything that is reachable from [`SavedMachine`] changes.
const VERSION: u32 = 2;

/// The most bytes that are looked at. A million files that the guest knows take less than a tenth.
const MOST_BYTES: usize = 1 << 30;

/// A machine that stands still.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SavedMachine {
    /// Its processors, by number.
    pub vcpus: Vec<VcpuState>,
    /// What they share.
    pub vm: VmState,
    /// Its devices, in the order in which they were attached.
    pub devices: Vec<MmioState>,
}

/// Why bytes are no saved machine.
#[derive(Debug, thiserror::Error)]
pub enum SavedMachineError {
    /// They are something else.
    #[error("it is not the saved state of a machine")]
    Magic,
    /// Another sbx wrote them.
    #[error("it was saved in version {found} of the format, and this sbx reads version {expected}")]
    Version {
        /// Their version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// They break off, or say what cannot be.
    #[error("it is damaged")]
    Damaged(#[source] postcard::Error),
    /// There are too many of them, or more than belong to it.
    #[error("it has {bytes} bytes too many")]
    Length {
        /// How many.
        bytes: usize,
    },
}

impl SavedMachine {
    /// As bytes.
    ///
    /// # Errors
    /// Never for a machine that there was: only if a part is larger than the format can say.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SavedMachineError> {
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        postcard::to_extend(self, head).map_err(SavedMachineError::Damaged)
    }

    /// From bytes, which may be any.
    ///
    /// # Errors
    /// If they are not what `to_bytes` of this version made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedMachineError> {
        if let Some(excess) = bytes.len().checked_sub(MOST_BYTES).filter(|excess| *excess > 0) {
            return Err(SavedMachineError::Length { bytes: excess });
        }
        let rest = bytes.strip_prefix(&MAGIC).ok_or(SavedMachineError::Magic)?;
        let (version, body) = rest.split_first_chunk().ok_or(SavedMachineError::Magic)?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(SavedMachineError::Version { found, expected: VERSION });
        }
        match postcard::take_from_bytes(body).map_err(SavedMachineError::Damaged)? {
            (machine, []) => Ok(machine),
            (_, excess) => Err(SavedMachineError::Length { bytes: excess.len() }),
        }
    }
}

#[cfg(test)]
mod tests;
