//! A directory and what is below it, out of which no path leads.
//!
//! Everything is reached from the descriptor of the directory by a relative path that the kernel resolves beneath it and
//! without following a single symbolic link, so that neither what a repository contains nor a guest that changes it
//! meanwhile can make sbx read or write elsewhere. Only regular files are opened; a FIFO or a device makes nobody wait.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Beneath the root, no symbolic link on the way.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Mode of directories that are made, before the umask.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// Any of these bits makes a file a program.
const EXECUTABLE_BITS: u32 = 0o111;

/// Why a tree could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The kernel refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as in `read`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something else than a regular file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// A file is larger than anything that belongs there.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// Bytes that are read at most.
        limit: u64,
    },
    /// There is more below than a repository has.
    #[error("{} has more than {limit} files", path.display())]
    TooMany {
        /// Where.
        path: PathBuf,
        /// Entries that are looked at, at most.
        limit: usize,
    },
}

/// What is at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A regular file.
    File {
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
    /// A FIFO, a socket, a device, or a way that leads over a symbolic link.
    Other,
}

/// A directory, held open.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// The directory at `path`, which the caller trusts.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| TreeError::Io {
            action: "open",
            path: path.to_path_buf(),
            source: error.into(),
        })?;
        Ok(Self { root, path: path.to_path_buf() })
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is at `path`, or nothing.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(crate) fn kind(&self, path: &Path) -> Result<Option<Kind>, TreeError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.openat(path, flags).and_then(|file| rustix::fs::fstat(&file)) {
            Ok(status) => Ok(Some(kind_of(status.st_mode))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => Ok(Some(Kind::Other)),
            Err(error) => Err(self.failed("look at", path)(error)),
        }
    }

    /// The regular file at `path`, to read.
    ///
    /// # Errors
    /// If there is none, or something else.
    pub(crate) fn file(&self, path: &Path) -> Result<File, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.openat(path, flags).map_err(self.failed("read", path))?;
        let status = rustix::fs::fstat(&file).map_err(self.failed("read", path))?;
        match kind_of(status.st_mode) {
            Kind::File { .. } => Ok(File::from(file)),
            _ => Err(TreeError::NotAFile { path: self.path.join(path) }),
        }
    }

    /// The contents of the file at `path`, at most `limit` bytes; nothing if there is no such file.
    ///
    /// # Errors
    /// If it is larger, is something else, or cannot be read.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let file = match self.file(path) {
            Ok(file) => file,
            Err(TreeError::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|source| TreeError::Io {
            action: "read",
            path: self.path.join(path),
            source,
        })?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(TreeError::TooLarge { path: self.path.join(path), limit });
        }
        Ok(Some(bytes))
    }

    /// Where the symbolic link at `path` says that it leads.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn link_target(&self, path: &Path) -> Result<OsString, TreeError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = self.openat(path, flags).map_err(self.failed("read", path))?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(self.failed("read", path))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Names and kinds in the directory at `path`, sorted; an empty path is the tree itself.
    ///
    /// # Errors
    /// If there is no such directory, or it has more than `limit` entries.
    pub(crate) fn entries(&self, path: &Path, limit: usize) -> Result<Vec<(OsString, Kind)>, TreeError> {
        let directory = self.directory(path).map_err(self.failed("read", path))?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&directory).map_err(self.failed("read", path))? {
            let entry = entry.map_err(self.failed("read", path))?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if entries.len() >= limit {
                return Err(TreeError::TooMany { path: self.path.join(path), limit });
            }
            match rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => {
                    let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
                    entries.push((name, kind_of(status.st_mode)));
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed("read", path)(error)),
            }
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    }

    /// Makes the directory at `path` and those above it, as far as they are missing.
    ///
    /// # Errors
    /// If something else is in the way.
    pub(crate) fn make_directories(&self, path: &Path) -> Result<(), TreeError> {
        if path.as_os_str().is_empty() || self.directory(path).is_ok() {
            return Ok(());
        }
        let (parent, name) = split(path);
        self.make_directories(parent)?;
        let inside = self.directory(parent).map_err(self.failed("make", path))?;
        match rustix::fs::mkdirat(&inside, name, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed("make", path)(error)),
        }
        self.directory(path).map(drop).map_err(self.failed("make", path))
    }

    /// A new file at `path`, whose directory exists.
    ///
    /// # Errors
    /// If anything is there already.
    pub(crate) fn new_file(&self, path: &Path, mode: u32) -> Result<File, TreeError> {
        let (parent, name) = split(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.directory(parent)
            .and_then(|inside| rustix::fs::openat(&inside, name, flags, Mode::from_raw_mode(mode)))
            .map(File::from)
            .map_err(self.failed("write", path))
    }

    /// A new symbolic link at `path`, whose directory exists.
    ///
    /// # Errors
    /// If anything is there already.
    pub(crate) fn new_link(&self, path: &Path, target: &std::ffi::OsStr) -> Result<(), TreeError> {
        let (parent, name) = split(path);
        self.directory(parent)
            .and_then(|inside| rustix::fs::symlinkat(target, &inside, name))
            .map_err(self.failed("write", path))
    }

    /// Puts what is at `from` to `to`, in the place of what is there, and makes that last.
    ///
    /// # Errors
    /// If it is not possible.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), TreeError> {
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from), split(to));
        let attempt = || {
            let (source, target) = (self.directory(from_parent)?, self.directory(to_parent)?);
            rustix::fs::renameat(&source, from_name, &target, to_name)?;
            rustix::fs::fsync(&target)
        };
        attempt().map_err(self.failed("write", to))
    }

    /// Removes the file or link at `path`, if there is one.
    ///
    /// # Errors
    /// If it is not possible.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), TreeError> {
        self.unlink(path, AtFlags::empty())
    }

    /// Removes the directory at `path` and those above it as far as they are empty.
    pub(crate) fn remove_empty_directories(&self, path: &Path) {
        let mut next = path;
        while !next.as_os_str().is_empty() && self.unlink(next, AtFlags::REMOVEDIR).is_ok() {
            next = split(next).0;
        }
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> Result<(), TreeError> {
        let (parent, name) = split(path);
        let unlinked = self.directory(parent).and_then(|inside| {
            rustix::fs::unlinkat(&inside, name, flags)?;
            rustix::fs::fsync(&inside)
        });
        match unlinked {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(self.failed("remove", path)(error)),
        }
    }

    fn directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.openat(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn openat(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rustix::fs::openat2(self.root.as_fd(), path, flags, Mode::empty(), RESOLVE)
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl Fn(Errno) -> TreeError {
        let path = self.path.join(path);
        move |error| TreeError::Io { action, path: path.clone(), source: error.into() }
    }
}

/// Puts the contents of `from` into `to`, which is empty: the same blocks where the file system can share them.
pub(crate) fn copy_contents(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    io::copy(&mut &*from, &mut &*to).map(drop)
}

/// Gives `to` the modification time of `from`, so that git and build tools see a file that did not change.
pub(crate) fn copy_time(from: &File, to: &File) -> io::Result<()> {
    to.set_times(fs::FileTimes::new().set_modified(from.metadata()?.modified()?))
}

fn kind_of(mode: u32) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Kind::File { executable: mode & EXECUTABLE_BITS != 0 },
        FileType::Symlink => Kind::Link,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    }
}

