//! The network card (virtio 1.2, 5.1): Ethernet frames between the guest and whoever is at the other end of its cable.
//!
//! ```text
//!  guest                                                    host
//!  tx queue ──[header|frame]──▶ NetDevice ──transmit──▶ Link ──▶ sockets
//!  rx queue ◀─[header|frame]──      ▲     ◀───frame───   │
//!                                   └──poll: after 16 frames, and when wake_fd says so
//! ```
//!
//! The other end is a TCP stack in this process, not a wire. So the guest may leave checksums out, and may send segments of any
//! size whole (TSO), which are never cut; in the other direction the packets are as large as the MTU lets them be.

mod device;
mod header;
mod link;
mod saved;

pub use device::{MAX_FRAME_BYTES, NetDevice};
pub use header::Checksum;
pub use link::Link;
pub use saved::NetState;

#[cfg(test)]
mod tests;
