//! What others have made of the same lock, from where `share` of the manifest says.
//!
//! It is asked for when the first step would have to be taken, and once. Nothing is taken that is not the snapshot of
//! `sandbox.lock`; and of that, a step only under the key that it has here: when something has changed since, the steps below
//! the change are used, and the rest is made.

use sbx_image::{
    Digest, Platform, Reference,
    share::{self, ShareError, SharedSnapshot, SharedStep, Wanted},
};
use sbx_manifest::lock::LockedMachine;
use sbx_proto::SETUP_WORKSPACE;

use super::bench::Bench;
use crate::{
    context::Context,
    error::{CommandError, Result},
    images,
    ui::{Ui, printable, short_digest},
};

/// Times that a registry is asked before a snapshot is made here instead.
const ATTEMPTS: u32 = 2;

/// What was found where snapshots are shared.
#[derive(Debug)]
pub(super) struct Shared {
    steps: Option<Vec<SharedStep>>,
}

impl Shared {
    /// Nobody was asked yet.
    pub(super) const fn new() -> Self {
        Self { steps: None }
    }

    /// What the step of this key made, if somebody has shared the snapshot that is `locked`. Its layer is in the store.
    ///
    /// # Errors
    /// If the user's configuration cannot be used. That a registry cannot is a warning.
    pub(super) fn step(
        &mut self,
        bench: &Bench<'_>,
        locked: &LockedMachine,
        key: &str,
    ) -> Result<Option<SharedStep>> {
        if self.steps.is_none() {
            self.steps = Some(ask(bench, locked)?);
        }
        let steps = self.steps.as_deref().unwrap_or_default();
        Ok(steps.iter().find(|step| step.key == key).cloned())
    }
}

/// The repository that a manifest or a user names.
///
/// # Errors
/// If it is none.
pub(crate) fn repository(text: &str) -> Result<Reference> {
    text.parse().map_err(|error: <Reference as std::str::FromStr>::Err| {
        CommandError::usage(format!("`{}` is not a repository", printable(text)))
            .with_source(error)
            .with_hint("for example ghcr.io/acme/sandboxes")
    })
}

/// The steps of the snapshot that is locked; none if there is no such snapshot to be had.
fn ask(bench: &Bench<'_>, locked: &LockedMachine) -> Result<Vec<SharedStep>> {
    let Some(share) = &bench.project.manifest().share else { return Ok(Vec::new()) };
    let (name, ui) = (printable(&share.value), &bench.context.ui);
    let Some(snapshot) = locked.snapshot() else {
        // Without a lock of this image there is nothing that could be asked for.
        if locked.image.is_some() {
            let why = "sandbox.lock has no snapshot of what it pins";
            ui.status("shared", format_args!("{name} is not asked: {why}"));
        }
        return Ok(Vec::new());
    };
    let below: Vec<Digest> = bench.image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let wanted = Wanted {
        inputs: &snapshot.inputs,
        content: &snapshot.digest,
        below: &below,
        workspace: SETUP_WORKSPACE.trim_start_matches('/'),
    };
    match pull(bench, &repository(&share.value)?, wanted)? {
        Ok(Some(shared)) => Ok(shared.steps),
        Ok(None) => {
            let digest = short_digest(&snapshot.digest);
            ui.status("shared", format_args!("{name} does not have {digest}; it is made here"));
            Ok(Vec::new())
        }
        Err(error) => {
            warn(ui, &name, error);
            Ok(Vec::new())
        }
    }
}

fn pull(
    bench: &Bench<'_>,
    repository: &Reference,
    wanted: Wanted<'_>,
) -> Result<std::result::Result<Option<SharedSnapshot>, ShareError>> {
    let context: &Context = bench.context;
    let mut options = images::pull_options(context, &Platform::host())?;
    // There is another way to get it.
    options.network.attempts = options.network.attempts.min(ATTEMPTS);
    let progress = context.ui.pull_progress();
    let pulled = share::pull(&bench.store, repository, wanted, &options, &progress);
    let pulled = images::transfer_runtime()?.block_on(pulled);
    progress.finish();
    Ok(pulled)
}

fn warn(ui: &Ui, name: &str, error: ShareError) {
    let error = CommandError::failed(format!("cannot take the snapshot from {name}")).with_source(error);
    ui.warning(format!("{}; it is made here", error.chain().join(": ")));
}
