//! `sbx shell`.

use crate::{
    args::Selection,
    context::Context,
    error::{Outcome, Result},
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
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    let wishes = Wishes { user: args.user, ..Wishes::default() };
    launch::run(wishes, || launch::existing(context, &args.selection, &Options::default()))
}
