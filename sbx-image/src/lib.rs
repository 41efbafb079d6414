//! Images: from a registry, layout or archive to a bootable file system in the store.
//!
//! ```text
//!   Source ─pull→ Image ─Store::snapshot→ Snapshot
//!             └ layers in the store ┘
//! ```
//!
//! Nothing in here knows of virtual machines, and nothing reads the environment: the program passes in what the user
//! configured. Everything that comes from outside (registries, archives, layers) is bounded and checked.
//!
//! Without the feature `store`, which is on by default, only the file formats are left: what makes a snapshot of layers,
//! without the network and all that it needs. The fuzz targets are built so.

#![forbid(unsafe_code)]

pub mod comparison;
pub mod digest;
pub mod dump;
mod erofs;
mod extents;
#[cfg(feature = "store")]
mod hashed;
pub mod layer;
#[cfg(feature = "store")]
pub mod manifest;
mod node;
#[cfg(feature = "store")]
pub mod normalisation;
#[cfg(feature = "store")]
pub mod platform;
#[cfg(feature = "store")]
pub mod progress;
#[cfg(feature = "store")]
pub mod pull;
#[cfg(feature = "store")]
pub mod registry;
#[cfg(feature = "store")]
pub mod share;
pub mod snapshot;
#[cfg(feature = "store")]
pub mod source;
#[cfg(feature = "store")]
pub mod store;
mod tree;

pub use digest::Digest;
#[cfg(feature = "store")]
pub use manifest::{Image, Layer};
#[cfg(feature = "store")]
pub use normalisation::Normalisation;
#[cfg(feature = "store")]
pub use oci_distribution::Reference;
#[cfg(feature = "store")]
pub use platform::Platform;
#[cfg(feature = "store")]
pub use progress::Progress;
#[cfg(feature = "store")]
pub use pull::{PullError, PullOptions, pull};
#[cfg(feature = "store")]
pub use registry::Mirrors;
#[cfg(feature = "store")]
pub use source::Source;
#[cfg(feature = "store")]
pub use store::{Snapshot, SnapshotExtent, Store, StoreError};
