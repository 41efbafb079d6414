//! The sandbox's network: from what the manifest says to a gateway in the sandbox process.
//!
//! ```text
//! Manifest ─ plan ─▶ NetworkPlan (in plan.json) ─▶ Gateway + Driver ─ Cable ─▶ virtio-net
//!                                                   └─ Journal ─▶ policy.log, notices
//! ```

mod apply;
pub(crate) mod endpoint;
pub(crate) mod judge;
pub(crate) mod plan;

pub(crate) use apply::{Applied, apply};
pub(crate) use plan::NetworkPlan;
