//! The user that the sandbox's commands run as, made in an image that does not have it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use sbx_proto::User;

use crate::accounts::{self, Account, Accounts, read_bounded};
use crate::program;

/// Bounds for copying `/etc/skel`, which is the image's: entries in all, and how deep.
const MAX_SKELETON_ENTRIES: usize = 256;
const MAX_SKELETON_DEPTH: usize = 4;

/// Something of the user could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// One of the account files, or the home directory.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes account, group and home of `user` what they should be.
///
/// The accounts are as [`accounts::with_account`] explains. The account has no password (`*`), and so needs no line
/// in `/etc/shadow`.
pub(crate) fn ensure(etc: &Path, user: &User) -> Result<(), UserError> {
    let name = user.name.as_bytes();
    update(&etc.join("passwd"), 0o644, |text| {
        let known = Accounts::parse(text, b"").named(name).cloned();
        let shell = known.map(|account| account.shell).filter(|shell| !shell.is_empty());
        let shell = program::shell(shell.as_deref()).unwrap_or_else(|_| b"/bin/sh".to_vec());
        let wanted =
            Account { name: name.to_vec(), uid: user.uid, gid: user.gid, home: user.home.clone(), shell };
        accounts::with_account(text, &wanted)
    })?;
    update(&etc.join("group"), 0o644, |text| accounts::with_group(text, name, user.gid))?;
    let home = Path::new(OsStr::from_bytes(&user.home));
    make_home(&etc.join("skel"), home, user)
        .map_err(|source| UserError::Write { path: home.display().to_string(), source })
}

/// Replaces a file by what `change` makes of it, if anything.
///
/// Without fsync: ext4 writes out a file before the rename that puts it in the place of another (`auto_da_alloc`),
/// and syncing would cost the boot milliseconds.
fn update(path: &Path, mode: u32, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Result<(), UserError> {
    let failed = |source| UserError::Write { path: path.display().to_string(), source };
    let (before, metadata) = match read_bounded(path) {
        Ok(before) => (before, fs::metadata(path).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
        Err(source) => return Err(failed(source)),
    };
    let Some(after) = change(&before) else { return Ok(()) };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".sbx");
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&temporary, &after)?;
        let permissions = metadata.as_ref().map(fs::Metadata::permissions);
        fs::set_permissions(&temporary, permissions.unwrap_or_else(|| fs::Permissions::from_mode(mode)))?;
        if let Some(metadata) = &metadata {
            chown(&temporary, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(failed)
}

/// Makes the home directory with what the image has for new users. One that is there already only changes hands,
/// and only itself; unless it is root's and empty, which is what a new home of its own is.
fn make_home(skeleton: &Path, home: &Path, user: &User) -> io::Result<()> {
    let is_empty = || fs::read_dir(home).is_ok_and(|mut entries| entries.next().is_none());
    if let Ok(metadata) = fs::metadata(home).as_ref()
        && !(metadata.is_dir() && metadata.uid() == 0 && user.uid != 0 && is_empty())
    {
        if metadata.uid() != user.uid && metadata.is_dir() && home != Path::new("/") {
            chown(home, Some(user.uid), Some(user.gid))?;
        }
        return Ok(());
    }
    fs::create_dir_all(home)?;
    let mut left = MAX_SKELETON_ENTRIES;
    copy_skeleton(skeleton, home, user, MAX_SKELETON_DEPTH, &mut left);
    // Last: a home that belongs to root is one whose making was interrupted, and is taken over at the next boot.
    chown(home, Some(user.uid), Some(user.gid))
}

/// Copies what `useradd --create-home` would. Files that cannot be copied are left out: the home is usable without.
fn copy_skeleton(from: &Path, to: &Path, user: &User, depth: usize, left: &mut usize) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (Some(fewer), Some(shallower)) = (left.checked_sub(1), depth.checked_sub(1)) else { return };
        *left = fewer;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(kind) = entry.file_type() else { continue };
        let copied = if kind.is_dir() {
            fs::create_dir(&target).map(|()| copy_skeleton(&source, &target, user, shallower, left))
        } else if kind.is_symlink() {
            fs::read_link(&source).and_then(|link| symlink(link, &target))
        } else if kind.is_file() {
            fs::copy(&source, &target).map(drop)
        } else {
            continue;
        };
        if copied.is_ok() {
            let _ = lchown(&target, Some(user.uid), Some(user.gid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(home: &Path) -> User {
        User {
            name: "agent".to_owned(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            home: home.as_os_str().as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_bare_image_gets_accounts_and_a_home() {
        let root = tempfile::tempdir().unwrap();
        let (etc, home) = (root.path().join("etc"), root.path().join("home/agent"));
        ensure(&etc, &user(&home)).unwrap();
        assert!(fs::read_to_string(etc.join("passwd")).unwrap().starts_with("agent:*:"));
        assert!(fs::read_to_string(etc.join("group")).unwrap().starts_with("agent:x:"));
        assert!(home.is_dir());
        assert_eq!(fs::metadata(etc.join("passwd")).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(!etc.join("passwd.sbx").exists());
    }

    #[test]
    fn the_second_boot_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (etc, home) = (root.path().join("etc"), root.path().join("home/agent"));
        ensure(&etc, &user(&home)).unwrap();
        let before = fs::metadata(etc.join("passwd")).unwrap().ino();
        ensure(&etc, &user(&home)).unwrap();
        assert_eq!(fs::metadata(etc.join("passwd")).unwrap().ino(), before);
    }

    #[test]
    fn a_new_home_has_what_the_image_gives_to_users() {
        let root = tempfile::tempdir().unwrap();
        let (etc, home) = (root.path().join("etc"), root.path().join("home/agent"));
        fs::create_dir_all(etc.join("skel/.config")).unwrap();
        fs::write(etc.join("skel/.bashrc"), "PS1=x").unwrap();
        symlink(".bashrc", etc.join("skel/.link")).unwrap();
        ensure(&etc, &user(&home)).unwrap();
        assert_eq!(fs::read_to_string(home.join(".bashrc")).unwrap(), "PS1=x");
        assert_eq!(fs::read_link(home.join(".link")).unwrap(), Path::new(".bashrc"));
        assert!(home.join(".config").is_dir());
    }

    #[test]
    fn a_file_keeps_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("passwd");
        fs::write(&path, "root:x:0:0:::\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        ensure(root.path(), &user(&root.path().join("h"))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
