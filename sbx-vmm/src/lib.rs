//! The machine: engines that run a guest, and the virtio devices that they give it.
//!
//! This crate knows nothing of images, policy or HTTP, and has no async runtime. The doors are [`config`] (what a
//! machine is), [`engine`] (what can run it here), [`cage`] (what its process may still reach), [`scratch`] (its disk),
//! [`machine`] (start it, talk to it, stop it) and [`saved`] (what it is when it stands still).

#![deny(unsafe_code)]

mod arch;
pub mod cage;
pub mod config;
mod console;
pub mod engine;
mod gate;
pub mod machine;
pub mod saved;
pub mod scratch;
pub mod seccomp;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod virtio;
