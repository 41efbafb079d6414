//! From an image's layers to a root file system.
#![forbid(unsafe_code)]

mod erofs;
mod extents;
pub mod layer;
mod node;
pub mod snapshot;
mod tree;
