//! What every command has: the terminal, the directories, and how a sandbox is found.

use std::{env, path::Path};

use crate::{
    args::Selection,
    error::{CommandError, Result},
    paths::Paths,
    project::{self, Project},
    sandbox::{directory::SandboxDirectory, state::State},
    ui::Ui,
};

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Context {
    /// The terminal.
    pub(crate) ui: Ui,
    /// The directories.
    pub(crate) paths: Paths,
}

impl Context {
    /// From the environment.
    pub(crate) fn new(ui: Ui) -> Result<Self> {
        Ok(Self { ui, paths: Paths::from_environment()? })
    }

    /// The manifest of the repository that the current directory is in.
    pub(crate) fn project(&self) -> Result<Project> {
        let directory = env::current_dir()
            .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
        Project::find(self, &directory)
    }

    /// The sandbox that `selection` means, which must exist.
    pub(crate) fn sandbox(&self, selection: &Selection) -> Result<(SandboxDirectory, State)> {
        let directory = match &selection.name {
            Some(name) => self.named(name)?,
            None => {
                let here = env::current_dir().map_err(|error| {
                    CommandError::failed("cannot tell the current directory").with_source(error)
                })?;
                self.of_workspace(&here)?
            }
        };
        match State::read(&directory)? {
            Some(state) => Ok((directory, state)),
            None => Err(no_sandbox(&directory.name())),
        }
    }

    /// The directory of the sandbox called `name`, which may not exist.
    pub(crate) fn named(&self, name: &str) -> Result<SandboxDirectory> {
        if !is_name(name) {
            return Err(CommandError::usage(format!("`{name}` cannot be the name of a sandbox"))
                .with_hint("`sbx ls` lists them"));
        }
        Ok(SandboxDirectory::new(self.paths.sandboxes().join(name)))
    }

    /// The directory of the sandbox of `workspace`: `name`, unless another workspace has that already; then a name that
    /// only this workspace can have. Two checkouts of one repository are two sandboxes.
    pub(crate) fn for_workspace(&self, name: &str, workspace: &Path) -> Result<SandboxDirectory> {
        let unique = format!("{name}-{}", short_hash(workspace));
        let alone = self.named(&unique)?;
        if alone.exists() {
            return Ok(alone);
        }
        let plain = self.named(name)?;
        match State::read(&plain) {
            Ok(Some(state)) if state.workspace != workspace => Ok(alone),
            // A state that cannot be read is reported by whoever needs what is in it.
            _ => Ok(plain),
        }
    }

    /// The sandbox of the repository around `directory`, by the manifest's name if it can be read, else by the
    /// workspaces of all sandboxes: `sbx stop` must work although the manifest is broken.
    fn of_workspace(&self, directory: &Path) -> Result<SandboxDirectory> {
        let root = project::root_of(directory)?;
        let found = crate::sandbox::directory::list(&self.paths.sandboxes())?
            .into_iter()
            .find(|candidate| matches!(State::read(candidate), Ok(Some(state)) if state.workspace == root));
        found.ok_or_else(|| {
            CommandError::usage("this repository has no sandbox yet")
                .with_hint("`sbx up` makes and starts it")
        })
    }
}

/// The error for a sandbox that is not there.
pub(crate) fn no_sandbox(name: &str) -> CommandError {
    CommandError::usage(format!("there is no sandbox `{name}`")).with_hint("`sbx ls` lists them")
}

/// Whether `name` is a plain file name in the form that manifests allow, with room for a suffix.
fn is_name(name: &str) -> bool {
    const MAX_BYTES: usize = 80;
    !name.is_empty()
        && name.len() <= MAX_BYTES
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.')
        && !name.starts_with('.')
}

fn short_hash(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex().chars().take(6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_directory() {
        for name in ["a", "payments", "a-b.c_1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".x", "a/b", "../a", "a b", "ä", &"a".repeat(81)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
