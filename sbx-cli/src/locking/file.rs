//! The file itself.

use std::{fs, path::Path};

use sbx_manifest::lock::{self, ParsedLock};

use crate::{
    error::{CommandError, Result},
    project::display_name,
    repository_file::RepositoryFile,
    ui::Ui,
};

/// The file that pins what a sandbox is built from, beside the manifest.
pub(crate) const LOCK: &str = "sandbox.lock";

/// The lock of a repository.
#[derive(Debug)]
pub(crate) struct LockFile(RepositoryFile);

impl LockFile {
    /// That of the repository at `root`, which has no links in it.
    ///
    /// # Errors
    /// If it is a link out of there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        RepositoryFile::open(root, LOCK).map(Self)
    }

    /// The text; none if there is no lock.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        self.0.read()
    }

    /// What it says; none if there is no lock.
    ///
    /// # Errors
    /// If it cannot be read, or has faults, which are printed.
    pub(crate) fn parse(&self, ui: &Ui) -> Result<Option<ParsedLock>> {
        let Some(text) = self.read()? else { return Ok(None) };
        lock::parse(&self.name(), &text).map(Some).map_err(|faults| {
            ui.diagnostic(&faults);
            CommandError::reported()
        })
    }

    /// What diagnostics call it.
    pub(crate) fn name(&self) -> String {
        display_name(self.0.path())
    }

    /// As [`RepositoryFile::replace`].
    ///
    /// # Errors
    /// If it cannot be written, or is not `old` any more.
    pub(crate) fn replace(&self, old: Option<&[u8]>, new: &[u8]) -> Result<()> {
        self.0.replace(old, new)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_file(self.0.path()).map_err(|error| {
            CommandError::failed(format!("cannot remove {}", self.0.path().display())).with_source(error)
        })
    }
}
