//! The network of a sandbox: Ethernet frames of the guest on one side, sockets of the host on the other, a policy between.
//!
//! ```text
//!            frames                     ┌────────── Gateway (sans-IO: time and bytes in, bytes and actions out) ──────────┐
//! guest ◀──────────────▶ virtio-net ◀──▶│ ethernet ─▶ tcp, udp, icmp ─▶ Policy ─▶ Action::Connect, …        dns ─▶ Pins │◀──▶ driver ◀──▶ sockets
//!                                       └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The guest has one link, to the gateway, and nothing else: what the gateway does not do for it does not happen. A
//! connection is held against the [`policy`] before the host makes it, and only when the host has made it the guest
//! hears that it is there; a refusal looks like one. Names are resolved at the gateway, allowed ones only, and
//! what was answered is pinned: a rule about a name allows the addresses that we found for it, not what the guest claims.
//!
//! Everything but [`driver`] is without I/O and without a clock, and bounded: whatever a guest sends, the gateway keeps a
//! fixed number of flows, pins and queued frames.

#![forbid(unsafe_code)]
// What a guest or a host of the internet sent must not be able to stop the sandbox.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod action;
pub mod dns;
pub mod driver;
pub mod ethernet;
pub mod event;
pub mod flow;
mod frames;
pub mod gateway;
mod icmp;
pub mod name;
pub mod packet;
pub mod pins;
pub mod policy;
pub mod proxy;
pub mod sniff;
mod tcp;
#[cfg(any(test, feature = "testing"))]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
pub mod testing;
mod udp;
