//! What a disk keeps across a save and a restore.

use serde::{Deserialize, Serialize};

/// Whatever else there is to know of a disk is in its file: requests are answered before the next one is taken, and
/// nothing is held back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BlockState {
    /// Length in bytes, of which the guest was told once and for all.
    pub(super) size: u64,
    /// Whether the host had failed to read or write it.
    pub(super) failure_logged: bool,
}
