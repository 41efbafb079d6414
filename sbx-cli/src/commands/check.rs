//! `sbx check`.

use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    project::{self, MANIFEST},
};

/// Report every fault in sandbox.kdl at once, each with its place and what to write instead
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON: an array of faults
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let here = std::env::current_dir()
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let path = project::root_of(&here)?.join(MANIFEST);
    let text = project::read(&path)?;
    let parsed = match sbx_manifest::parse(&project::display_name(&path), &text) {
        Ok(parsed) => parsed,
        Err(faults) => {
            if args.json {
                context.ui.json(&faults);
            } else {
                context.ui.diagnostic(&faults);
            }
            return Err(CommandError::reported());
        }
    };
    if args.json {
        context.ui.json(&parsed.warnings);
    } else {
        for warning in &parsed.warnings {
            context.ui.diagnostic(warning);
        }
    }
    Ok(Outcome::Done)
}
