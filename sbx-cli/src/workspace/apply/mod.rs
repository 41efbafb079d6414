//! Changes of a copy brought back: into the working tree, as a patch, or as a branch.
//!
//! ```text
//! changes ─▶ choose: paths, protected ones, links that lead out ─▶ working tree: obstacles ─▶ journal ─▶ files ─▶ base moves
//!                                                               ├▶ patch                                       ─▶ base moves
//!                                                               └▶ branch: objects ─▶ reference               ─▶ base moves
//! ```

pub(crate) mod branch;
mod git;
pub(crate) mod journal;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    clone::{Change, PrivateCopy},
    diff::name::quoted,
    git::Repository,
    tree::Tree,
};
use crate::{
    error::{CommandError, Result},
    project::MANIFEST,
};

/// Paths that decide over what runs on the host, relative to the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protected {
    paths: Vec<PathBuf>,
}

impl Protected {
    /// Of `workspace`, for a manifest in `root`: the manifest and its lock, and where the repository's hooks are.
    ///
    /// # Errors
    /// If the repository's configuration cannot be read.
    pub(crate) fn of(workspace: &Path, root: &Path) -> Result<Self> {
        let mut paths = vec![root.join(MANIFEST), root.join("sandbox.lock")];
        if let Some(Repository { top, directories: Some(directories) }) = Repository::around(workspace)
            && let Some(hooks) = directories.config()?.get("core", "hookspath")
        {
            paths.push(top.join(hooks.trim_start_matches("./").trim_end_matches('/')));
        }
        let inside = paths.iter().filter_map(|path| path.strip_prefix(workspace).ok());
        Ok(Self { paths: inside.map(Path::to_path_buf).collect() })
    }

    /// Whether `path` is one of them or below one. Letter case does not count, as on some file systems.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.paths.iter().any(|protected| {
            let mut parts = path.components();
            protected.components().all(|part| {
                parts.next().is_some_and(|own| own.as_os_str().eq_ignore_ascii_case(part.as_os_str()))
            })
        })
    }

    /// The paths.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// Whether `path` is one of `wanted` or below one; everything is if nothing is wanted in particular.
pub(crate) fn is_wanted(path: &Path, wanted: &[PathBuf]) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| path.starts_with(wanted))
}

/// Refuses links that lead out of the workspace.
///
/// # Errors
/// If there is one.
pub(crate) fn refuse_links_out(copy: &PrivateCopy, changes: &[Change]) -> Result<()> {
    let mut found = Vec::new();
    for change in changes {
        if let Some(entry) = change.to
            && state::leads_out(&copy.objects, &copy.about.workspace, &change.path, entry)?
        {
            found.push(quoted(&change.path));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(CommandError::usage("the sandbox made symbolic links that lead out of the repository")
        .with_lines("links", found)
        .with_hint("name the paths to apply, without these; or remove the links in the sandbox"))
}

/// Writes `changes` into the working tree: all of them, or none.
///
/// # Errors
/// If one is in the way of another change, or cannot be written.
pub(crate) fn into_workspace(copy: &mut PrivateCopy, changes: &[Change]) -> Result<()> {
    let workspace = Tree::open(&copy.about.workspace)?;
    let by_path: BTreeMap<&Path, &Change> =
        changes.iter().map(|change| (change.path.as_path(), change)).collect();
    let mut obstacles = Vec::new();
    for change in changes {
        if let Some(reason) = state::obstacle(&workspace, change, &by_path)? {
            obstacles.push(format!("{} {reason}", quoted(&change.path)));
        }
    }
    if !obstacles.is_empty() {
        return Err(CommandError::usage("nothing was applied: some files changed in the workspace, too")
            .with_lines("in the way", obstacles)
            .with_hint(
                "name the paths to apply, without these; or `sbx apply --branch NAME`, and let git merge",
            ));
    }
    journal::carry_out(copy, &workspace, changes)
}

#[cfg(test)]
mod tests;
