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

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, open, openat, openat2, statat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use sbx_proto::User;

use crate::mount::{MountError, make_directory, reconfigure};

/// Where the image's home is mounted, for the overlay to find.
const IMAGE_HOME: &str = "/image-home";

/// How deep in a home files change hands. What is deeper keeps its owner, and can be read.
const MAX_DEPTH: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
pub(crate) fn lay_out(scratch: &Path, image: &Path, user: &User) -> Result<(), MountError> {
    let home = Path::new(OsStr::from_bytes(&user.home));
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
        // A killed boot may have moved the home and not got to this.
        take_over(&upper, user)?;
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

/// Gives the files of a home to `user`. In an earlier version the user had other numbers: those of the host's.
fn take_over(upper: &Path, user: &User) -> io::Result<()> {
    let before = fs::metadata(upper)?.uid();
    // Root's is one that nobody has had yet.
    if before == user.uid || before == 0 {
        return Ok(());
    }
    let directory = open(upper, DIRECTORY, Mode::empty())?;
    take_over_all(&directory, before, user, MAX_DEPTH)?;
    chown(upper, Some(user.uid), Some(user.gid))
}

fn take_over_all(directory: &OwnedFd, before: u32, user: &User, depth: usize) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if found.st_uid == before {
            chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory
            && let Some(depth) = depth.checked_sub(1)
        {
            let inner = openat(directory, name, DIRECTORY, Mode::empty())?;
            take_over_all(&inner, before, user, depth)?;
        }
    }
    Ok(())
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

    fn user() -> User {
        User {
            name: "agent".to_owned(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            home: b"/home/agent".to_vec(),
        }
    }

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
        lay_out(&scratch, &image, &user()).unwrap();
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
        lay_out(&scratch, &image, &user()).unwrap();
        assert_eq!(fs::read_to_string(scratch.join("home/upper/kept")).unwrap(), "kept");
        assert!(!scratch.join("upper/home/agent").exists());
        // What lies there later is not the home.
        fs::create_dir_all(scratch.join("upper/home/agent")).unwrap();
        lay_out(&scratch, &image, &user()).unwrap();
        assert!(scratch.join("home/upper/kept").exists());
    }

    #[test]
    fn files_of_the_earlier_user_change_hands_and_those_of_others_do_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (parent, scratch, image) = directories();
        let earlier = scratch.join("upper/home/agent");
        fs::create_dir_all(earlier.join("a/b")).unwrap();
        fs::write(earlier.join("a/b/mine"), "").unwrap();
        fs::write(earlier.join("roots"), "").unwrap();
        let outside = parent.path().join("outside");
        fs::write(&outside, "").unwrap();
        symlink(&outside, earlier.join("link")).unwrap();
        for path in ["", "a", "a/b", "a/b/mine"] {
            chown(earlier.join(path), Some(1234), Some(1234)).unwrap();
        }
        std::os::unix::fs::lchown(earlier.join("link"), Some(1234), Some(1234)).unwrap();
        let agent = User { uid: 1000, gid: 1000, ..user() };
        lay_out(&scratch, &image, &agent).unwrap();
        let upper = scratch.join("home/upper");
        let owner = |path: &str| upper.join(path).symlink_metadata().unwrap().uid();
        assert_eq!(["", "a", "a/b", "a/b/mine", "link"].map(owner), [1000; 5]);
        assert_eq!(owner("roots"), 0);
        assert_eq!(fs::metadata(outside).unwrap().uid(), 0);
    }

    #[test]
    fn what_a_killed_boot_left_is_finished() {
        let (_parent, scratch, image) = directories();
        fs::create_dir_all(scratch.join("home.new/work")).unwrap();
        fs::create_dir_all(scratch.join("home.new/upper")).unwrap();
        fs::write(scratch.join("home.new/upper/moved"), "").unwrap();
        lay_out(&scratch, &image, &user()).unwrap();
        assert!(scratch.join("home/upper/moved").exists());
    }

    #[test]
    fn links_that_the_guest_made_lead_nowhere() {
        let (parent, scratch, image) = directories();
        fs::create_dir_all(parent.path().join("elsewhere/agent")).unwrap();
        fs::create_dir_all(scratch.join("upper")).unwrap();
        symlink(parent.path().join("elsewhere"), scratch.join("upper/home")).unwrap();
        lay_out(&scratch, &image, &user()).unwrap();
        assert!(parent.path().join("elsewhere/agent").is_dir());
        assert_eq!(fs::read_dir(scratch.join("home/upper")).unwrap().count(), 0);
    }
}
