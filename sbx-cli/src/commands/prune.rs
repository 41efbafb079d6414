//! `sbx prune`.

use std::time::Duration;

use sbx_image::store::{PruneOptions, Pruned};
use serde::Serialize;

use crate::{
    context::Context,
    error::{Outcome, Result},
    images,
    provision::{self, downloads},
    sandbox::{directory, state::State},
    ui::{bytes, plural, printable},
};

/// Downloads of packages that were not used, and output of steps that were not taken, for so long are deleted.
const UNUSED: Duration = Duration::from_hours(30 * 24);

/// Delete layers and snapshots that no image and no sandbox uses, and downloads and logs of packages that are older than 30 days
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also forget the images that no sandbox uses, and all downloads and logs
    #[arg(short, long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    pruned: Pruned,
    downloads: usize,
    download_bytes: u64,
    logs: usize,
    log_bytes: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    provision::sweep(context);
    let store = images::open_store(context)?;
    let mut in_use = Vec::new();
    for sandbox in directory::list(&context.paths.sandboxes())? {
        // A sandbox whose state cannot be read could use anything: better an error than its snapshot gone.
        if let Some(state) = State::read(&sandbox)? {
            in_use.push(state.snapshot);
        }
    }
    let pruned = store.prune(&PruneOptions { in_use, all: args.all }).map_err(images::store_failed)?;
    let age = if args.all { Duration::ZERO } else { UNUSED };
    let downloads = downloads::prune(&context.paths.home, age);
    let logs = provision::prune_logs(context, age);
    if args.json {
        context.ui.json(&Report {
            pruned,
            downloads: downloads.files,
            download_bytes: downloads.bytes,
            logs: logs.files,
            log_bytes: logs.bytes,
        });
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
    for (removed, noun) in [(downloads, "download"), (logs, "log")] {
        if removed.files > 0 {
            let files = plural(removed.files, noun);
            context.ui.note(format_args!("{files} deleted, {} freed", bytes(removed.bytes)));
        }
    }
    Ok(Outcome::Done)
}
