//! Attributes of files as the guest sees them: ids mapped, inode numbers kept apart.

use std::io;

use fuse_backend_rs::abi::fuse_abi::{stat64, statvfs64};
use fuse_backend_rs::api::filesystem::{Context, Entry, FileSystem};
use rustix::fs::{StatVfs, Statx};
use rustix::io::Errno;

use crate::config::IdMap;

/// The id that stands for "somebody else" where the true one would be mistaken for the agent (`nobody`).
const NOBODY: u32 = 65534;

/// A host file system's inode numbers are moved up by its index times 2^52, so that files of different file systems
/// that are shared under one device do not look like hard links of each other.
const INODE_BITS: u32 = 52;

impl IdMap {
    /// The user that the guest sees for a user of the host.
    fn uid_for_guest(self, uid: u32) -> u32 {
        for_guest(uid, self.host_uid, self.guest_uid)
    }

    /// The group that the guest sees for a group of the host.
    fn gid_for_guest(self, gid: u32) -> u32 {
        for_guest(gid, self.host_gid, self.guest_gid)
    }

    /// Whether the guest may set the owner of a file to `uid`, `gid` (`None`: leave as is): ids do not change on the
    /// host, so only what the file is already taken to be, or root, which the agent can be at will.
    pub(super) fn may_own(self, status: &Statx, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let uid_kept = uid
            .is_none_or(|uid| uid == 0 || uid == self.guest_uid || uid == self.uid_for_guest(status.stx_uid));
        let gid_kept = gid
            .is_none_or(|gid| gid == 0 || gid == self.guest_gid || gid == self.gid_for_guest(status.stx_gid));
        if uid_kept && gid_kept { Ok(()) } else { Err(Errno::PERM) }
    }
}

fn for_guest(id: u32, host: u32, guest: u32) -> u32 {
    if id == host {
        guest
    } else if id == guest {
        NOBODY
    } else {
        id
    }
}

/// The inode number that the guest sees for `inode` of the `device`-th file system.
pub(super) fn inode_number(device: usize, inode: u64) -> u64 {
    u64::try_from(device).unwrap_or(0).wrapping_shl(INODE_BITS).wrapping_add(inode)
}

/// What the guest is told of a file with `status`.
pub(super) fn attributes(status: &Statx, inode: u64, ids: IdMap) -> stat64 {
    // An entry's default is zeros; the type has private padding and cannot be written down otherwise.
    let mut out = Entry::default().attr;
    out.st_ino = inode;
    out.st_mode = u32::from(status.stx_mode);
    out.st_nlink = u64::from(status.stx_nlink);
    out.st_uid = ids.uid_for_guest(status.stx_uid);
    out.st_gid = ids.gid_for_guest(status.stx_gid);
    out.st_rdev = rustix::fs::makedev(status.stx_rdev_major, status.stx_rdev_minor);
    out.st_size = i64::try_from(status.stx_size).unwrap_or(i64::MAX);
    out.st_blksize = i64::from(status.stx_blksize);
    out.st_blocks = i64::try_from(status.stx_blocks).unwrap_or(i64::MAX);
    out.st_atime = status.stx_atime.tv_sec;
    out.st_atime_nsec = i64::from(status.stx_atime.tv_nsec);
    out.st_mtime = status.stx_mtime.tv_sec;
    out.st_mtime_nsec = i64::from(status.stx_mtime.tv_nsec);
    out.st_ctime = status.stx_ctime.tv_sec;
    out.st_ctime_nsec = i64::from(status.stx_ctime.tv_nsec);
    out
}

/// Attributes of the device's root, which is no directory of the host.
pub(super) fn root_attributes(inode: u64, entries: usize) -> stat64 {
    let mut out = Entry::default().attr;
    out.st_ino = inode;
    out.st_mode = 0o040_555;
    out.st_nlink = u64::try_from(entries).unwrap_or(0).saturating_add(2);
    out.st_blksize = 4096;
    out
}

/// What `df` shows in the guest.
pub(super) fn space(status: &StatVfs) -> io::Result<statvfs64> {
    let mut out = no_space()?;
    out.f_bsize = status.f_bsize;
    out.f_frsize = status.f_frsize;
    out.f_blocks = status.f_blocks;
    out.f_bfree = status.f_bfree;
    out.f_bavail = status.f_bavail;
    out.f_files = status.f_files;
    out.f_ffree = status.f_ffree;
    out.f_namemax = status.f_namemax;
    Ok(out)
}

/// An empty file system.
pub(super) fn no_space() -> io::Result<statvfs64> {
    /// Has the trait's own answer to everything, which is the one way to a `statvfs64` without unsafe code.
    struct Nothing;
    impl FileSystem for Nothing {
        type Inode = u64;
        type Handle = u64;
    }
    Nothing.statfs(&Context::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: IdMap = IdMap { host_uid: 1000, host_gid: 100, guest_uid: 1, guest_gid: 2 };

    #[test]
    fn the_user_is_the_agent_and_nobody_else_is() {
        assert_eq!(IDS.uid_for_guest(1000), 1);
        assert_eq!(IDS.gid_for_guest(100), 2);
        assert_eq!(IDS.uid_for_guest(1), NOBODY, "the host's user 1 must not pass for the agent");
        assert_eq!(IDS.gid_for_guest(2), NOBODY);
        assert_eq!(IDS.uid_for_guest(0), 0);
        assert_eq!(IDS.gid_for_guest(33), 33);
    }

    #[test]
    fn equal_ids_map_to_themselves() {
        let ids = IdMap { host_uid: 1000, host_gid: 1000, guest_uid: 1000, guest_gid: 1000 };
        assert_eq!(ids.uid_for_guest(1000), 1000);
        assert_eq!(ids.gid_for_guest(0), 0);
    }
}
