//! The user's home, apart from everything else that was written: it stays when the rest is thrown away.
//!
//! ```text
//! home/upper    what differs from the image's home; all of it, if the image has none
//! home/work     the overlay's own
//! home.new/     the same on its way to be there: renamed when it is whole
//! ```
//!
//! Where the image has the home, it is an overlay over the image's; elsewhere it is the directory itself. It is mounted out of
//! sight, since only in the new root its path means what the image makes of it, and the disk is out of reach there.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::mount::{MountError, make_directory, reconfigure};

/// Where the image's home is mounted, for the overlay to find.
const IMAGE_HOME: &str = "/image-home";

/// The home, mounted nowhere yet or in its place.
#[derive(Debug)]
pub(crate) struct Home {
    tree: OwnedFd,
    is_overlay: bool,
}

impl Home {
    /// Makes the home at `home` from what the disk at `scratch` and the `image` have.
    pub(crate) fn mount(scratch: &Path, image: &Path, home: &Path) -> Result<Self, MountError> {
        let failed = |source: Errno| MountError::Mount {
            what: "the home".to_owned(),
            target: home.display().to_string(),
            source,
        };
        let directory = scratch.join("home");
        let below = image_home(image, home).map_err(failed)?;
        let Some(below) = below else {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, directory.join("upper"), flags).map_err(failed)?;
            return Ok(Self { tree, is_overlay: false });
        };
        make_directory(Path::new(IMAGE_HOME))?;
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&below, "", CWD, IMAGE_HOME, onto).map_err(failed)?;
        let tree = overlay(&directory).map_err(failed)?;
        Ok(Self { tree, is_overlay: true })
    }

    /// Puts it in its place, in the root file system that was entered.
    pub(crate) fn attach(&self, home: &Path) -> Result<(), MountError> {
        make_directory(home)?;
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.tree, "", CWD, home, onto).map_err(|source| MountError::Mount {
            what: "the home".to_owned(),
            target: home.display().to_string(),
            source,
        })
    }

    /// Makes it read-only, so that nothing writes to the disk below it any more.
    pub(crate) fn close(&self) -> rustix::io::Result<()> {
        // Without an overlay it is the disk itself.
        if self.is_overlay { reconfigure(&self.tree, "ro") } else { Ok(()) }
    }
}

/// Makes the directories of a home of its own on the disk at `scratch`. A sandbox of an earlier version has its home in what
/// was written to the root file system; it is moved.
pub(crate) fn lay_out(scratch: &Path, image: &Path, home: &Path) -> Result<(), MountError> {
    let place = scratch.join("home");
    if place.symlink_metadata().is_ok() {
        return Ok(());
    }
    let new = scratch.join("home.new");
    make_directory(&new.join("work"))?;
    let upper = new.join("upper");
    let make = || -> io::Result<()> {
        if upper.symlink_metadata().is_err() {
            match plain_directory(&scratch.join("upper"), home) {
                Some(earlier) => fs::rename(earlier, &upper)?,
                None => make_upper(&new, &upper, plain_directory(image, home).as_deref())?,
            }
        }
        fs::rename(&new, &place)
    };
    make().map_err(|source| MountError::Prepare { what: "make room for the home".to_owned(), source })
}

/// Makes the directory that the home will look like: as the image's, or root's until the user gets it.
fn make_upper(new: &Path, upper: &Path, image: Option<&Path>) -> io::Result<()> {
    let unfinished = new.join("upper.new");
    fs::create_dir_all(&unfinished)?;
    if let Some(image) = image {
        let metadata = fs::metadata(image)?;
        chown(&unfinished, Some(metadata.uid()), Some(metadata.gid()))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    fs::rename(unfinished, upper)
}

/// `path` below `root`, if it is a directory and no part of it is a link.
fn plain_directory(root: &Path, path: &Path) -> Option<std::path::PathBuf> {
    let mut found = root.to_path_buf();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => found.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
        if !found.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return None;
        }
    }
    Some(found)
}

/// The image's home as a mount of its own, links followed as the image means them; none if it has none.
fn image_home(image: &Path, home: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let image = open(image, flags, Mode::empty())?;
    let found = match openat2(&image, home, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error),
    };
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&found, "", clone).map(Some)
}

/// With the options of the root's overlay, and for their reasons.
fn overlay(directory: &Path) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    fsconfig_set_string(&context, "source", "home")?;
    fsconfig_set_string(&context, "lowerdir", IMAGE_HOME)?;
    fsconfig_set_string(&context, "upperdir", upper.as_path())?;
    fsconfig_set_string(&context, "workdir", work.as_path())?;
    for (option, value) in [("redirect_dir", "on"), ("metacopy", "off"), ("index", "off"), ("xino", "on")] {
        fsconfig_set_string(&context, option, value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HOME: &str = "/home/agent";

    /// A disk and an image, both empty.
    fn directories() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let (scratch, image) = (parent.path().join("scratch"), parent.path().join("image"));
        fs::create_dir_all(&scratch).unwrap();
        fs::create_dir_all(&image).unwrap();
        (parent, scratch, image)
    }

    #[test]
    fn a_home_looks_like_the_images() {
        let (_parent, scratch, image) = directories();
        fs::create_dir_all(image.join("home/agent")).unwrap();
        fs::set_permissions(image.join("home/agent"), fs::Permissions::from_mode(0o710)).unwrap();
        lay_out(&scratch, &image, Path::new(HOME)).unwrap();
        let mode = fs::metadata(scratch.join("home/upper")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o710);
        assert!(scratch.join("home/work").is_dir());
        assert!(!scratch.join("home.new").exists());
    }

    #[test]
    fn the_home_of_an_earlier_version_is_moved_and_never_twice() {
        let (_parent, scratch, image) = directories();
        fs::create_dir_all(scratch.join("upper/home/agent")).unwrap();
        fs::write(scratch.join("upper/home/agent/kept"), "kept").unwrap();
        lay_out(&scratch, &image, Path::new(HOME)).unwrap();
        assert_eq!(fs::read_to_string(scratch.join("home/upper/kept")).unwrap(), "kept");
        assert!(!scratch.join("upper/home/agent").exists());
        // What lies there later is not the home.
        fs::create_dir_all(scratch.join("upper/home/agent")).unwrap();
        lay_out(&scratch, &image, Path::new(HOME)).unwrap();
        assert!(scratch.join("home/upper/kept").exists());
    }

    #[test]
    fn what_a_killed_boot_left_is_finished() {
        let (_parent, scratch, image) = directories();
        fs::create_dir_all(scratch.join("home.new/work")).unwrap();
        fs::create_dir_all(scratch.join("home.new/upper")).unwrap();
        fs::write(scratch.join("home.new/upper/moved"), "").unwrap();
        lay_out(&scratch, &image, Path::new(HOME)).unwrap();
        assert!(scratch.join("home/upper/moved").exists());
    }

    #[test]
    fn links_that_the_guest_made_lead_nowhere() {
        let (parent, scratch, image) = directories();
        fs::create_dir_all(parent.path().join("elsewhere/agent")).unwrap();
        fs::create_dir_all(scratch.join("upper")).unwrap();
        symlink(parent.path().join("elsewhere"), scratch.join("upper/home")).unwrap();
        lay_out(&scratch, &image, Path::new(HOME)).unwrap();
        assert!(parent.path().join("elsewhere/agent").is_dir());
        assert_eq!(fs::read_dir(scratch.join("home/upper")).unwrap().count(), 0);
    }
}
