//! `sbx status`.

use super::ls::Row;
use crate::{
    args::Selection,
    context::Context,
    error::{Outcome, Result},
    ui::{binary_size, short_digest},
};

/// Show the sandbox of this repository
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, state) = context.sandbox(&args.selection)?;
    let image = format!("{}  {}", state.image, short_digest(&state.image_digest));
    let snapshot = short_digest(&state.snapshot);
    let machine = format!(
        "{}, {} vCPU, {}, disk {}",
        state.engine,
        state.vcpus,
        binary_size(u64::from(state.memory_mib) << 20),
        binary_size(state.disk_bytes)
    );
    let row = Row::new(&directory, state);
    if args.json {
        context.ui.json(&row);
        return Ok(Outcome::Done);
    }
    for (label, value) in [
        ("name", directory.name()),
        ("status", row.status_line()),
        ("image", image),
        ("snapshot", snapshot),
        ("machine", machine),
        ("workspace", row.workspace_line(context)),
    ] {
        context.ui.data(format_args!("{label:9}  {value}"));
    }
    Ok(Outcome::Done)
}
