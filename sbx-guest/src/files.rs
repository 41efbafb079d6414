//! Files that the host wants to be there: in the home what programs shall find at their first start, elsewhere what the system
//! tells them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Component, Path};

use sbx_proto::{PlacedFile, User};

use crate::shares::make_directories;

/// A file was not placed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub(crate) struct FileError {
    path: String,
    #[source]
    source: io::Error,
}

/// Places `files` for `user`; the first that cannot be placed ends it.
pub(crate) fn place(files: &[PlacedFile], user: &User) -> Result<(), FileError> {
    let home = Path::new(OsStr::from_bytes(&user.home));
    for file in files {
        let path = Path::new(OsStr::from_bytes(&file.path));
        let placed = if path.is_absolute() {
            replace(path, &file.content)
        } else {
            place_in_home(home, path, &file.content, user)
        };
        placed.map_err(|source| FileError { path: path.display().to_string(), source })?;
    }
    Ok(())
}

/// The system's: in the place of what is there.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let unfinished = with_suffix(path);
    fs::write(&unfinished, content)?;
    fs::rename(unfinished, path)
}

/// The user's: placed where there is nothing, and theirs from then on.
fn place_in_home(home: &Path, path: &Path, content: &[u8], user: &User) -> io::Result<()> {
    if path.components().any(|component| !matches!(component, Component::Normal(_))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let target = home.join(path);
    if target.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        make_directories(parent, user)?;
        // Below a link it is somebody else's place, which root does not write to for the user.
        if !is_below(parent, home)? {
            return Ok(());
        }
    }
    let unfinished = with_suffix(&target);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(content)?;
    chown(&unfinished, Some(user.uid), Some(user.gid))?;
    fs::rename(unfinished, target)
}

/// Whether `path` leads to where it seems to: to a place in `home`.
fn is_below(path: &Path, home: &Path) -> io::Result<bool> {
    let (path, home) = (fs::canonicalize(path)?, fs::canonicalize(home)?);
    Ok(path.starts_with(&home) && fs::metadata(&path)?.dev() == fs::metadata(&home)?.dev())
}

fn with_suffix(path: &Path) -> OsString {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".sbx");
    unfinished
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn user(home: &Path) -> User {
        User {
            name: "agent".to_owned(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            home: home.as_os_str().as_bytes().to_vec(),
        }
    }

    fn file(path: &str, content: &str) -> PlacedFile {
        PlacedFile { path: path.as_bytes().to_vec(), content: content.as_bytes().to_vec() }
    }

    #[test]
    fn a_file_of_the_users_is_placed_once_and_the_systems_each_time() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        fs::create_dir(&home).unwrap();
        let system = root.path().join("run/config");
        let place_both = |content: &str| {
            let files = [file(".acme/settings.json", content), file(system.to_str().unwrap(), content)];
            place(&files, &user(&home)).unwrap();
            [home.join(".acme/settings.json"), system.clone()].map(|path| fs::read_to_string(path).unwrap())
        };
        assert_eq!(place_both("one"), ["one", "one"]);
        assert_eq!(place_both("two"), ["one", "two"]);
        let mode = fs::metadata(home.join(".acme/settings.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.join(".acme")).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn links_are_neither_replaced_nor_followed_out_of_the_home() {
        let root = tempfile::tempdir().unwrap();
        let (home, outside) = (root.path().join("home"), root.path().join("outside"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&outside).unwrap();
        symlink(outside.join("nothing"), home.join("link")).unwrap();
        symlink(&outside, home.join(".acme")).unwrap();
        place(&[file("link", "x"), file(".acme/settings.json", "x")], &user(&home)).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(place(&[file("../outside/x", "x")], &user(&home)).is_err());
    }
}
