//! One sandbox: its directory, its process, and how commands reach it.
//!
//! ```text
//!            sbx up                      guest ready                 last lease gone, sbx stop
//! (nothing) ────────▶ starting ────────────────────────▶ running ───────────────────────────▶ stopping ──▶ stopped
//!                        │ guest or engine failed           │ engine died, process killed                    │
//!                        └──────────▶ stopped ◀─────────────┘                                                └─▶ sbx up
//! ```
//!
//! Whether the process lives is told by a lock that it holds (`alive.lock`), never by a file's content or a process id; so
//! whatever kills it leaves nothing behind that the next `sbx up` could trip over.

pub(crate) mod blueprint;
pub(crate) mod capture;
pub(crate) mod control;
mod death;
mod decisions;
pub(crate) mod directory;
mod guest;
pub(crate) mod launch;
pub(crate) mod owner;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod spawn;
mod start;
pub(crate) mod state;
