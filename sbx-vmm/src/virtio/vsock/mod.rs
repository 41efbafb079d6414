//! The socket device (virtio 1.2, 5.10): streams between ports of the guest and streams of the host.
//!
//! ```text
//!  guest                                                            host
//!  tx queue ──packets──▶ VsockDevice ──▶ Muxer ──▶ Connection ──▶ UnixStream   (made by the host: VsockHandle::connect)
//!  rx queue ◀─packets──      ▲             │           │            UnixStream   (made by the guest: VsockHandle::listen)
//!                            └─ one packet per connection in turn ◀─┘
//! ```
//!
//! The guest can talk to the host only: packets to other addresses are refused. Everything that it makes the host
//! keep is bounded: connections, bytes per connection, refusals on their way.

mod connection;
mod credit;
mod device;
mod handle;
mod muxer;
mod packet;
mod saved;
mod transport_reset;

pub use device::VsockDevice;
pub use handle::VsockHandle;
pub use saved::VsockState;

#[cfg(test)]
mod tests;
