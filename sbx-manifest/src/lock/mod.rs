//! `sandbox.lock`: every input of a machine, exactly, one on a line.
//!
//! ```text
//! bytes ─scan→ tokens ─line→ lines ─form, read→ Lock ─write→ text, key
//!                                                │
//!                          with a Manifest ── check ─▶ what does not fit, each with its place
//!                          with another    ── difference ─▶ `git 1:2.39 → 1:2.40`
//! ```
//!
//! git merges a lock by taking the lines of both sides (`merge=union`). That must come out as the union of what they
//! say: so no line needs another, a profile is a property of its lines instead of a block around them, the same line
//! twice counts once, and lines that contradict each other are a fault that says what to do. A snapshot's line names
//! the inputs that it is for, so that those of both branches are known to be for neither.

mod check;
mod difference;
mod form;
mod line;
mod model;
mod read;
mod request;
mod thing;
mod write;

pub use check::{Present, check};
pub use difference::{Change, difference};
pub use model::{Installer, Lock, LockedAgent, LockedImage, LockedMachine, LockedSetup, LockedSnapshot, Pin};
pub use read::{ParsedLock, parse, recover};
pub use request::{NotAPackage, Request};
pub use thing::Thing;

#[cfg(test)]
mod tests;
