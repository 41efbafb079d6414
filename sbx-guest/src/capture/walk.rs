//! The way through a tree: each directory is opened once, by its path from the top, and no symbolic link is followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, lgetxattr, llistxattr, openat, openat2,
    readlinkat, statat,
};
use rustix::io::Errno;
use tar::EntryType;

use super::CaptureError;
use super::entry::{Attribute, Entry, pad};

/// Longest path in an image in bytes (`PATH_MAX` less the closing NUL).
const PATH_BYTES_MAX: usize = 4095;

/// Bytes that are read from a file at a time.
const READ_BYTES: usize = 64 * 1024;

/// Largest value and largest list of names of extended attributes in bytes (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_BYTES_MAX: usize = 65_536;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The overlay's own attributes, which say how an upper directory meets the one below it.
const OVERLAY: &[u8] = b"trusted.overlay.";
const OVERLAY_OPAQUE: &str = "trusted.overlay.opaque";
const OVERLAY_REDIRECT: &str = "trusted.overlay.redirect";

/// What a tree is seen as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    /// The upper directory itself, with the overlay's marks.
    Upper,
    /// The overlay, as programs see it.
    Merged,
}

/// Writes trees.
pub(super) struct Walk<'a> {
    to: &'a mut dyn Write,
    /// The first name of each file that has more, by device and number, and how many were not met yet.
    names: HashMap<(u64, u64), (Vec<u8>, u64)>,
    chunk: Vec<u8>,
}

/// A directory whose directories are still to be entered.
struct Frame {
    path: Vec<u8>,
    rest: Vec<Vec<u8>>,
}

/// A file and the directory that it is in.
struct Found<'a> {
    directory: &'a OwnedFd,
    name: &'a [u8],
    path: Vec<u8>,
    status: Stat,
}

impl<'a> Walk<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to, names: HashMap::new(), chunk: vec![0; READ_BYTES] }
    }

    /// Writes everything below the directory `start` of `top`. Gives the directories whose contents are to be taken from
    /// the merged view instead, which it has written themselves.
    pub(super) fn all(
        &mut self,
        top: impl AsFd,
        start: &[u8],
        view: View,
    ) -> Result<Vec<Vec<u8>>, CaptureError> {
        let mut renamed = Vec::new();
        let mut stack =
            vec![Frame { path: start.to_vec(), rest: self.files(&top, start, view, &mut renamed)? }];
        while let Some(frame) = stack.last_mut() {
            let Some(name) = frame.rest.pop() else {
                stack.pop();
                continue;
            };
            let path = join(&frame.path, &name);
            let rest = self.files(&top, &path, view, &mut renamed)?;
            stack.push(Frame { path, rest });
        }
        Ok(renamed)
    }

    /// Writes what is in one directory, directories without what is in them. Gives the names of those to enter.
    fn files(
        &mut self,
        top: impl AsFd,
        path: &[u8],
        view: View,
        renamed: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, CaptureError> {
        let directory = open_directory(&top, path).map_err(failed("open", path))?;
        let mut listing = Dir::read_from(&directory).map_err(failed("list", path))?;
        let mut directories = Vec::new();
        while let Some(entry) = listing.read() {
            let entry = entry.map_err(failed("list", path))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || name.starts_with(WHITEOUT) {
                continue;
            }
            let path = join(path, name);
            if path.len() > PATH_BYTES_MAX {
                let start = path.get(..100).unwrap_or_default().escape_ascii().to_string();
                return Err(CaptureError::Path { path: start, limit: PATH_BYTES_MAX });
            }
            let status = statat(&directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("read", &path))?;
            let found = Found { directory: &directory, name, path, status };
            if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
                self.file(&found, view)?;
            } else if self.directory(&found, view)? {
                renamed.push(found.path);
            } else {
                directories.push(name.to_vec());
            }
        }
        Ok(directories)
    }

    /// Writes a directory, and tells whether it is one that was renamed.
    fn directory(&mut self, found: &Found<'_>, view: View) -> Result<bool, CaptureError> {
        let mut path = found.path.clone();
        path.push(b'/');
        self.entry(found, EntryType::Directory, &path, b"", 0)?;
        if view == View::Merged {
            return Ok(false);
        }
        let is_renamed = found.attribute(OVERLAY_REDIRECT)?.is_some();
        if is_renamed || found.attribute(OVERLAY_OPAQUE)?.is_some_and(|value| value == b"y") {
            self.mark(found, &[&path, OPAQUE].concat())?;
        }
        Ok(is_renamed)
    }

    fn file(&mut self, found: &Found<'_>, view: View) -> Result<(), CaptureError> {
        let status = &found.status;
        let kind = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::CharacterDevice if status.st_rdev == 0 && view == View::Upper => {
                let directory = found.path.len().saturating_sub(found.name.len());
                let parent = found.path.get(..directory).unwrap_or_default();
                return self.mark(found, &[parent, WHITEOUT, found.name].concat());
            }
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            // A socket is of use only to the process that made it.
            _ => return Ok(()),
        };
        if let Some(target) = self.earlier_name(found) {
            return self.entry(found, EntryType::Link, &found.path, &target, 0);
        }
        match kind {
            EntryType::Regular => self.regular(found),
            EntryType::Symlink => {
                let target = readlinkat(found.directory, OsStr::from_bytes(found.name), Vec::new())
                    .map_err(failed("read", &found.path))?;
                self.entry(found, kind, &found.path, target.to_bytes(), 0)
            }
            _ => self.entry(found, kind, &found.path, b"", 0),
        }
    }

    /// The path under which a file with several names was written, if it was.
    fn earlier_name(&mut self, found: &Found<'_>) -> Option<Vec<u8>> {
        let links = found.status.st_nlink;
        if links <= 1 {
            return None;
        }
        let number = (found.status.st_dev, found.status.st_ino);
        let Some((path, left)) = self.names.get_mut(&number) else {
            self.names.insert(number, (found.path.clone(), links.saturating_sub(1)));
            return None;
        };
        *left = left.saturating_sub(1);
        let (is_last, path) = (*left == 0, path.clone());
        if is_last {
            self.names.remove(&number);
        }
        Some(path)
    }

    fn regular(&mut self, found: &Found<'_>) -> Result<(), CaptureError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(found.directory, OsStr::from_bytes(found.name), flags, Mode::empty());
        let mut file = File::from(file.map_err(failed("open", &found.path))?);
        let size = u64::try_from(found.status.st_size).unwrap_or(0);
        self.entry(found, EntryType::Regular, &found.path, b"", size)?;
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
            let part = self.chunk.get_mut(..most).unwrap_or_default();
            let count = match file.read(part) {
                Ok(0) => return Err(short(&found.path)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(CaptureError::Read { action: "read", path: printable(&found.path), source });
                }
            };
            self.to.write_all(part.get(..count).unwrap_or_default()).map_err(CaptureError::Send)?;
            left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        }
        pad(size, self.to).map_err(CaptureError::Send)
    }

    fn entry(
        &mut self,
        found: &Found<'_>,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        size: u64,
    ) -> Result<(), CaptureError> {
        // A link says nothing but its name.
        let attributes = if kind == EntryType::Link { Vec::new() } else { found.attributes()? };
        let entry = Entry { kind, path, link, size, status: &found.status, attributes };
        entry.write(self.to).map_err(CaptureError::Send)
    }

    /// An empty file whose name says that something is gone.
    fn mark(&mut self, found: &Found<'_>, path: &[u8]) -> Result<(), CaptureError> {
        let entry = Entry {
            kind: EntryType::Regular,
            path,
            link: b"",
            size: 0,
            status: &found.status,
            attributes: Vec::new(),
        };
        entry.write(self.to).map_err(CaptureError::Send)
    }
}

