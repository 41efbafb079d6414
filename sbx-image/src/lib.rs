//! Images: from a registry, layout or archive to a bootable file system in the store.
//!
//! ```text
//!   Source ─pull→ Image ─Store::snapshot→ Snapshot
//!             └ layers in the store ┘
//! ```
//!
//! Nothing in here knows of virtual machines, and nothing reads the environment: the program passes in what the user
//! configured. Everything that comes from outside (registries, archives, layers) is bounded and checked.

#![forbid(unsafe_code)]

pub mod digest;
pub mod dump;
mod erofs;
mod extents;
pub mod layer;
pub mod manifest;
mod node;
pub mod platform;
pub mod progress;
pub mod pull;
pub mod registry;
pub mod snapshot;
pub mod source;
pub mod store;
mod tree;

pub use digest::Digest;
pub use manifest::{Image, Layer};
pub use oci_distribution::Reference;
pub use platform::Platform;
pub use progress::Progress;
pub use pull::{PullError, PullOptions, pull};
pub use registry::Mirrors;
pub use source::Source;
pub use store::{Snapshot, SnapshotExtent, Store, StoreError};
