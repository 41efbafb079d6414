//! Changing `sandbox.kdl` in place.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
};

use crate::{
    error::{CommandError, Result},
    project::{self, MANIFEST},
};

/// A manifest that nobody else changes through sbx as long as this lives.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    path: PathBuf,
    /// What the path leads to, without links.
    target: PathBuf,
    /// The locked directory. The file itself is replaced, and a lock on it would go with the old one.
    _lock: File,
}

impl ManifestFile {
    /// The manifest in `root`, which has no links in it.
    ///
    /// # Errors
    /// If it is a link to a file outside of `root`: a repository must not have other files changed.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        let unreadable = |error: io::Error| {
            CommandError::usage(format!("cannot read {}", path.display())).with_source(error)
        };
        let lock = File::open(root).map_err(unreadable)?;
        // Where directories cannot be locked, the comparison in `replace` still finds most of what could go wrong.
        let _ = lock.lock();
        let target = fs::canonicalize(&path).map_err(unreadable)?;
        if !target.starts_with(root) {
            return Err(CommandError::usage(format!(
                "{MANIFEST} is a link to {}, which is not in the repository",
                target.display()
            ))
            .with_hint("change that file by hand, or put a copy in the place of the link"));
        }
        Ok(Self { path, target, _lock: lock })
    }

    /// Where the repository has it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        project::read(&self.target)
    }

    /// Puts `new` in the place of `old`. Whoever reads meanwhile, or after a crash, finds one or the other; mode and owner
    /// stay.
    ///
    /// # Errors
    /// If it cannot be written, or if it is not `old` any more.
    pub(crate) fn replace(&self, old: &[u8], new: &[u8]) -> Result<()> {
        let failed = |error: io::Error| {
            CommandError::failed(format!("cannot write {}", self.path.display())).with_source(error)
        };
        let (directory, written) = self.prepare(new).map_err(failed)?;
        if self.read()? != old {
            return Err(CommandError::failed(format!("{} was changed meanwhile", self.path.display()))
                .with_hint("try again"));
        }
        written.persist(&self.target).map_err(|error| failed(error.error))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        // The guest of a sandbox that runs may write to the directory. It must not write to a manifest, and cannot any
        // more now that the file has that name.
        if self.read()? != new {
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
        let metadata = fs::metadata(&self.target)?;
        let mut file = tempfile::Builder::new().prefix(".sandbox.kdl-").tempfile_in(directory)?;
        file.write_all(text)?;
        if file.as_file().metadata()?.uid() != metadata.uid() {
            fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
        }
        file.as_file().set_permissions(metadata.permissions())?;
        file.as_file().sync_all()?;
        Ok((directory, file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_manifest_keeps_its_mode_and_its_link_inside_the_repository() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("config")).unwrap();
        let real = root.join("config/real.kdl");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("config/real.kdl", root.join(MANIFEST)).unwrap();
        let file = ManifestFile::open(&root).unwrap();
        file.replace(b"old", b"new").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert!(root.join(MANIFEST).is_symlink());
        assert_eq!(file.replace(b"old", b"newer").unwrap_err().hints(), ["try again"]);
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::read_dir(root.join("config")).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_link_out_of_the_repository_is_not_followed() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let root = fs::canonicalize(directory.path()).unwrap();
        symlink(outside.path(), root.join(MANIFEST)).unwrap();
        let error = ManifestFile::open(&root).unwrap_err();
        assert!(error.to_string().contains("not in the repository"), "{error}");
    }
}
