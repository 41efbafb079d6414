//! Directories in which objects are made before they are renamed into place.
//!
//! The maker holds a lock on its directory. A directory that nobody has locked was left by a killed process, and the
//! next one that adds something deletes it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Bucket, STAGING, Store, StoreError, create_directory, entries, failed, sync_parent};

/// A private directory in a bucket, deleted when dropped unless it was committed.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    committed: bool,
    _lock: File,
}

impl Staging {
    /// Makes an empty directory in `bucket` and locks it.
    pub(crate) fn new(store: &Store, bucket: Bucket) -> Result<Self, StoreError> {
        let parent = store.bucket(bucket).join(STAGING);
        create_directory(&parent)?;
        loop {
            let directory = tempfile::Builder::new()
                .prefix("")
                .rand_bytes(12)
                .tempdir_in(&parent)
                .map_err(failed("create a directory in", &parent))?;
            let path = directory.keep();
            // Between making and locking it, a sweep of another process may take it for a left-over.
            let Ok(lock) = File::open(&path) else { continue };
            if lock.try_lock().is_ok() && is_same(&path, &lock) {
                return Ok(Self { path, committed: false, _lock: lock });
            }
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the directory is on the disk and renames it to `target`.
    ///
    /// The files in it must have been synced by the caller. When `target` is there already, it is kept: names stand
    /// for contents.
    pub(crate) fn commit(mut self, target: &Path) -> Result<(), StoreError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", &self.path))?;
        if let Some(parent) = target.parent() {
            create_directory(parent)?;
        }
        match fs::rename(&self.path, target) {
            Ok(()) => self.committed = true,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(error) => return Err(failed("write", target)(error)),
        }
        sync_parent(target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            // What stays behind is deleted by a later sweep.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Store {
    /// Deletes what killed processes left in the staging directories. Returns the bytes freed.
    pub(crate) fn sweep(&self) -> Result<u64, StoreError> {
        let mut freed: u64 = 0;
        for directory in self.staging_directories() {
            for entry in entries(&directory)? {
                let path = entry.path();
                let Ok(lock) = File::open(&path) else { continue };
                if lock.try_lock().is_ok() && is_same(&path, &lock) {
                    freed = freed.saturating_add(super::usage::disk_bytes(&path).unwrap_or(0));
                    remove(&path)?;
                }
            }
        }
        Ok(freed)
    }
}

/// Deletes a file or directory; it is no fault when it is gone.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let result = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", path)(error)),
        _ => Ok(()),
    }
}

fn is_same(path: &Path, file: &File) -> bool {
    let (Ok(named), Ok(open)) = (fs::symlink_metadata(path), file.metadata()) else { return false };
    (named.dev(), named.ino()) == (open.dev(), open.ino())
}
