//! What differs between processor architectures: where things lie, and what a processor and a kernel expect at boot.
//!
//! Another architecture is another folder with the same names.

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{ModelSpecific, StateError, VcpuState, VmState};
