//! `sbx df`.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use serde::Serialize;

use crate::{
    context::Context,
    error::{Outcome, Result},
    images,
    sandbox::directory,
    ui::{Table, bytes},
};

/// Unit of `st_blocks`, whatever the file system's block size (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Show what images and sandboxes take on disk
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one kind of thing takes on disk.
#[derive(Debug, Serialize)]
struct Row {
    kind: String,
    objects: usize,
    bytes: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let usage = images::open_store(context)?.usage().map_err(images::store_failed)?;
    let mut rows: Vec<_> = usage
        .buckets
        .iter()
        .map(|bucket| Row { kind: bucket.bucket.to_owned(), objects: bucket.objects, bytes: bucket.bytes })
        .collect();
    let sandboxes = directory::list(&context.paths.sandboxes())?;
    rows.push(Row {
        kind: "sandboxes".to_owned(),
        objects: sandboxes.len(),
        bytes: sandboxes.iter().map(|sandbox| disk_bytes(sandbox.path())).sum(),
    });
    if args.json {
        context.ui.json(&serde_json::json!({
            "kinds": rows,
            "shared_layer_bytes": usage.shared_layer_bytes,
            "unused_layer_bytes": usage.unused_layer_bytes,
        }));
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["kind", "objects", "size"]);
    for row in &rows {
        table.row(vec![row.kind.clone(), row.objects.to_string(), bytes(row.bytes)]);
    }
    table.row(vec!["total".to_owned(), String::new(), bytes(rows.iter().map(|row| row.bytes).sum())]);
    context.ui.data(table);
    if usage.unused_layer_bytes > 0 {
        context.ui.hint(format_args!("`sbx prune` frees {}", bytes(usage.unused_layer_bytes)));
    }
    Ok(Outcome::Done)
}

/// What the files below `path` take on disk. What goes away meanwhile counts as nothing.
fn disk_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks().saturating_mul(STAT_BLOCK_BYTES);
    if !metadata.is_dir() {
        return own;
    }
    let inside: u64 = fs::read_dir(path)
        .map_or(0, |entries| entries.flatten().map(|entry| disk_bytes(&entry.path())).sum());
    own.saturating_add(inside)
}
