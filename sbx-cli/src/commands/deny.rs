//! `sbx deny`.

use sbx_manifest::model::Action;

use super::rule::{self, Wanted};
use crate::{
    context::Context,
    error::{Outcome, Result},
};

/// Keep the sandbox from reaching a host, by a rule in sandbox.kdl
///
/// A `deny` wins over every `allow`, wherever they stand. The file is changed in place; comments and everything else in
/// it stay as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    rule::add(context, Action::Deny, &args.wanted)
}
