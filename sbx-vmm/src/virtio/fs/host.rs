//! The system calls of the server: each takes the descriptor of a directory and one [`Name`] in it.
//!
//! None follows a symbolic link, none waits for the other end of a FIFO, and none leaks into child processes.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use rustix::path::DecInt;
use serde::{Deserialize, Serialize};

use super::name::Name;

/// Flags of every descriptor that the server opens.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Bits of a mode that a guest may set: no set-user-id and set-group-id, whose owner would be a user of the host.
const PLAIN_MODE: u32 = 0o1777;

/// Bits that give a program the rights of its owner or group.
pub(super) const PRIVILEGE_BITS: u32 = 0o6000;

/// Which file something is, whatever its name: two of the same identity are the same file.
///
/// The time of birth tells a file from a later one that got the same inode number; file systems that do not keep
/// it cannot tell, and then neither can we.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Major and minor number of the file system's device.
    pub(super) device: (u32, u32),
    /// Inode number.
    pub(super) inode: u64,
    kind: u16,
    born: Option<(i64, u32)>,
}

impl From<&Statx> for Identity {
    fn from(status: &Statx) -> Self {
        let known = status.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            kind: status.stx_mode & 0o170_000,
            born: known.then_some((status.stx_btime.tv_sec, status.stx_btime.tv_nsec)),
        }
    }
}

/// The type of a file, from its mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A file with contents.
    Regular,
    /// A directory.
    Directory,
    /// Symbolic link, FIFO, socket or device: the guest's kernel deals with these itself, they are never opened here.
    Other,
}

impl From<&Statx> for Kind {
    fn from(status: &Statx) -> Self {
        Self::of_mode(status.stx_mode)
    }
}

impl From<Identity> for Kind {
    fn from(identity: Identity) -> Self {
        Self::of_mode(identity.kind)
    }
}

impl Kind {
    fn of_mode(mode: u16) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            _ => Self::Other,
        }
    }
}

/// `mode` without the bits that a guest may not set.
pub(super) fn plain_mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & PLAIN_MODE)
}

/// Status of the file behind `file`.
pub(super) fn status(file: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Status of `name` in `directory`.
pub(super) fn status_at(directory: impl AsFd, name: Name<'_>) -> Result<Statx, Errno> {
    let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    rustix::fs::statx(directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW, flags)
}

/// Opens `name` in `directory`; `flags` say how, `mode` is that of a file made by it.
pub(super) fn open_at(
    directory: impl AsFd,
    name: Name<'_>,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name.as_c_str(), ALWAYS | flags, mode)
}

/// A descriptor that stands for `name` in `directory`, whatever it is, without opening it.
pub(super) fn stand_for(directory: impl AsFd, name: Name<'_>) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        directory,
        name.as_c_str(),
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens the directory behind `directory` for reading its entries.
pub(super) fn open_entries(directory: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, c".", ALWAYS | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// `/proc/self/fd`: the way from a descriptor to what can only be done with a path, and to where a file is now.
///
/// The links there lead to the file itself, not to its name, so nothing can get in between.
#[derive(Debug)]
pub(super) struct Descriptors(OwnedFd);

impl Descriptors {
    /// Opens the directory; it stays open so that a later change of root does not matter.
    pub(super) fn open() -> Result<Self, Errno> {
        rustix::fs::openat(
            CWD,
            c"/proc/self/fd",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Self)
    }

    /// Where `file` is at this moment: an absolute path, or one that ends in ` (deleted)`.
    pub(super) fn path_of(&self, file: impl AsFd) -> Result<CString, Errno> {
        rustix::fs::readlinkat(&self.0, DecInt::from_fd(file), Vec::with_capacity(256))
    }

    /// Opens the file behind `file` again, with other flags.
    pub(super) fn reopen(&self, file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = ALWAYS.difference(OFlags::NOFOLLOW) | flags;
        rustix::fs::openat(&self.0, DecInt::from_fd(file), flags, Mode::empty())
    }

    /// Sets the permissions of the file behind `file`.
    pub(super) fn set_mode(&self, file: impl AsFd, mode: Mode) -> Result<(), Errno> {
        rustix::fs::chmodat(&self.0, DecInt::from_fd(file), mode, AtFlags::empty())
    }

    /// The path of `file` below `/proc/self/fd`, for the calls on extended attributes.
    pub(super) fn alias(file: impl AsFd) -> String {
        format!("/proc/self/fd/{}", DecInt::from_fd(file).as_ref().display())
    }
}
