//! `sbx add`.

use sbx_manifest::edit;

use super::package::{self, Wanted};
use crate::{
    context::Context,
    error::{Outcome, Result},
};

/// Add packages to sandbox.kdl, and pin them in sandbox.lock
///
/// The file is changed in place; comments and everything else in it stay as they are. A package that is there in another
/// version is changed. If one cannot be found, nothing is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    package::change(context, edit::add_package, &args.wanted)
}
