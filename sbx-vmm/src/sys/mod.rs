//! The only place in this crate with `unsafe`: system calls on memory that Rust has no references to.
#![allow(unsafe_code)]

pub(crate) mod vectored;
