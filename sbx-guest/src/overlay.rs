//! The root file system: the image below, what the sandbox wrote above, and how to move in.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount_bind, mount_move};

use crate::mount::{MountError, mount};
use crate::scratch;

/// The block device with the image, first of the machine.
const DEVICE: &str = "/dev/vda";

/// Where the image is mounted, out of sight once the root has been switched.
pub(crate) const IMAGE: &str = "/image";

/// Where the root file system is put together.
const ROOT: &str = "/root";

/// Options of the overlay (Documentation/filesystems/overlayfs.rst):
/// `redirect_dir` makes renaming a directory of the image work as on any file system, `xino` gives all files one
/// device number, `index=off` allows the same upper directory over another build of the image.
const OPTIONS: &std::ffi::CStr =
    c"lowerdir=/image,upperdir=/scratch/upper,workdir=/scratch/work,redirect_dir=on,metacopy=off,index=off,xino=on";

/// Mounts the image.
pub(crate) fn mount_image() -> Result<(), MountError> {
    mount("erofs", DEVICE, Path::new(IMAGE), MountFlags::RDONLY, c"")
}

/// Mounts the root file system.
pub(crate) fn mount_root() -> Result<(), MountError> {
    mount("overlay", "overlay", Path::new(ROOT), MountFlags::empty(), OPTIONS)?;
    let docker = Path::new(ROOT).join("var/lib/docker");
    // Not every image has a place for it (its `/var` may be a file), and not every sandbox runs Docker.
    if crate::mount::make_directory(&docker).is_ok() {
        let _ = mount_bind(Path::new(scratch::MOUNTED).join("docker"), &docker);
    }
    Ok(())
}

/// Makes the root file system `/`. What was mounted before can no longer be reached by any path.
pub(crate) fn enter_root() -> Result<(), MountError> {
    let enter = || {
        rustix::process::chdir(ROOT)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    enter().map_err(|source| MountError::Mount {
        what: "the root file system".to_owned(),
        target: "/".to_owned(),
        source,
    })
}

/// Makes the root file system read-only, so that nothing writes to the disk below it any more.
pub(crate) fn close_root() -> rustix::io::Result<()> {
    let root = open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    crate::mount::reconfigure(&root, "ro")
}
