//! `sbx policy`: what the network lets pass, and what it did.

mod check;
mod entry;
mod log;

use clap::Subcommand;

use crate::{
    context::Context,
    error::{Outcome, Result},
};

/// Ask what the sandbox may reach, or look at what it tried to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Log(log::Args),
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Check(args) => check::run(context, args),
        Command::Log(args) => log::run(context, args),
    }
}
