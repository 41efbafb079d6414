//! `sbx shell`.

use crate::{
    approval,
    args::Selection,
    context::Context,
    error::{Outcome, Result},
    locking::LockFile,
    network::NetworkPlan,
    project::Project,
    provision,
    sandbox::launch::{self, Options},
    session::Wishes,
};

/// Open a login shell in the sandbox, which is started if it is stopped
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// As this user: NAME or UID, with :GROUP if wanted
    #[arg(short, long)]
    user: Option<String>,
    /// Where STEP of the snapshot's making runs instead: `apt`, `agent:NAME`, `setup:1`; nothing done there is kept
    #[arg(long, value_name = "STEP")]
    at: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    let wishes = Wishes { user: args.user, ..Wishes::default() };
    if let Some(step) = args.at {
        let project = project(context, &args.selection)?;
        let (shares, network) = (project.shares(context)?, NetworkPlan::of(project.manifest()));
        approval::ask(context, &project, &shares, network.as_ref(), false)?;
        let lock = LockFile::open(&project.root)?.parse(&context.ui)?.map(|parsed| parsed.lock);
        return provision::shell_at(context, &project, lock.as_ref(), &step, wishes);
    }
    launch::run(wishes, || launch::existing(context, &args.selection, &Options::default()))
}

/// The manifest of the sandbox that is meant, with its profile, or of this repository if it has none yet.
fn project(context: &Context, selection: &Selection) -> Result<Project> {
    match context.sandbox(selection) {
        Ok((_, state)) => Project::open(context, &state.manifest, state.profile.as_deref()),
        Err(_) if selection.name.is_none() => context.project(),
        Err(error) => Err(error),
    }
}
