//! What the network card keeps across a save and a restore.

use serde::{Deserialize, Serialize};

/// What the guest's driver was told of its card. Connections do not survive, since their sockets belong to a process: to
/// the guest the other end of the cable looks like a computer that was restarted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NetState {
    /// The card's Ethernet address.
    pub(super) mac: [u8; 6],
    /// The largest packet in a frame, in bytes.
    pub(super) mtu: u16,
}
