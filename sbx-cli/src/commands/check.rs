//! `sbx check`.

use crate::{
    agents,
    context::Context,
    error::{CommandError, Outcome, Result},
    project::{self, MANIFEST},
};

/// Report every fault in sandbox.kdl at once, each with its place and what to write instead
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the effective configuration, and where each line of it comes from
    #[arg(long)]
    explain: bool,
    /// Apply the profile of that name first
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Print JSON: an array of faults, or the configuration with --explain
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let here = std::env::current_dir()
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let path = project::root_of(&here)?.join(MANIFEST);
    let text = project::read(&path)?;
    let catalogue = agents::catalogue(&context.paths)?;
    let parsed = match sbx_manifest::parse_with(&project::display_name(&path), &text, &catalogue) {
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
    if args.json && !args.explain {
        context.ui.json(&parsed.warnings);
    } else {
        for warning in &parsed.warnings {
            context.ui.diagnostic(warning);
        }
    }
    if args.explain {
        let project = context.project()?.with_profile(&context.ui, args.profile.as_deref())?;
        let explanation = project.manifest().explain();
        if args.json {
            context.ui.json(&explanation);
        } else {
            context.ui.data(explanation);
        }
    }
    Ok(Outcome::Done)
}
