//! The only place in this crate with `unsafe`: what the kernel does with our memory, and what happens between fork
//! and exec.
#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
pub(crate) mod bare_metal;
pub(crate) mod child;
pub(crate) mod kvm;
pub(crate) mod memory;
pub(crate) mod stop;
pub(crate) mod tsc;
pub(crate) mod vectored;
pub(crate) mod vm;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod x32;
pub(crate) mod xsave;
