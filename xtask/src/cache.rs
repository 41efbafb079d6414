//! Where xtask keeps what took long to make, outside the checkout so that every worktree and every CI run shares it.
//!
//! ```text
//! $SBX_BUILD_CACHE, default $XDG_CACHE_HOME/sbx-build, default ~/.cache/sbx-build
//!   kernel/<hash of recipe or variant>-<Debian version>/vmlinux
//!   images/<recipe hash>/…
//!   downloads/1/<kind>/<hash>                 files that tests install packages from, as sbx keeps them
//!   tools/…                                   programs for `bench`
//!   registry-<random>/                        storage of a registry that runs now
//! ```
//! Every entry is made under a temporary name beside it and renamed when it is complete, by a process that holds the
//! lock file of that name; so a killed build leaves nothing that the next one would take for a result.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Overrides the directory of the cache.
pub(crate) const SBX_BUILD_CACHE: &str = "SBX_BUILD_CACHE";

/// What can go wrong with the cache.
#[derive(Debug, Error)]
pub(crate) enum CacheError {
    /// No variable tells where.
    #[error("cannot tell where to keep built things; set HOME or {SBX_BUILD_CACHE}")]
    NoHome,
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The checkout that xtask was compiled in.
pub(crate) fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory: this program lies in `<target>/debug/xtask`.
pub(crate) fn target() -> PathBuf {
    let executable = env::current_exe().ok();
    let target = executable.as_deref().and_then(Path::parent).and_then(Path::parent);
    target.map_or_else(|| repository().join("target"), Path::to_path_buf)
}

/// The directory of one kind of built things, which exists afterwards.
pub(crate) fn directory(kind: &str) -> Result<PathBuf, CacheError> {
    let root = match env_path(SBX_BUILD_CACHE) {
        Some(path) => path,
        None => base("XDG_CACHE_HOME", ".cache")?.join("sbx-build"),
    };
    let path = std::path::absolute(&root).unwrap_or(root).join(kind);
    create(&path)?;
    Ok(path)
}

/// `$SBX_HOME` as `sbx` itself finds it.
pub(crate) fn sbx_home() -> Result<PathBuf, CacheError> {
    let home = match env_path("SBX_HOME") {
        Some(path) => path,
        None => base("XDG_DATA_HOME", ".local/share")?.join("sbx"),
    };
    Ok(std::path::absolute(&home).unwrap_or(home))
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf, CacheError> {
    // A relative path in an XDG variable is to be ignored (XDG Base Directory Specification).
    match env_path(variable).filter(|path| path.is_absolute()) {
        Some(path) => Ok(path),
        None => env_path("HOME").map(|home| home.join(below_home)).ok_or(CacheError::NoHome),
    }
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Holds `<path>.lock` until it is dropped.
///
/// The lock is the kernel's: it goes with the process, however that ends.
pub(crate) fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File, CacheError> {
    let name = beside(path, "lock");
    let failed = |source| CacheError::Io { action: "lock", path: name.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            waiting();
            file.lock().map_err(failed)?;
        }
        Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    Ok(file)
}

/// Removes what killed processes left: entries `<name>.<extension>` in `directory` whose `<name>.lock` nobody holds.
pub(crate) fn sweep(directory: &Path, extension: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = file_name.strip_suffix(extension).and_then(|name| name.strip_suffix('.')) else {
            continue;
        };
        let lock = File::options().write(true).open(directory.join(format!("{name}.lock")));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = remove(&path);
        }
    }
}

/// Removes the files below `directory` that were not changed or touched for so long.
pub(crate) fn remove_unused(directory: &Path, unused_for: Duration) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            remove_unused(&entry.path(), unused_for);
        } else if metadata.modified().is_ok_and(|used| used.elapsed().is_ok_and(|age| age > unused_for)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Name of the lock file that a process holds in a directory of its own for as long as it runs.
const RUNNING: &str = "running";

/// Marks a directory as in use until the file is dropped or the process ends, however it does.
pub(crate) fn occupy(directory: &Path) -> Result<File, CacheError> {
    lock(&directory.join(RUNNING), || {})
}

/// Directories that were occupied by processes which have ended without removing them.
pub(crate) fn abandoned(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let free = |path: &PathBuf| {
        let lock = File::options().write(true).open(beside(&path.join(RUNNING), "lock"));
        lock.is_ok_and(|file| file.try_lock().is_ok())
    };
    entries.filter(free).collect()
}

/// `path` with `.extension` appended to its whole name.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Makes a directory and its parents.
pub(crate) fn create(path: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(path).map_err(|source| CacheError::Io {
        action: "create",
        path: path.to_path_buf(),
        source,
    })
}

/// Removes a file or a directory with everything in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), CacheError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Io { action: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Gives the complete `part` its final name, so that it is there after a power cut, or not at all.
pub(crate) fn publish(part: &Path, path: &Path) -> Result<(), CacheError> {
    let failed = |action, path: &Path, source| CacheError::Io { action, path: path.to_path_buf(), source };
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(part).map_err(|source| failed("write", part, source))?;
    fs::rename(part, path).map_err(|source| failed("put in place", path, source))?;
    match path.parent() {
        Some(parent) => sync(parent).map_err(|source| failed("write", parent, source)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_lock_is_held_until_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("thing-6.12.1");
        let held = lock(&path, || panic!("nobody else holds it")).unwrap();
        let other = File::options().write(true).open(directory.path().join("thing-6.12.1.lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(held);
        other.try_lock().unwrap();
    }

    #[test]
    fn only_what_nobody_works_on_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(&directory.path().join("a-6.12"), || {}).unwrap();
        drop(lock(&directory.path().join("b-6.12"), || {}).unwrap());
        for name in ["a-6.12.build", "b-6.12.build", "c-6.12.build", "b-6.12"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        sweep(directory.path(), "build");
        let left = ["a-6.12.build", "b-6.12.build", "c-6.12.build", "b-6.12"];
        let left = left.map(|name| directory.path().join(name).exists());
        assert_eq!(left, [true, false, true, true]);
        drop(held);
    }

    #[test]
    fn only_directories_without_their_process_are_abandoned() {
        let root = tempfile::tempdir().unwrap();
        let [used, left, new] = ["used", "left", "new"].map(|name| root.path().join(name));
        for path in [&used, &left, &new] {
            fs::create_dir(path).unwrap();
        }
        let held = occupy(&used).unwrap();
        drop(occupy(&left).unwrap());
        assert_eq!(abandoned(root.path()), [left]);
        drop(held);
    }

    #[test]
    fn what_was_used_lately_stays() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("1/sha512");
        fs::create_dir_all(&directory).unwrap();
        for (name, age) in [("old", 3), ("used", 1)] {
            let file = File::create(directory.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(age)).unwrap();
        }
        remove_unused(root.path(), Duration::from_hours(2));
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["used"]);
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (part, path) = (directory.path().join("a.part"), directory.path().join("a"));
        fs::write(&path, "old").unwrap();
        fs::write(&part, "new").unwrap();
        publish(&part, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!part.exists());
    }
}
