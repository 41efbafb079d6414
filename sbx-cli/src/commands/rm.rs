//! `sbx rm`.

use std::{fs, io};

use super::stop;
use crate::{
    args::Selection,
    context::{Context, no_sandbox},
    error::{CommandError, Outcome, Result},
    sandbox::directory::SandboxDirectory,
    workspace::{clone, remove_all},
};

/// Remove the sandbox and its disk; the workspace and the image stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Stop it first if it runs, do not mind if there is none, nor if its copy of the workspace has changes that were not
    /// applied
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let directory = match (context.sandbox(&args.selection), &args.selection.name) {
        (Ok((directory, _)), _) => directory,
        // A state that this version cannot read must not keep the sandbox from being removed.
        (Err(_), Some(name)) if context.named(name)?.exists() => context.named(name)?,
        (Err(_), _) if args.force => return Ok(Outcome::Done),
        (Err(error), _) => return Err(error),
    };
    let _lock = directory.lock_start()?;
    if !args.force {
        clone::refuse_to_lose(&context.ui, &directory, "sbx rm --force")?;
    }
    if directory.is_alive() {
        if !args.force {
            return Err(CommandError::usage(format!("the sandbox `{}` runs", directory.name()))
                .with_hint("`sbx stop` stops it, `sbx rm --force` stops and removes it"));
        }
        stop::stop(&directory, 0)?;
    }
    remove(&directory)?;
    Ok(Outcome::Done)
}

/// Removes the directory in two steps: renamed, it is gone for every other command; what a killed removal leaves
/// behind is hidden from listings, and removed by the next.
fn remove(directory: &SandboxDirectory) -> Result<()> {
    let failed = |error: io::Error| {
        CommandError::failed(format!("cannot remove {}", directory.path().display())).with_source(error)
    };
    let parent = directory.path().parent().ok_or_else(|| no_sandbox(&directory.name()))?;
    let grave = parent.join(format!(".removed-{}-{}", directory.name(), std::process::id()));
    fs::rename(directory.path(), grave).map_err(failed)?;
    for entry in fs::read_dir(parent).map_err(failed)?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".removed-") {
            match remove_all(&entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
    }
    Ok(())
}
