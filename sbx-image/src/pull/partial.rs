//! A blob's file while the blob is fetched: what a killed pull has got is not fetched again.
//!
//! The file is only an aid. When it cannot be had (another pull uses it, the disk is full) the pull works without it,
//! and what is in it is hashed like everything that comes over the network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::manifest::Blob;
use crate::store::{Store, create_directory};

/// Smallest blob in bytes that is worth a file; fetching less again takes no time.
const MIN_BYTES: u64 = 1024 * 1024;

/// The first part of a blob, on disk. Deleted by [`Partial::remove`] only.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Partial {
    /// Opens or makes the file of `blob`, at its end.
    pub(super) fn open(store: &Store, blob: &Blob) -> Option<Self> {
        if blob.size < MIN_BYTES {
            return None;
        }
        let path = store.partial_path(&blob.digest);
        create_directory(path.parent()?).ok()?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).ok()?;
        // Two layers may claim the same blob, and only one can write.
        file.try_lock().ok()?;
        let length = file.metadata().ok()?.len();
        if length > blob.size {
            file.set_len(0).ok()?;
            return Some(Self { path, file, length: 0 });
        }
        Some(Self { path, file, length })
    }

    /// Bytes in the file: those that an earlier pull left, and those added since.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is in the file now.
    pub(super) fn reader(&self) -> io::Result<impl Read> {
        Ok(File::open(&self.path)?.take(self.length))
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Deletes the file.
    pub(super) fn remove(self) {
        // Nothing is lost when it stays: the next pull of this blob or the next prune deletes it.
        let _ = fs::remove_file(&self.path);
    }
}
