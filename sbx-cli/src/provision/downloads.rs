//! Downloaded files by their hashes, shared between all projects of a user.
//!
//! ```text
//! $SBX_HOME/downloads/1/
//!   sha256/<digits>   sha512/<digits>   whole files, each with the hash in its name
//!   .new-<random>                       on their way, locked; those that nobody has locked are removed
//! ```
//! A file comes in under another name and is renamed when it is whole, synced and has its hash; two that bring the same file
//! at once bring the same bytes. It is hashed again when it is taken out, so that what a disk or another program did to it
//! is a download more, and never an installation. Archives can be inflated on the way, which takes a guest that is emulated ten times
//! as long as the host.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use flate2::write::MultiGzDecoder;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::{
    hash::Hash,
    old_files::{self, Removed},
};

/// Largest file that is taken from a machine, in bytes: several times the largest agent.
const MAX_FILE_BYTES: u64 = 4 << 30;

const NEW: &str = ".new-";

/// The directory, with the version of its form, and those in it.
const BUCKET: &str = "downloads/1";
const KINDS: [&str; 2] = ["sha256", "sha512"];

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Downloads {
    directory: PathBuf,
}

/// Why a file was not taken.
#[derive(Debug, Error)]
pub(super) enum DownloadError {
    /// There is no such file.
    #[error("`{name}` did not arrive")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Not what was pinned.
    #[error("`{name}` is not what was pinned: it has {actual}, not {expected}")]
    WrongHash {
        /// Its name.
        name: String,
        /// What it should have had.
        expected: Hash,
        /// What it has.
        actual: Hash,
    },
    /// Something else than a file, or too large a one.
    #[error("`{name}` is not a file of at most {MAX_FILE_BYTES} bytes")]
    NotAFile {
        /// Its name.
        name: String,
    },
    /// The disk.
    #[error("cannot keep `{name}`")]
    Io {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Downloads {
    /// The files below `home`.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub(super) fn open(home: &Path) -> io::Result<Self> {
        let directory = home.join(BUCKET);
        for kind in KINDS {
            fs::create_dir_all(directory.join(kind))?;
        }
        remove_abandoned(&directory);
        Ok(Self { directory })
    }

    /// Whether a file with this hash is there; whether it still has it is seen when it is taken out.
    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.directory.join(hash.path()).is_file()
    }

    /// Takes in `name` from a directory that a guest has written to, if it has the hash that it should have. Without one
    /// it gets the one that it has. What is stored are the bytes that were hashed, whatever the guest does meanwhile.
    ///
    /// # Errors
    /// If it is not there, is no file, or has another hash.
    pub(super) fn take_in(
        &self,
        directory: &Path,
        name: &str,
        expected: Option<&Hash>,
    ) -> Result<Hash, DownloadError> {
        let failed = |source| DownloadError::Io { name: name.to_owned(), source };
        let file = open_file(directory, name)?;
        let mut new = new_file(&self.directory).map_err(failed)?;
        let mut bounded = file.take(MAX_FILE_BYTES);
        let kind = expected.cloned().unwrap_or_else(Hash::any);
        let actual = kind.of_copy(&mut bounded, &mut new).map_err(failed)?;
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(DownloadError::WrongHash {
                name: name.to_owned(),
                expected: expected.clone(),
                actual,
            });
        }
        new.as_file().sync_all().map_err(failed)?;
        new.persist(self.directory.join(actual.path())).map_err(|error| failed(error.error))?;
        Ok(actual)
    }

    /// Puts the file with this hash into `to`, a new file; false if it is not there, or is not what it was any more.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn lay_out(&self, hash: &Hash, to: &Path) -> io::Result<bool> {
        let path = self.directory.join(hash.path());
        let Some(mut file) = open_if_there(&path)? else { return Ok(false) };
        // A copy, not a link: what was hashed is what the machine reads, whoever writes to the file here afterwards.
        let mut copy = File::create_new(to)?;
        if hash.of_copy(&mut file, &mut copy)? == *hash {
            // The time says when it was used last; without it the file is pruned early, and fetched again.
            let _ = file.set_modified(SystemTime::now());
            return Ok(true);
        }
        tracing::warn!(path = %path.display(), "a downloaded file is damaged");
        drop(copy);
        fs::remove_file(to)?;
        fs::remove_file(&path)?;
        Ok(false)
    }

    /// The same, with what is in the file if that is gzip with no more than `max_bytes`, and else with the file itself.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn lay_out_inflated(&self, hash: &Hash, to: &Path, max_bytes: u64) -> io::Result<bool> {
        let path = self.directory.join(hash.path());
        let Some(mut file) = open_if_there(&path)? else { return Ok(false) };
        if inflate(hash, &mut file, File::create_new(to)?, max_bytes).is_ok_and(|actual| actual == *hash) {
            let _ = file.set_modified(SystemTime::now());
            return Ok(true);
        }
        // No gzip, or damaged, or the disk is full: whoever copies it sees which.
        fs::remove_file(to)?;
        self.lay_out(hash, to)
    }
}

