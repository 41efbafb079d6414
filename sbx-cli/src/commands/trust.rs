//! `sbx trust`.

use crate::{
    approval,
    context::Context,
    error::{Outcome, Result},
    network::NetworkPlan,
};

/// Show what sandbox.kdl wants outside its directory, and approve what was not approved yet
///
/// Nothing is started. What was approved is remembered for this directory, outside of it; a manifest that wants more is asked
/// about again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply the profile of that name first
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// As for `sbx up` with this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Approve it without asking
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let project = context
        .project()?
        .with_profile(&context.ui, args.profile.as_deref())?
        .with_agent(context, args.agent.as_deref())?;
    let network = NetworkPlan::of(project.manifest());
    approval::review(context, &project, &project.shares(context)?, network.as_ref(), args.yes)?;
    Ok(Outcome::Done)
}
