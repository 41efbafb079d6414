//! Files of the image, read so that a hostile one can neither lead elsewhere nor take long.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

/// Bytes of one file of configuration that are read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files and directories that are opened in all, those that are not there included.
const MAX_OPENED: usize = 2048;

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 512;

/// The root of an image. Links are followed inside it only, as they would be by a program that runs there.
#[derive(Debug)]
pub(super) struct Image {
    root: OwnedFd,
    opened: Cell<usize>,
}

impl Image {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: open(root, flags, Mode::empty())?, opened: Cell::new(0) })
    }

    /// The text of a file; none if it is not there, is not a file, or is larger than any configuration.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let file = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
            return None;
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A regular file.
    pub(super) fn file(&self, path: &str) -> Option<File> {
        // What a path names is looked at before it is opened for reading: opening a device may do something.
        let there = self.resolve(path, OFlags::PATH)?;
        if FileType::from_raw_mode(fstat(&there).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// The names in a directory, sorted; none if it is not there.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Some(directory) = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY) else {
            return Vec::new();
        };
        let Ok(entries) = Dir::new(directory) else { return Vec::new() };
        let names = entries.take(MAX_ENTRIES).flatten();
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort_unstable();
        names
    }

    /// The paths of the files in a directory whose names end with `suffix`.
    pub(super) fn files(&self, directory: &str, suffix: &str) -> Vec<String> {
        let names = self.names(directory).into_iter().filter(|name| name.ends_with(suffix));
        names.map(|name| format!("{directory}/{name}")).collect()
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let opened = self.opened.get();
        if opened >= MAX_OPENED {
            return None;
        }
        self.opened.set(opened.saturating_add(1));
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), how).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_into_the_image_and_what_is_no_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/real.d")).unwrap();
        std::fs::write(root.path().join("etc/real.d/b.list"), "inside").unwrap();
        std::fs::write(root.path().join("etc/real.d/a.list"), vec![b'a'; (1 << 20) + 1]).unwrap();
        symlink("/etc/real.d", root.path().join("etc/link.d")).unwrap();
        symlink("../../../../../../etc/passwd", root.path().join("etc/outside")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("etc/fifo"), Mode::RUSR).unwrap();

        let image = Image::open(root.path()).unwrap();
        assert_eq!(image.read("etc/link.d/b.list").as_deref(), Some("inside"));
        assert_eq!(image.files("etc/link.d", ".list"), ["etc/link.d/a.list", "etc/link.d/b.list"]);
        for nothing in ["etc/outside", "etc/fifo", "etc", "etc/link.d/a.list", "none"] {
            assert_eq!(image.read(nothing), None, "{nothing}");
        }
        for _ in 0..MAX_OPENED {
            let _ = image.read("none");
        }
        assert_eq!(image.read("etc/link.d/b.list"), None);
    }
}
