//! The sandbox's network: from what the manifest says to a gateway in the sandbox process.
//!
//! ```text
//! Manifest ─▶ NetworkPlan (in plan.json) ─ start ─▶ Gateway in its Driver ─ Cable ─▶ virtio-net
//!                                                       └─ Journal ─▶ decisions ─▶ policy.log, notices
//! ```

mod answer;
mod cable;
mod capture;
mod certificates;
mod holder;
pub(crate) mod journal;
pub(crate) mod plan;
pub(crate) mod proxies;
pub(crate) mod rulebook;
mod start;

pub(crate) use answer::answer;
pub(crate) use certificates::extra as certificates;
pub(crate) use plan::NetworkPlan;
pub(crate) use start::{search_domains, start};
