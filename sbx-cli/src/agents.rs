//! The agents that a manifest can name: sbx's own, and the user's, which are files beside the configuration.
//!
//! A repository cannot write there: what an agent is, and what it may reach, is said by sbx, by the user, or by the manifest
//! itself, where the user sees it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use sbx_manifest::{Catalogue, model::Definition};

use crate::{
    context::Context,
    error::{CommandError, Result},
    paths::Paths,
};

/// A file that describes an agent has a few hundred bytes; the parser refuses more than this with a place.
const MAX_BYTES: u64 = 1 << 20;

/// As many agents as nobody has.
const MAX_FILES: usize = 1000;

/// All agents.
///
/// # Errors
/// If the user's cannot be read.
pub(crate) fn catalogue(paths: &Paths) -> Result<Catalogue> {
    let (mut catalogue, directory) = (Catalogue::default(), paths.agents());
    let failed = |path: &Path, error: io::Error| {
        CommandError::usage(format!("cannot read {}", paths.display(path))).with_source(error)
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(catalogue),
        Err(error) => return Err(failed(&directory, error)),
    };
    for entry in entries.take(MAX_FILES) {
        let path = entry.map_err(|error| failed(&directory, error))?.path();
        let Some(name) = agent_of(&path) else { continue };
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text))
            .map_err(|error| failed(&path, error))?;
        catalogue.add(name, paths.display(&path), text);
    }
    Ok(catalogue)
}

/// The agent called `name`.
///
/// # Errors
/// If there is none, or if its file has faults, which are printed.
pub(crate) fn find(context: &Context, name: &str) -> Result<Definition> {
    let catalogue = catalogue(&context.paths)?;
    match catalogue.get(name) {
        Some(Ok(definition)) => Ok(definition),
        Some(Err(faults)) => {
            context.ui.diagnostic(&faults);
            Err(CommandError::reported())
        }
        None => Err(CommandError::usage(format!("there is no agent `{}`", crate::ui::printable(name)))
            .with_hint(format!("there are {}", catalogue.names().join(", ")))),
    }
}

/// The agent that the file at `path` describes, if that is what its name says.
fn agent_of(path: &Path) -> Option<&str> {
    let name = path.file_stem()?.to_str()?;
    (path.extension()? == "kdl" && !name.starts_with('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_agents_are_told_from_others() {
        for (path, agent) in [
            ("/a/acme.kdl", Some("acme")),
            ("/a/acme.kdl.orig", None),
            ("/a/.acme.kdl", None),
            ("/a/README.md", None),
            ("/a/acme", None),
        ] {
            assert_eq!(agent_of(Path::new(path)), agent, "{path}");
        }
    }
}