fn split(path: &Path) -> (&Path, &std::ffi::OsStr) {
    (path.parent().unwrap_or_else(|| Path::new("")), path.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_path_leads_out() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::write(inside.path().join("file"), "inside").unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink("file", inside.path().join("link")).unwrap();
        let tree = Tree::open(inside.path()).unwrap();
        for path in ["out/secret", "../secret", "/etc/passwd", "link"] {
            assert!(tree.file(Path::new(path)).is_err(), "{path}");
        }
        assert!(tree.new_file(Path::new("out/new"), 0o666).is_err());
        assert!(tree.make_directories(Path::new("out/d")).is_err());
        assert!(tree.rename(Path::new("file"), Path::new("out/file")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(tree.kind(Path::new("out/secret")).unwrap(), Some(Kind::Other));
        assert_eq!(tree.kind(Path::new("link")).unwrap(), Some(Kind::Link));
        assert_eq!(tree.kind(Path::new("file/x")).unwrap(), None);
        assert_eq!(tree.link_target(Path::new("link")).unwrap(), "file");
    }

    #[test]
    fn nobody_waits_for_a_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        assert!(matches!(tree.file(Path::new("fifo")), Err(TreeError::NotAFile { .. })));
    }

    #[test]
    fn large_files_and_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "12345").unwrap();
        fs::write(directory.path().join("b"), "").unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        assert_eq!(tree.read(Path::new("a"), 5).unwrap().unwrap(), b"12345");
        assert!(matches!(tree.read(Path::new("a"), 4), Err(TreeError::TooLarge { .. })));
        assert!(tree.read(Path::new("none"), 4).unwrap().is_none());
        assert!(matches!(tree.entries(Path::new(""), 1), Err(TreeError::TooMany { .. })));
    }
}
