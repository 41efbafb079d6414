//! Directories of the host, each at its place.
//!
//! One virtio-fs device serves them all, as directories of its root. It is mounted once where nothing of the
//! running system can see it, and each directory is bound from there to where the manifest wants it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree};
use sbx_proto::{Mount, User};

use crate::mount::{MountError, mount};

/// Where the device is mounted until the root has been switched.
const MOUNTED: &str = "/shares";

/// A file on the host is no way to root or to a device in the guest.
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The mounted device.
#[derive(Debug)]
pub(crate) struct Shares {
    directory: OwnedFd,
}

impl Shares {
    /// Mounts the device with this tag.
    pub(crate) fn mount(tag: &str) -> Result<Self, MountError> {
        mount("virtiofs", tag, Path::new(MOUNTED), FLAGS, c"")?;
        let directory =
            open(MOUNTED, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(
                |source| MountError::Prepare { what: "open the shares".to_owned(), source: source.into() },
            )?;
        Ok(Self { directory })
    }

    /// Binds one share to its place. Directories that are missing on the way belong to `user`, as they would on
    /// the host.
    pub(crate) fn attach(&self, mount: &Mount, user: &User) -> Result<(), MountError> {
        let at = Path::new(OsStr::from_bytes(&mount.at));
        make_directories(at, user)
            .map_err(|source| MountError::Directory { path: at.display().to_string(), source })?;
        self.bind(mount, at).map_err(|source| MountError::Mount {
            what: format!("the share {}", mount.share),
            target: at.display().to_string(),
            source,
        })
    }

    fn bind(&self, mount: &Mount, at: &Path) -> Result<(), Errno> {
        let tree = open_tree(
            &self.directory,
            mount.share.as_str(),
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        move_mount(
            &tree,
            "",
            CWD,
            at,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
        )?;
        if mount.read_only {
            return mount_remount(at, MountFlags::BIND | MountFlags::RDONLY | FLAGS, "");
        }
        for protected in &mount.protected {
            protect(tree.as_fd(), Path::new(OsStr::from_bytes(protected)), at)?;
        }
        Ok(())
    }
}

/// Binds a path of a share over itself, read-only, so that programs see what the server would tell them anyway.
/// Where there is nothing yet, the server alone stands guard. No symbolic link is followed: the share is what the
/// guest makes of it.
fn protect(share: impl AsFd, path: &Path, at: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = match openat2(&share, path, flags, Mode::empty(), resolve) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
        return Ok(());
    }
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&found, "", clone)?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &found, "", onto)?;
    mount_remount(at.join(path), MountFlags::BIND | MountFlags::RDONLY | FLAGS, "")
}

/// Makes a directory; those that were not there belong to `user`.
pub(crate) fn make_directories(path: &Path, user: &User) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directories(parent, user)?;
    }
    DirBuilder::new().create(path)?;
    chown(path, Some(user.uid), Some(user.gid))
}