/// Copies a gzip file (RFC 1952), or several in one, as what is in it; gives the hash of the file.
fn inflate(hash: &Hash, file: &mut File, to: File, max_bytes: u64) -> io::Result<Hash> {
    let mut inflating = MultiGzDecoder::new(Bounded { to, left_bytes: max_bytes });
    let actual = hash.of_copy(file, &mut inflating)?;
    inflating.finish()?;
    Ok(actual)
}

/// Takes so many bytes and no more.
struct Bounded {
    to: File,
    left_bytes: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        let left = u64::try_from(count).ok().and_then(|count| self.left_bytes.checked_sub(count));
        self.left_bytes = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Removes the files below `home` that were not used for so long. One that is needed after all is fetched again.
pub(crate) fn prune(home: &Path, unused_for: Duration) -> Removed {
    let kinds = KINDS.map(|kind| home.join(BUCKET).join(kind));
    kinds.iter().map(|kind| old_files::remove(kind, unused_for)).sum()
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A regular file in a directory that is hostile: no link is followed, and nothing waits for a FIFO.
fn open_file(directory: &Path, name: &str) -> Result<File, DownloadError> {
    let name = name.to_owned();
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(DownloadError::NotAFile { name });
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(CWD, directory.join(&name), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(DownloadError::Missing { name }),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Err(DownloadError::NotAFile { name });
        }
        Err(error) => return Err(DownloadError::Io { name, source: error.into() }),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_FILE_BYTES => Ok(file),
        Ok(_) => Err(DownloadError::NotAFile { name }),
        Err(source) => Err(DownloadError::Io { name, source }),
    }
}

/// A file on its way, locked as long as somebody writes to it.
fn new_file(directory: &Path) -> io::Result<NamedTempFile> {
    loop {
        let new = tempfile::Builder::new().prefix(NEW).tempfile_in(directory)?;
        match new.as_file().try_lock() {
            // Before it was locked, another process may have taken it for a left-over.
            Ok(()) if !is_same(new.path(), new.as_file()) => {}
            Err(TryLockError::WouldBlock) => {}
            // Where files cannot be locked, none is taken for one.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(new),
        }
    }
}

fn is_same(path: &Path, file: &File) -> bool {
    let (Ok(named), Ok(open)) = (fs::symlink_metadata(path), file.metadata()) else { return false };
    (named.dev(), named.ino()) == (open.dev(), open.ino())
}

/// Removes what killed processes left half-written.
fn remove_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
            continue;
        }
        // Ours until it is gone: whoever has just made it sees that and makes another.
        let file = File::open(entry.path());
        if file.as_ref().is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn downloads() -> (tempfile::TempDir, Downloads, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        fs::create_dir(&out).unwrap();
        let downloads = Downloads::open(directory.path()).unwrap();
        (directory, downloads, out)
    }

    #[test]
    fn a_file_is_kept_under_its_hash_and_laid_out_again() {
        let (directory, downloads, out) = downloads();
        fs::write(out.join("a.deb"), "abc").unwrap();
        let hash = downloads.take_in(&out, "a.deb", None).unwrap();
        assert!(downloads.has(&hash));
        assert_eq!(downloads.take_in(&out, "a.deb", Some(&hash)).unwrap(), hash);
        let to = directory.path().join("copy");
        assert!(downloads.lay_out(&hash, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"abc");
        // Nothing half-written stays.
        assert_eq!(fs::read_dir(directory.path().join("downloads/1")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_not_what_was_pinned_does_not_enter() {
        let (_directory, downloads, out) = downloads();
        fs::write(out.join("a.deb"), "abc").unwrap();
        let other = Hash::any().of_copy(&mut b"xyz".as_slice(), &mut io::sink()).unwrap();
        let error = downloads.take_in(&out, "a.deb", Some(&other)).unwrap_err();
        assert!(matches!(error, DownloadError::WrongHash { .. }), "{error}");
        assert!(!downloads.has(&other));
        assert!(matches!(downloads.take_in(&out, "b.deb", None), Err(DownloadError::Missing { .. })));
    }

    #[test]
    fn links_fifos_and_paths_are_no_files() {
        let (directory, downloads, out) = downloads();
        fs::write(directory.path().join("secret"), "host's").unwrap();
        symlink(directory.path().join("secret"), out.join("link")).unwrap();
        symlink("/dev/zero", out.join("zero")).unwrap();
        rustix::fs::mkfifoat(CWD, out.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        fs::create_dir(out.join("directory")).unwrap();
        for name in ["link", "zero", "fifo", "directory", "../secret", "", ".", ".."] {
            let result = downloads.take_in(&out, name, None);
            assert!(matches!(result, Err(DownloadError::NotAFile { .. })), "{name}: {result:?}");
        }
    }

    #[test]
    fn only_what_was_not_used_for_long_is_pruned() {
        let (directory, downloads, out) = downloads();
        let take_in = |content: &str| {
            fs::write(out.join("file"), content).unwrap();
            downloads.take_in(&out, "file", None).unwrap()
        };
        let (old, used) = (take_in("old"), take_in("used"));
        for hash in [&old, &used] {
            let file = File::open(directory.path().join(BUCKET).join(hash.path())).unwrap();
            file.set_modified(SystemTime::now() - DAY).unwrap();
        }
        assert!(downloads.lay_out(&used, &directory.path().join("copy")).unwrap());
        assert_eq!(prune(directory.path(), DAY), Removed { files: 1, bytes: 3 });
        assert!(downloads.has(&used) && !downloads.has(&old));
        assert_eq!(prune(directory.path(), Duration::ZERO), Removed { files: 1, bytes: 4 });
    }

    #[test]
    fn what_a_killed_process_left_is_gone_and_what_another_writes_is_not() {
        let (directory, _downloads, _out) = downloads();
        let bucket = directory.path().join(BUCKET);
        let left = bucket.join(".new-left");
        fs::write(&left, "half").unwrap();
        let written = new_file(&bucket).unwrap();
        Downloads::open(directory.path()).unwrap();
        assert!(!left.exists() && written.path().exists());
    }

    #[test]
    fn archives_are_inflated_as_far_as_there_is_room_and_others_are_what_they_are() {
        let (directory, downloads, out) = downloads();
        let gzip = |content: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(content).unwrap();
            gzip.finish().unwrap()
        };
        let (two, zeros) = ([gzip(b"abc"), gzip(b"def")].concat(), gzip(&[0; 100_000]));
        let broken = zeros.get(..zeros.len() - 4).unwrap();
        let cases: [(&[u8], u64, &[u8]); 6] = [
            (&two, 6, b"abcdef"),
            (&two, 5, &two),
            (&zeros, 99_999, &zeros),
            (broken, 1_000_000, broken),
            (b"plain", 1_000_000, b"plain"),
            (b"", 1_000_000, b""),
        ];
        for (number, (file, max_bytes, expected)) in cases.into_iter().enumerate() {
            fs::write(out.join("a.tgz"), file).unwrap();
            let hash = downloads.take_in(&out, "a.tgz", None).unwrap();
            let to = directory.path().join(format!("copy-{number}"));
            assert!(downloads.lay_out_inflated(&hash, &to, max_bytes).unwrap());
            assert_eq!(fs::read(&to).unwrap(), expected, "{number}");
        }
        fs::write(out.join("a"), &two).unwrap();
        let hash = downloads.take_in(&out, "a", None).unwrap();
        fs::write(directory.path().join(BUCKET).join(hash.path()), &zeros).unwrap();
        let to = directory.path().join("damaged");
        assert!(!downloads.lay_out_inflated(&hash, &to, 1_000_000).unwrap());
        assert!(!downloads.has(&hash) && !to.exists());
    }

    #[test]
    fn a_damaged_file_is_gone() {
        let (directory, downloads, out) = downloads();
        fs::write(out.join("a"), "abc").unwrap();
        let hash = downloads.take_in(&out, "a", None).unwrap();
        fs::write(directory.path().join("downloads/1").join(hash.path()), "abd").unwrap();
        let to = directory.path().join("copy");
        assert!(!downloads.lay_out(&hash, &to).unwrap());
        assert!(!downloads.has(&hash) && !to.exists());
    }
}
