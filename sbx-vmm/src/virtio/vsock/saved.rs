//! What the socket device keeps across a save and a restore.

use serde::{Deserialize, Serialize};

/// Connections do not survive, for their host's ends belong to a process. What does is what keeps the next ones apart
/// from them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct VsockState {
    /// The guest's context id.
    pub(super) guest_cid: u64,
    /// The next port of the host for a connection to the guest. One that a lost connection had is not used again as
    /// long as the guest may hold the socket that was its end.
    pub(super) next_port: u32,
}