impl Found<'_> {
    /// A path to the file that needs no descriptor of its own: devices and FIFOs are not to be opened.
    fn link(&self) -> Vec<u8> {
        let directory = format!("/proc/self/fd/{}/", self.directory.as_raw_fd());
        [directory.as_bytes(), self.name].concat()
    }

    /// All extended attributes but the overlay's own.
    fn attributes(&self) -> Result<Vec<Attribute>, CaptureError> {
        let link = self.link();
        let mut names = vec![0_u8; XATTR_BYTES_MAX];
        let length = match llistxattr(OsStr::from_bytes(&link), &mut names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(failed("read the attributes of", &self.path)(error)),
        };
        let mut attributes = Vec::new();
        let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with(OVERLAY)) {
            // A PAX keyword ends at the first one.
            if name.contains(&b'=') {
                continue;
            }
            if let Some(value) = self.attribute_of(&link, name)? {
                attributes.push((name.to_vec(), value));
            }
        }
        Ok(attributes)
    }

    fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, CaptureError> {
        self.attribute_of(&self.link(), name.as_bytes())
    }

    fn attribute_of(&self, link: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, CaptureError> {
        let mut value = vec![0_u8; XATTR_BYTES_MAX];
        match lgetxattr(OsStr::from_bytes(link), OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(failed("read the attributes of", &self.path)(error)),
        }
    }
}

fn open_directory(top: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    openat2(
        top,
        OsStr::from_bytes(path),
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn failed(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> CaptureError {
    let path = printable(path);
    move |error| CaptureError::Read { action, path, source: error.into() }
}

fn short(path: &[u8]) -> CaptureError {
    CaptureError::Read { action: "read", path: printable(path), source: io::ErrorKind::UnexpectedEof.into() }
}

fn printable(path: &[u8]) -> String {
    format!("/{}", path.escape_ascii())
}
