//! From tars to a root file system, read back by programs that are not ours.

mod canonical;
mod formats;
mod hostile;
mod merge;
mod rootfs;
mod tarball;
