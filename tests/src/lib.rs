//! What end-to-end tests have in common: a hermetic environment and images that are made on the spot.
//!
//! `cargo xtask test` prepares what they need and says where it is:
//!
//! | variable | what |
//! |---|---|
//! | `SBX_TEST_KERNEL` | the guest kernel |
//! | `SBX_TEST_KERNEL_EMULATED_KVM` | where there is a /dev/kvm: the kernel to boot on it if it emulates |
//! | `SBX_TEST_ENGINE` | the engine of tests that are not about one; without it, the one that suits the machine |
//! | `SBX_TEST_CLIENTS` | an OCI layout of `library/clients:bookworm`: Debian with npm and pip |
//! | `SBX_TEST_RUST` | an OCI layout of Debian with cargo |
//! | `SBX_TEST_ALPINE` | an OCI layout of Alpine |
//! | `SBX_TEST_DOWNLOADS` | a directory for files that packages are installed from, which the next run finds again |
//! | `SBX_TEST_REGISTRY` | host and port of a registry that has `library/debian:bookworm-slim` and `library/clients:bookworm` |
//!
//! Without them a test fails and says so; it never passes by not running.

#![forbid(unsafe_code)]

pub mod environment;
pub mod image;
pub mod lan;
pub mod mirrors;
pub mod outcome;
pub mod packages;
pub mod registry;
pub mod terminal;

pub use environment::Environment;
pub use image::ImageBuilder;
pub use lan::Lan;
pub use mirrors::mirrors;
pub use outcome::Outcome;
pub use registry::Registry;
