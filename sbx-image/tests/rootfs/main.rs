//! From tars to a root file system, read back by programs that are not ours.

mod canonical;
#[path = "../../../fuzz/checksums.rs"]
mod checksums;
mod formats;
mod hostile;
mod merge;
mod rootfs;
mod tarball;
