//! `sbx remove`.

use sbx_manifest::edit;

use super::package::{self, Wanted};
use crate::{
    context::Context,
    error::{Outcome, Result},
};

/// Take packages out of sandbox.kdl and sandbox.lock
///
/// In whatever version they are there. The file is changed in place; comments and everything else in it stay as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    package::change(context, edit::remove_package, &args.wanted)
}
