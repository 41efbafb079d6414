//! What a machine wrote, as a layer.

use sbx_image::{Digest, Normalisation, layer::Limits, normalisation::Workspace, store::AddedLayer};

use super::{bench::Bench, machine::Machine};
use crate::{
    error::{CommandError, Result},
    sandbox::capture::capture,
};

/// Ends what runs in `machine`, and stores what differs from its snapshot, which is of the layers `below`, as a layer.
///
/// # Errors
/// If it cannot be made into one.
pub(super) fn layer(
    bench: &Bench<'_>,
    machine: &Machine,
    below: &[Digest],
    workspace: Option<Workspace>,
) -> Result<AddedLayer> {
    let mut tar = capture(&machine.directory().run())?;
    let below = below.to_vec();
    let normalisation = Normalisation { workspace, below, ..Normalisation::new(bench.epoch) };
    bench
        .store
        .add_layer(&mut tar, &normalisation, &Limits::default())
        .map_err(|error| CommandError::failed("cannot keep what was installed").with_source(error))
}
