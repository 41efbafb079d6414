//! `sbx logs`.

use std::io::{self, Write};

use crate::{
    args::Selection,
    context::Context,
    error::{Outcome, Result},
    follow::{self, Tail},
};

/// Show the guest's console, the output of start commands, and what the sandbox process has to say
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Go on as the log grows, until the sandbox stops
    #[arg(short, long)]
    follow: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    let mut logs = [directory.process_log(), directory.start_log(), directory.console_log()].map(Tail::new);
    let mut copy = || logs.iter_mut().try_for_each(|log| log.read(copy_out));
    copy()?;
    if args.follow {
        follow::until_stopped(&directory, copy)?;
    }
    Ok(Outcome::Done)
}

/// Copies a log to stdout byte for byte. A reader that went away is not an error worth a word.
fn copy_out(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
