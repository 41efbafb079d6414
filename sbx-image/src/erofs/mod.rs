//! EROFS images, metadata only: what a snapshot consists of.
//!
//! Specification: `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h` of Linux 6.12.
//!
//! ```text
//!     ┌───────┬────────────┬──────────────────────┬─────────────────┬──────────────────────┐
//!     │ 1024 B│ superblock │ inodes with inline   │ shared extended │ whole blocks of      │
//!     │ zeros │ 128 B      │ attributes and tails │ attributes      │ directories and links│
//!     └───────┴────────────┴──────────────────────┴─────────────────┴──────────────────────┘
//!     byte 0                 inode n at 32 n, never across blocks      4 KiB aligned
//! ```
//!
//! File contents are not in it: block addresses beyond the metadata lead into the layers, which follow it on the
//! device (`extents.rs`).

mod directory;
mod format;
mod layout;
mod writer;
mod xattr;

pub(crate) use writer::{Image, WriteError, write};
