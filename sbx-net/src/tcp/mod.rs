//! TCP between the guest and the gateway.
//!
//! smoltcp keeps the state of each connection. Its interface would look through all sockets for every packet; here each
//! connection is a socket set of its own, found in a table, so that a packet costs the same with one connection and with
//! ten thousand.
//!
//! ```text
//! packet ─▶ Key ─▶ Flow ─▶ Stack::receive(packet, its one socket) ─▶ frames
//!                   └─ Stack::transmit(its one socket) ─▶ frames
//! ```

mod buffers;
mod socket;
mod stack;

pub(crate) use buffers::Budget;
pub(crate) use socket::{Fate, Spare, TcpSocket};
pub(crate) use stack::Stack;
