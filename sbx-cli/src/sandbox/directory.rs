//! The directory of one sandbox.
//!
//! ```text
//! sandboxes/<name>/
//!   start.lock       held by whoever starts, resets or removes the sandbox
//!   alive.lock       held by the sandbox process as long as it lives
//!   state.json       what the sandbox is and how it last ended
//!   plan.json        what the sandbox process was last started with
//!   start.json       start commands that have not run since then
//!   scratch.ext4     the guest's disk, sparse
//!   process.log      log of the sandbox process
//!   start.log        what start commands wrote
//!   policy.log       what the network decided, one JSON object a line; policy.log.1 is what was before
//!   console.log      console of the guest
//!   policy.log       what the network decided, a JSON object per line; policy.log.1 is what was before it
//!   clone/           in clone mode the sandbox's copy of the workspace; see `workspace::clone`
//!   run/             sockets; mode 0700
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::error::{CommandError, Result};

/// Only the user may look into a sandbox: its sockets give control over the guest.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The directory of one sandbox, which may not exist yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SandboxDirectory {
    path: PathBuf,
}

/// A held lock; dropped, it is free again, as it is when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl SandboxDirectory {
    /// The directory at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its last component: the name that `sbx ls` shows.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether anything is there.
    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the directory, private to the user, and what is above it.
    pub(crate) fn create(&self) -> Result<()> {
        for path in [self.path.as_path(), &self.run()] {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|error| {
                CommandError::failed(format!("cannot make {}", path.display())).with_source(error)
            })?;
        }
        Ok(())
    }

    /// `state.json`.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// `plan.json`.
    pub(crate) fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// `scratch.ext4`.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch.ext4")
    }

    /// `start.json`.
    pub(crate) fn start_plan(&self) -> PathBuf {
        self.path.join("start.json")
    }

    /// `start.log`.
    pub(crate) fn start_log(&self) -> PathBuf {
        self.path.join("start.log")
    }

    /// `clone/`, the private copy of the workspace in clone mode.
    pub(crate) fn clone_directory(&self) -> PathBuf {
        self.path.join("clone")
    }

    /// `process.log`.
    pub(crate) fn process_log(&self) -> PathBuf {
        self.path.join("process.log")
    }

    /// `policy.log`.
    pub(crate) fn policy_log(&self) -> PathBuf {
        self.path.join("policy.log")
    }

    /// `policy.log.1`, what `policy.log` was before it became too long.
    pub(crate) fn earlier_policy_log(&self) -> PathBuf {
        self.path.join("policy.log.1")
    }

    /// `run/`, the machine's own directory: sockets and console.
    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// `run/console.log`, which the machine writes.
    pub(crate) fn console_log(&self) -> PathBuf {
        self.run().join("console.log")
    }

    /// Takes the lock under which a sandbox is started, reset or removed; waits for whoever has it.
    pub(crate) fn lock_start(&self) -> Result<Lock> {
        let file = self.open_lock("start.lock")?;
        file.lock().map_err(|error| self.lock_failed(error))?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock that says that the sandbox process lives; waits for an earlier process to end.
    pub(crate) fn lock_alive(&self) -> Result<Lock> {
        let file = self.open_lock("alive.lock")?;
        file.lock().map_err(|error| self.lock_failed(error))?;
        Ok(Lock { _file: file })
    }

    /// Waits until no sandbox process lives here.
    pub(crate) fn wait_until_dead(&self) -> Result<()> {
        let file = self.open_lock("alive.lock")?;
        file.lock_shared().map_err(|error| self.lock_failed(error))
    }

    /// Whether a sandbox process lives here.
    pub(crate) fn is_alive(&self) -> bool {
        let Ok(file) = File::open(self.path.join("alive.lock")) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|error| {
                CommandError::failed(format!("cannot open {}", path.display())).with_source(error)
            })
    }

    fn lock_failed(&self, error: io::Error) -> CommandError {
        CommandError::failed(format!("cannot lock {}", self.path.display())).with_source(error)
    }
}

/// Writes a file so that a reader, or a crash, finds the old content or the new, never half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    attempt()
        .map_err(|error| CommandError::failed(format!("cannot write {}", path.display())).with_source(error))
}

/// All sandboxes below `parent`, by name.
pub(crate) fn list(parent: &Path) -> Result<Vec<SandboxDirectory>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(CommandError::failed(format!("cannot read {}", parent.display())).with_source(error));
        }
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| SandboxDirectory::new(entry.path()))
        .filter(|directory| directory.state().is_file())
        .collect();
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_life_and_death() {
        let parent = tempfile::tempdir().unwrap();
        let directory = SandboxDirectory::new(parent.path().join("demo"));
        assert!(!directory.is_alive());
        directory.create().unwrap();
        let lock = directory.lock_alive().unwrap();
        assert!(directory.is_alive());
        drop(lock);
        assert!(!directory.is_alive());
        directory.wait_until_dead().unwrap();
    }

    #[test]
    fn only_directories_with_a_state_are_listed() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["b", "a", "unfinished"] {
            SandboxDirectory::new(parent.path().join(name)).create().unwrap();
        }
        for name in ["b", "a"] {
            write_atomically(&parent.path().join(name).join("state.json"), b"{}").unwrap();
        }
        let names: Vec<_> = list(parent.path()).unwrap().iter().map(SandboxDirectory::name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(list(&parent.path().join("none")).unwrap().is_empty());
    }
}
