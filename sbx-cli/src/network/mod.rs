//! The sandbox's network: from what the manifest says to a gateway in the sandbox process.
//!
//! ```text
//! Manifest ─▶ NetworkPlan (in plan.json) ─ start ─▶ Gateway in its Driver ─ Cable ─▶ virtio-net
//!                                                       └─ Journal ─▶ decisions ─▶ policy.log, notices
//! ```

mod answer;
mod cable;
mod capture;
mod holder;
mod host_files;
pub(crate) mod journal;
pub(crate) mod plan;
mod start;

pub(crate) use answer::answer;
pub(crate) use host_files::search_domains;
pub(crate) use plan::NetworkPlan;
pub(crate) use start::start;
