//! Locks between processes: `flock` on files in `locks/`, released by the kernel when a process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::steps::is_step_key;
use super::{Bucket, Store, StoreError, create_directory, failed};
use crate::digest::Digest;

/// Time between two tries to get a lock that another process has. Waiting in the kernel instead would block a thread
/// that nothing can wake when the user gives up.
const RETRY: Duration = Duration::from_millis(20);

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Store {
    /// Keeps [`Store::prune`] from deleting anything until the result is dropped.
    ///
    /// For the time between finding a snapshot and recording that a sandbox uses it. Waits while things are deleted.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn hold(&self) -> Result<Lock, StoreError> {
        self.lock_shared()
    }

    /// Takes the store's lock as one who adds things. Waits while things are deleted.
    pub(crate) fn lock_shared(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file("store")?;
        file.lock_shared().map_err(failed("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Takes the store's lock as one who deletes things. Waits until nobody adds any.
    pub(crate) fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file("store")?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Like [`Self::lock_shared`], without blocking a thread.
    pub(crate) async fn lock_shared_async(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file("store")?;
        wait(path, file, File::try_lock_shared, || {}).await
    }

    /// Takes the lock of one layer, calling `waiting` once if another process has it.
    pub(crate) async fn lock_layer(
        &self,
        diff_id: &Digest,
        waiting: impl FnOnce(),
    ) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file(&format!("layer-{}", diff_id.hex()))?;
        wait(path, file, File::try_lock, waiting).await
    }

    /// Like [`Self::lock_layer`], for who has a thread of its own.
    pub(crate) fn lock_layer_blocking(&self, diff_id: &Digest) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file(&format!("layer-{}", diff_id.hex()))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock of the step with this key, calling `waiting` once if another process has it: two that want the same
    /// layer at the same time need it made once. `key` is in lower-case hexadecimal digits.
    ///
    /// Blocks the thread, until a signal ends the process or the lock is free.
    ///
    /// # Errors
    /// When the key is none, or the lock file cannot be made.
    pub fn lock_step(&self, key: &str, waiting: impl FnOnce()) -> Result<Lock, StoreError> {
        if !is_step_key(key) {
            return Err(StoreError::StepKey { key: key.escape_default().to_string() });
        }
        let (path, file) = self.lock_file(&format!("step-{key}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(failed("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        Ok(Lock { _file: file })
    }

    /// Takes the lock of one snapshot.
    pub(crate) fn lock_snapshot(&self, key: &str) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file(&format!("snapshot-{key}"))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Lock { _file: file })
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), StoreError> {
        let directory = self.home().join("locks");
        let path = directory.join(format!("{name}.lock"));
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_directory(&directory)?;
                open()
            }
            result => result,
        };
        Ok((path.clone(), file.map_err(failed("open", &path))?))
    }

    /// The directories in which stale things may lie, one per bucket.
    pub(super) fn staging_directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        Bucket::ALL.into_iter().map(|bucket| self.bucket(bucket).join(super::STAGING))
    }
}

async fn wait(
    path: PathBuf,
    file: File,
    try_lock: fn(&File) -> Result<(), TryLockError>,
    waiting: impl FnOnce(),
) -> Result<Lock, StoreError> {
    let mut waiting = Some(waiting);
    loop {
        match try_lock(&file) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
    }
}
