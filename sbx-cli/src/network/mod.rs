//! The sandbox's network: from what the manifest says to a gateway in the sandbox process.
//!
//! ```text
//! Manifest ─▶ NetworkPlan (in plan.json) ─ start ─▶ Gateway in its Driver ─ Cable ─▶ virtio-net
//!     │            ▲                                    └─ Journal ─▶ decisions ─▶ policy.log, notices
//!     └─ apply ────┴─ SetRules ─▶ answer ─▶ Controller
//! ```

mod answer;
mod apply;
mod cable;
mod capture;
mod certificates;
pub(crate) mod endpoint;
mod holder;
mod host_files;
pub(crate) mod journal;
pub(crate) mod judge;
pub(crate) mod plan;
pub(crate) mod proxies;
pub(crate) mod rulebook;
mod start;

pub(crate) use answer::answer;
pub(crate) use apply::{Applied, apply, follow};
pub(crate) use certificates::extra as certificates;
pub(crate) use holder::of as holder;
pub(crate) use host_files::search_domains;
pub(crate) use plan::NetworkPlan;
pub(crate) use start::{port_taken, start};
