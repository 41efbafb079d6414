//! `sbx prune`.

use sbx_image::store::PruneOptions;

use crate::{
    context::Context,
    error::{Outcome, Result},
    images,
    sandbox::{directory, state::State},
    ui::{bytes, plural, printable},
};

/// Delete layers and snapshots that no image and no sandbox uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also forget the images that no sandbox uses
    #[arg(short, long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let store = images::open_store(context)?;
    let mut in_use = Vec::new();
    for sandbox in directory::list(&context.paths.sandboxes())? {
        // A sandbox whose state cannot be read could use anything: better an error than its snapshot gone.
        if let Some(state) = State::read(&sandbox)? {
            in_use.push(state.snapshot);
        }
    }
    let pruned = store.prune(&PruneOptions { in_use, all: args.all }).map_err(images::store_failed)?;
    if args.json {
        context.ui.json(&pruned);
        return Ok(Outcome::Done);
    }
    for reference in &pruned.images {
        context.ui.data(printable(reference));
    }
    context.ui.note(format_args!(
        "{}, {} and {} deleted, {} freed",
        plural(pruned.images.len(), "image"),
        plural(pruned.layers, "layer"),
        plural(pruned.snapshots, "snapshot"),
        bytes(pruned.freed_bytes)
    ));
    Ok(Outcome::Done)
}
