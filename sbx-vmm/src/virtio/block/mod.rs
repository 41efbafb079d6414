//! The block device (virtio 1.2, 5.2): a read-only disk put together from extents of files, or a read-write one in a
//! sparse file.
//!
//! ```text
//! queue ──chain──▶ request::parse ──Operation──▶ device ──▶ backend ──preadv/pwritev──▶ file
//! ```
//!
//! Data goes between file and guest memory in one system call for each run of bytes, without a copy of ours.

mod backend;
mod config;
mod device;
mod request;
mod saved;

pub use backend::DiskError;
pub use device::BlockDevice;
pub use saved::BlockState;

#[cfg(test)]
mod tests;
