//! `sbx init`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use sbx_manifest::init::{RepoFacts, template};

use crate::{
    agents,
    context::Context,
    error::{CommandError, Outcome, Result},
    project::{MANIFEST, name_of},
};

/// A directory with more entries than this is no repository's root; what lies beyond is not looked at.
const MAX_FILES: usize = 10_000;

/// More than any `devcontainer.json` needs, in bytes.
const MAX_DEVCONTAINER_BYTES: u64 = 64 * 1024;

/// Write a commented sandbox.kdl that fits this repository
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent that the sandbox is for
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    if let Some(agent) = &args.agent {
        agents::find(context, agent)?;
    }
    let directory = std::env::current_dir()
        .and_then(fs::canonicalize)
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let text = template(&facts(&directory), args.agent.as_deref());
    let path = directory.join(MANIFEST);
    // `create_new` decides: a file that is there is somebody's work.
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    match written {
        Ok(()) => {
            context.ui.note(format_args!("wrote {}", context.paths.display(&path)));
            context.ui.hint("`sbx up` starts what it declares, `sbx check --explain` tells what that is");
            Ok(Outcome::Done)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(CommandError::usage(format!("{MANIFEST} is there already"))
                .with_hint("`sbx check` tells whether it is right; remove it to begin anew"))
        }
        Err(error) => {
            Err(CommandError::failed(format!("cannot write {}", path.display())).with_source(error))
        }
    }
}

/// What can be seen of a repository without running anything in it.
fn facts(directory: &Path) -> RepoFacts {
    let files = fs::read_dir(directory).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .take(MAX_FILES)
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        },
    );
    let devcontainer = [".devcontainer/devcontainer.json", ".devcontainer.json"]
        .iter()
        .find_map(|name| read_bounded(&directory.join(name)).ok());
    RepoFacts { name: name_of(directory), files, devcontainer }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_DEVCONTAINER_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
