//! Removing a directory that a guest wrote to.
//!
//! It may have directories that not even their owner may list, and be deeper than a path can say or a stack can hold. So it is
//! gone through by descriptors, and what is too deep is first moved up to the top.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
};

/// How deep directories are opened inside of each other.
const MAX_DEPTH: usize = 64;

/// Mode of a directory that its owner can list and change.
const OPEN: Mode = Mode::RWXU;

/// Removes the directory at `path` and what is below it, if it is there.
///
/// # Errors
/// If something cannot be removed.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(OPEN.as_raw_mode())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    let top = open(CWD, path.as_os_str())?;
    let mut moved = 0_u64;
    // What was moved up is there the next time.
    while clear(&top, top.as_fd(), 0, &mut moved)? {}
    fs::remove_dir(path)
}

/// Empties `directory`; true if something was moved to `top` instead.
fn clear(top: &OwnedFd, directory: impl AsFd, depth: usize, moved: &mut u64) -> Result<bool, Errno> {
    let mut any = false;
    let names = Dir::read_from(&directory)?
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            other => {
                other?;
                continue;
            }
        }
        rustix::fs::chmodat(&directory, name, OPEN, AtFlags::empty())?;
        if depth >= MAX_DEPTH {
            *moved = moved.saturating_add(1);
            rustix::fs::renameat(&directory, name, top, format!(".moved-{moved}"))?;
            any = true;
            continue;
        }
        any |= clear(top, open(&directory, name)?, depth.saturating_add(1), moved)?;
        rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR)?;
    }
    Ok(any)
}

fn open(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_deeper_than_a_path_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tree");
        fs::create_dir(&path).unwrap();
        let mut inner = open(CWD, path.as_os_str()).unwrap();
        for depth in 0..3000 {
            rustix::fs::mkdirat(&inner, "directory", OPEN).unwrap();
            let next = open(&inner, "directory").unwrap();
            if depth % 100 == 0 {
                rustix::fs::symlinkat("/etc", &next, "link").unwrap();
                rustix::fs::fchmod(&next, Mode::RUSR | Mode::WUSR | Mode::XUSR).unwrap();
            }
            inner = next;
        }
        remove_all(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        remove_all(&path).unwrap();
    }

    #[test]
    fn links_are_not_followed() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("file"), "kept").unwrap();
        let path = directory.path().join("tree");
        fs::create_dir(&path).unwrap();
        symlink(outside.path(), path.join("link")).unwrap();
        remove_all(&path).unwrap();
        assert!(outside.path().join("file").exists());
    }
}
