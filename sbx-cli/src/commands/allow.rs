//! `sbx allow`.

use sbx_manifest::model::Action;

use super::rule::{self, Wanted};
use crate::{
    context::Context,
    error::{Outcome, Result},
};

/// Allow the sandbox to reach a host, by a rule in sandbox.kdl
///
/// The file is changed in place; comments and everything else in it stay as they are. What a `deny` in the file forbids
/// has to be taken out by hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    rule::add(context, Action::Allow, &args.wanted)
}
