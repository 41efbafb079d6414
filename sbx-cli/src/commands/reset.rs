//! `sbx reset`.

use std::{fs, io};

use super::stop;
use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    workspace::clone,
};

/// Throw the sandbox's disk away; the next start begins with the image as it is
///
/// The workspace and the image are not touched. A running sandbox is stopped first, and is not started again. With mode="clone" its
/// copy of the workspace goes as well, and the next start makes a new one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Throw the copy of the workspace away although it has changes that were not applied
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, mut state) = context.sandbox(&args.selection)?;
    let _lock = directory.lock_start()?;
    if !args.force {
        clone::refuse_to_lose(&context.ui, &directory, "sbx reset --force")?;
    }
    stop::stop(&directory, 0)?;
    clone::discard(&directory)?;
    match fs::remove_file(directory.scratch()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CommandError::failed(format!("cannot remove {}", directory.scratch().display()))
                .with_source(error));
        }
        _ => {}
    }
    // Without a disk the sandbox is bound to no snapshot; the next start binds it to what the manifest names then.
    state.snapshot.clear();
    state.reason = None;
    state.write(&directory)?;
    Ok(Outcome::Done)
}
