//! Which files git tracks: the names in an index file.
//!
//! The format is gitformat-index(5), versions 2 to 4. The index may be a guest's, so it is only ever read: a name that it has
//! means no more than that the file of that name counts although it is ignored.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// Bytes of an index that are read; the ones of the largest public repositories have a tenth of it.
pub(crate) const MAX_BYTES: u64 = 512 << 20;

/// Bytes of one name; Linux opens none that is as long (PATH_MAX).
const MAX_NAME_BYTES: usize = 4096;

/// Bytes of all names together, several times what the largest public repositories have. In version 4 an entry says how much of
/// the name before it is kept, so that a short file could have names without end.
const MAX_NAMES_BYTES: usize = 256 << 20;

/// Times, device, inode, mode, owner and size in front of an entry's hash.
const STATUS_BYTES: usize = 40;
/// Where in these the mode is.
const MODE_AT: usize = 24;
/// Type bits of a mode; a file has 10 in the upper two, a link, too, a directory (sparse) has not.
const TYPE_MASK: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Bit of the flags that says that two more bytes of flags follow.
const EXTENDED: u16 = 0x4000;

/// Names of the files and links in the index `bytes` with hashes of `hash_bytes`; those before its first fault, if it has one.
pub(crate) fn tracked(bytes: &[u8], hash_bytes: usize) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut reader = Reader { bytes, position: 0 };
    let _ = reader.names(hash_bytes, &mut |name| {
        let path = Path::new(OsStr::from_bytes(name));
        if is_inside(path) {
            paths.insert(path.to_path_buf());
        }
    });
    paths
}

/// Whether every component is a name, and none is `.git`.
pub(crate) fn is_inside(path: &Path) -> bool {
    let mut components = path.components().peekable();
    components.peek().is_some()
        && components.all(
            |component| matches!(component, Component::Normal(name) if !name.eq_ignore_ascii_case(".git")),
        )
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn names(&mut self, hash_bytes: usize, found: &mut dyn FnMut(&[u8])) -> Option<()> {
        if self.take(4)? != b"DIRC" {
            return None;
        }
        let (version, count) = (self.number()?, self.number()?);
        if !(2..=4).contains(&version) {
            return None;
        }
        let (mut name, mut left) = (Vec::new(), MAX_NAMES_BYTES);
        for _ in 0..count {
            let start = self.position;
            let status = self.take(STATUS_BYTES)?;
            let mode = u32::from_be_bytes(status.get(MODE_AT..)?.first_chunk().copied()?);
            self.take(hash_bytes)?;
            let flags = u16::from_be_bytes(self.take(2)?.first_chunk().copied()?);
            if flags & EXTENDED != 0 {
                self.take(2)?;
            }
            if version == 4 {
                let kept = name.len().checked_sub(self.variable()?)?;
                name.truncate(kept);
                name.extend_from_slice(self.text()?);
            } else {
                name.clear();
                name.extend_from_slice(self.text()?);
                // The whole entry is padded to a multiple of eight with at least one NUL, which was taken.
                let length = self.position.checked_sub(start)?;
                self.take(length.next_multiple_of(8).checked_sub(length)?)?;
            }
            left = left.checked_sub(name.len())?;
            if name.len() >= MAX_NAME_BYTES {
                return None;
            }
            if matches!(mode & TYPE_MASK, FILE | LINK) {
                found(&name);
            }
        }
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(count)?;
        let taken = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// Up to a NUL, which is taken, too.
    fn text(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.position..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        let text = rest.get(..length)?;
        self.position = self.position.checked_add(length)?.checked_add(1)?;
        Some(text)
    }

    /// The number encoding of pack files' offset deltas.
    fn variable(&mut self) -> Option<usize> {
        let mut byte = *self.take(1)?.first()?;
        let mut value = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = *self.take(1)?.first()?;
            value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let status = Command::new("git").arg("-C").arg(directory).args(arguments).status().unwrap();
        assert!(status.success(), "git {arguments:?}");
    }

    #[test]
    fn names_are_read_from_every_version_that_git_writes() {
        for (version, format) in [("2", "sha1"), ("3", "sha1"), ("4", "sha1"), ("4", "sha256")] {
            let directory = tempfile::tempdir().unwrap();
            git(directory.path(), &["init", "-q", &format!("--object-format={format}")]);
            fs::create_dir(directory.path().join("src")).unwrap();
            let names = ["a", "src/main.rs", "src/main_two.rs", "with space", "new\nline", "z-not-yet"];
            for name in names {
                fs::write(directory.path().join(name), name).unwrap();
            }
            git(directory.path(), &["add", "."]);
            // An entry that is only intended has extended flags, for which version 3 was made.
            git(directory.path(), &["rm", "-q", "--cached", "z-not-yet"]);
            git(directory.path(), &["add", "-N", "z-not-yet"]);
            git(directory.path(), &["update-index", "--index-version", version]);
            let bytes = fs::read(directory.path().join(".git/index")).unwrap();
            let hash_bytes = if format == "sha1" { 20 } else { 32 };
            let expected: BTreeSet<_> = names.iter().map(PathBuf::from).collect();
            assert_eq!(tracked(&bytes, hash_bytes), expected, "version {version} {format}");
            // Cut anywhere, it has fewer names and nothing breaks.
            for length in 0..bytes.len() {
                let _ = tracked(&bytes[..length], hash_bytes);
            }
        }
    }

    /// An index of version 4: for each entry how many bytes of the last name are dropped, and what is added.
    fn version_four(entries: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes =
            [b"DIRC", &4_u32.to_be_bytes(), &u32::try_from(entries.len()).unwrap().to_be_bytes()[..]]
                .concat();
        for (dropped, added) in entries {
            let mut status = [0; STATUS_BYTES];
            status[MODE_AT..MODE_AT + 4].copy_from_slice(&FILE.to_be_bytes());
            bytes.extend([&status[..], &[0; 20], &[0; 2], &[*dropped], added, b"\0"].concat());
        }
        bytes
    }

    #[test]
    fn names_do_not_grow_without_end() {
        let half = vec![b'a'; MAX_NAME_BYTES / 2];
        let index = version_four(&[(0, b"first"), (5, &half), (0, &half[1..]), (0, b"b"), (0, b"never")]);
        let lengths: Vec<_> = tracked(&index, 20).iter().map(|path| path.as_os_str().len()).collect();
        assert_eq!(lengths, [half.len(), MAX_NAME_BYTES - 1, 5]);
        let long = vec![b'a'; MAX_NAME_BYTES - 1];
        let mut many = vec![(0, &long[..])];
        many.resize(MAX_NAMES_BYTES / long.len() + 2, (0, b""));
        many.push((0, b"b"));
        assert_eq!(tracked(&version_four(&many), 20).len(), 1);
    }

    #[test]
    fn names_that_lead_elsewhere_do_not_count() {
        for name in ["", "/etc/passwd", "../x", "a/../b", ".git/config", "sub/.GIT/hooks/x"] {
            assert!(!is_inside(Path::new(name)), "{name}");
        }
        assert!(is_inside(Path::new(".gitignore")));
    }
}
