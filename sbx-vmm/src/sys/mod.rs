//! The only place in this crate with `unsafe`: what the kernel does with our memory, and what happens between fork
//! and exec.
#![allow(unsafe_code)]

pub(crate) mod child;
pub(crate) mod kvm;
pub(crate) mod tsc;
pub(crate) mod vectored;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod x32;
