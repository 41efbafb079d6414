//! `sbx reset`.

use std::{fs, io};

use super::stop;
use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    sandbox::state::State,
    workspace::clone,
};

/// Throw what was written in the sandbox away; the next start begins with the image as it is
///
/// The workspace and the image are not touched, and with `--keep-home` nor is the agent's home. A running sandbox is stopped
/// first, and is not started again. With mode="clone" its copy of the workspace goes as well, and the next start makes a new one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Keep the agent's home: its configuration, its history and what it is logged in to
    #[arg(long)]
    keep_home: bool,
    /// Throw the copy of the workspace away although it has changes that were not applied
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    let _lock = directory.lock_start()?;
    if !args.force {
        clone::refuse_to_lose(&context.ui, &directory, "sbx reset --force")?;
    }
    stop::stop(&directory, 0)?;
    clone::discard(&directory)?;
    // As the process left it.
    let Some(mut state) = State::read(&directory)? else { return Ok(Outcome::Done) };
    state.reason = None;
    if args.keep_home && directory.scratch().exists() {
        // The disk stays; the guest knows which part of it is the home, and throws the rest away when it boots next.
        state.fresh_root = true;
        state.write(&directory)?;
        return Ok(Outcome::Done);
    }
    match fs::remove_file(directory.scratch()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CommandError::failed(format!("cannot remove {}", directory.scratch().display()))
                .with_source(error));
        }
        _ => {}
    }
    // Without a disk the sandbox is bound to no snapshot; the next start binds it to what the manifest names then.
    state.snapshot.clear();
    state.fresh_root = false;
    state.write(&directory)?;
    Ok(Outcome::Done)
}
