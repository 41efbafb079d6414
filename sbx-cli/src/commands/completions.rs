//! `sbx completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{args::Arguments, context::Context, error::Outcome};

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "sbx", &mut script);
    context.ui.raw(&String::from_utf8_lossy(&script));
    Outcome::Done
}
