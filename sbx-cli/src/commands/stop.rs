//! `sbx stop`.

use crate::{
    args::Selection,
    context::Context,
    error::{Outcome, Result},
    sandbox::{control, directory::SandboxDirectory},
};

/// Power the sandbox off; its disk is kept
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Seconds that the processes inside get between SIGTERM and SIGKILL
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 10)]
    time: u16,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    stop(&directory, u32::from(args.time) * 1000)?;
    Ok(Outcome::Done)
}

/// Powers the sandbox in `directory` off, and returns when its process is gone.
pub(crate) fn stop(directory: &SandboxDirectory, grace_milliseconds: u32) -> Result<()> {
    if directory.is_alive() {
        control::stop(&directory.run(), grace_milliseconds);
        directory.wait_until_dead()?;
    }
    Ok(())
}
