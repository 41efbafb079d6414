//! Changing the files in place that a repository says its machine with: `sandbox.kdl`, `sandbox.lock`.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use crate::error::{CommandError, Result};

/// Larger than any of these files may be; their parsers say so with a place.
const MAX_READ_BYTES: u64 = 16 << 20;

/// A file at the root of a repository that nobody else changes through sbx as long as this lives.
#[derive(Debug)]
pub(crate) struct RepositoryFile {
    name: &'static str,
    path: PathBuf,
    /// What the path leads to, without links.
    target: PathBuf,
    /// The locked directory. The file itself is replaced, and a lock on it would go with the old one.
    _lock: File,
}

impl RepositoryFile {
    /// The file `name` in `root`, which has no links in it. It need not be there.
    ///
    /// # Errors
    /// If it is a link to a file outside of `root`: a repository must not have other files changed, or read.
    pub(crate) fn open(root: &Path, name: &'static str) -> Result<Self> {
        let path = root.join(name);
        let unreadable = |error: io::Error| {
            CommandError::usage(format!("cannot read {}", path.display())).with_source(error)
        };
        let lock = File::open(root).map_err(unreadable)?;
        // Where directories cannot be locked, the comparison in `replace` still finds most of what could go wrong.
        let locked = lock.lock().is_ok();
        let target = match fs::canonicalize(&path) {
            Ok(target) => target,
            // A link to nothing is replaced by a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.clone(),
            Err(error) => return Err(unreadable(error)),
        };
        if !target.starts_with(root) {
            return Err(CommandError::usage(format!(
                "{name} is a link to {}, which is not in the repository",
                target.display()
            ))
            .with_hint("change that file by hand, or put a copy in the place of the link"));
        }
        if locked && let Some(directory) = target.parent() {
            remove_leftovers(directory, name);
        }
        Ok(Self { name, path, target, _lock: lock })
    }

    /// Where the repository has it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The text; none if the file is not there.
    ///
    /// # Errors
    /// If it cannot be read, or is no file.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        let failed = |error: io::Error| {
            CommandError::usage(format!("cannot read {}", self.path.display())).with_source(error)
        };
        let metadata = match fs::metadata(&self.target) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // A pipe would be waited for.
        if !metadata.is_file() {
            return Err(CommandError::usage(format!("{} is not a file", self.path.display())));
        }
        let mut text = Vec::new();
        File::open(&self.target)
            .and_then(|file| file.take(MAX_READ_BYTES).read_to_end(&mut text))
            .map_err(failed)?;
        Ok(Some(text))
    }

    /// Puts `new` in the place of `old`, which is none if the file was not there. Whoever reads meanwhile, or after a crash,
    /// finds one or the other; mode and owner stay.
    ///
    /// # Errors
    /// If it cannot be written, or if it is not `old` any more.
    pub(crate) fn replace(&self, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        let failed = |error: io::Error| {
            CommandError::failed(format!("cannot write {}", self.path.display())).with_source(error)
        };
        tracing::debug!("writing {}", self.name);
        let (directory, written) = self.prepare(new).map_err(failed)?;
        if self.read()?.as_deref() != old {
            return Err(CommandError::failed(format!("{} was changed meanwhile", self.path.display()))
                .with_hint("try again"));
        }
        written.persist(&self.target).map_err(|error| failed(error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        // The guest of a sandbox that runs may write to the directory. It must not write to this file, and cannot any
        // more now that the file has that name.
        if self.read()?.as_deref() != Some(new) {
            return Err(CommandError::failed(format!(
                "{} is not what was written to it",
                self.path.display()
            ))
            .with_hint("something else writes to it: look at what it says before the next `sbx up`"));
        }
        Ok(())
    }

    fn prepare(&self, text: &[u8]) -> io::Result<(&Path, tempfile::NamedTempFile)> {
        let directory = self.target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // For everybody whom the umask lets, as any other new file of a repository.
        let mut file = tempfile::Builder::new()
            .prefix(&temporary_prefix(self.name))
            .rand_bytes(RANDOM_LETTERS)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        file.write_all(text)?;
        if let Ok(metadata) = fs::metadata(&self.target) {
            if file.as_file().metadata()?.uid() != metadata.uid() {
                fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
            }
            file.as_file().set_permissions(metadata.permissions())?;
        }
        file.as_file().sync_all()?;
        Ok((directory, file))
    }
}

/// What the name of a file begins with that is to take the place of `name`, and how many random letters follow.
fn temporary_prefix(name: &str) -> String {
    format!(".{name}-sbx-")
}

const RANDOM_LETTERS: usize = 12;

/// Removes what killed processes left in the place of which the file `name` should have come: who writes one has the lock of the
/// directory, which is ours now.
fn remove_leftovers(directory: &Path, name: &str) {
    let prefix = temporary_prefix(name);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let left =
            entry.file_name().to_str().and_then(|found| found.strip_prefix(&prefix)).is_some_and(|rest| {
                rest.len() == RANDOM_LETTERS && rest.bytes().all(|letter| letter.is_ascii_alphanumeric())
            });
        if left && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::project::MANIFEST;

    #[test]
    fn a_manifest_keeps_its_mode_and_its_link_inside_the_repository() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("config")).unwrap();
        let real = root.join("config/real.kdl");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("config/real.kdl", root.join(MANIFEST)).unwrap();
        let file = RepositoryFile::open(&root, MANIFEST).unwrap();
        file.replace(Some(b"old"), b"new").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert!(root.join(MANIFEST).is_symlink());
        assert_eq!(file.replace(Some(b"old"), b"newer").unwrap_err().hints(), ["try again"]);
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::read_dir(root.join("config")).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_out_of_the_repository_is_not_followed() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let root = fs::canonicalize(directory.path()).unwrap();
        symlink(outside.path(), root.join(MANIFEST)).unwrap();
        let error = RepositoryFile::open(&root, MANIFEST).unwrap_err();
        assert!(error.to_string().contains("not in the repository"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_made_and_what_is_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let file = RepositoryFile::open(&root, "sandbox.lock").unwrap();
        assert_eq!(file.read().unwrap(), None);
        assert!(file.replace(Some(b"old"), b"new").is_err());
        file.replace(None, b"new").unwrap();
        assert_eq!(file.read().unwrap().as_deref(), Some(&b"new"[..]));
        assert!(file.replace(None, b"newer").is_err());
        // One holds the lock of the directory.
        drop(file);
        fs::create_dir(root.join("x")).unwrap();
        assert!(RepositoryFile::open(&root, "x").unwrap().read().is_err());
    }

    #[test]
    fn what_a_killed_process_left_is_gone_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let others = [".sandbox.lock-sbx-", ".sandbox.lock-sbx-short", "sandbox.lock-sbx-abcdefghijkl"];
        for name in others.iter().chain(&[".sandbox.lock-sbx-abcdefghijkl"]) {
            fs::write(root.join(name), "half").unwrap();
        }
        let file = RepositoryFile::open(&root, "sandbox.lock").unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), others.len());
        let (_, written) = file.prepare(b"new").unwrap();
        remove_leftovers(&root, "sandbox.lock");
        assert!(!written.path().exists(), "what is written now has the form that is looked for");
    }
}
