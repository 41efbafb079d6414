//! From manifest and lock to a snapshot that has packages, agents and the effect of setup commands in it.
//!
//! ```text
//! image ─▶ apt, apk, dnf ─▶ npm ─▶ pip ─▶ cargo ─▶ agents ─▶ setup 1 ─▶ setup 2 ─▶ snapshot
//!              └ each a step: key known? its layer is used again : up to three machines make the layer
//! step    ─▶ resolve (no pins yet) ─▶ fetch (files not in the cache) ─▶ install (no network) ─▶ capture
//! ```
//! `docs/design/provisioning.md` tells why, and what is promised.

mod arrivals;
mod bench;
mod builder;
mod capture;
mod client;
mod clients;
pub(crate) mod downloads;
mod hash;
pub(crate) mod inputs;
mod key;
mod machine;
mod needs;
mod old_files;
mod online;
mod packages;
mod progress;
mod script;
mod setup;
mod shared;
mod shell;
mod step;
mod turn;

use sbx_image::{Digest, Image, Platform, Snapshot, Store};
use sbx_manifest::lock::{Lock, LockedImage, LockedMachine, LockedSnapshot};

use self::{bench::Bench, builder::Builder};
pub(crate) use self::{
    builder::Made,
    machine::{prune_logs, sweep},
    shared::repository,
    shell::shell_at,
};
use crate::{
    artifacts,
    context::Context,
    error::Result,
    images::{self, Prepared},
    project::Project,
};

/// What is wanted besides a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Pins that are to be moved to what the registries have now.
    pub(crate) update: Update,
    /// Make every step's layer again, whatever is there: for finding out whether the same comes out.
    pub(crate) rebuild: bool,
    /// The engine for the machines.
    pub(crate) engine: Option<sbx_vmm::engine::EngineKind>,
}

/// Which pins are to be moved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Update {
    /// None: those of the lock hold.
    #[default]
    None,
    /// All.
    All,
    /// Those of these packages, as the manifest names them without a version: `ripgrep`, or `apt:ripgrep` if two managers
    /// have one; of agents; and `image`.
    Names(Vec<String>),
}

/// What moves the image.
const IMAGE: &str = "image";

impl Update {
    /// Whether what goes by this name is to be moved.
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Names(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

/// A snapshot with everything in it that the manifest wants.
#[derive(Debug)]
pub(crate) struct Provisioned {
    /// The image, and the snapshot of its layers and the steps'.
    pub(crate) prepared: Prepared,
    /// Everything that was used, whether it was in the lock or resolved now.
    pub(crate) machine: LockedMachine,
    /// Directories that setup commands made in the workspace, relative to it.
    pub(crate) setup_directories: Vec<String>,
    /// What the lock did not have, in words: `apt package ripgrep`. Empty if there was nothing to look up.
    pub(crate) lacking: Vec<String>,
    /// The layer of each step, in their order.
    pub(crate) made: Vec<Made>,
}

/// Makes the snapshot of `project`, as far as it is not there.
///
/// Nothing of the manifest runs before the user approved it: who calls this has asked.
///
/// # Errors
/// If a step fails, with its place in the manifest and its last lines; the steps before it are kept.
pub(crate) fn provision(
    context: &Context,
    project: &Project,
    lock: Option<&Lock>,
    wishes: &Wishes,
) -> Result<Provisioned> {
    let steps = step::of(project)?;
    let store = images::open_store(context)?;
    let locked = lock.map(|lock| lock.machine(project.profile.as_deref()).clone()).unwrap_or_default();
    let (image, locked) = image(context, &store, project, locked, wishes)?;
    let hold = store.hold().map_err(images::store_failed)?;
    if steps.is_empty() {
        let snapshot = images::snapshot(context, &store, &image)?;
        return Ok(Provisioned {
            machine: describe(project, &image, &snapshot, LockedMachine::default()),
            prepared: Prepared { image, snapshot, hold },
            setup_directories: Vec::new(),
            lacking: Vec::new(),
            made: Vec::new(),
        });
    }
    let bench = Bench::new(context, project, store, image, wishes.engine)?;
    let mut builder = Builder::new(&bench, locked, wishes);
    builder.check_needs(&steps)?;
    steps.iter().try_for_each(|step| builder.take(step))?;
    let Builder { layers, used, setup_directories, lacking, made, worked, .. } = builder;
    if worked {
        sweep(context);
    }
    let snapshot = images::snapshot_of(context, &bench.store, &layers, &project.name())?;
    Ok(Provisioned {
        machine: describe(project, &bench.image, &snapshot, used),
        prepared: Prepared { image: bench.image, snapshot, hold },
        setup_directories,
        lacking,
        made,
    })
}

/// The image: the one that is locked, unless the manifest names another or it is to be moved; and what of the lock still
/// holds, which is nothing if the image is another.
fn image(
    context: &Context,
    store: &Store,
    project: &Project,
    locked: LockedMachine,
    wishes: &Wishes,
) -> Result<(Image, LockedMachine)> {
    let platform = Platform::host().to_string();
    let pinned = locked
        .image
        .as_ref()
        .filter(|image| image.reference == project.image() && image.platform == platform)
        .and_then(|image| image.digest.parse::<Digest>().ok());
    let image = if wishes.update.includes(IMAGE) {
        images::pull(context, store, &project.source()?, &Platform::host())?
    } else {
        images::find(context, store, project, pinned.as_ref())?
    };
    let same = pinned.is_some_and(|pinned| pinned == image.manifest_digest);
    Ok((image, if same { locked } else { LockedMachine::default() }))
}

/// What a lock says of a machine.
fn describe(project: &Project, image: &Image, snapshot: &Snapshot, mut used: LockedMachine) -> LockedMachine {
    used.image = Some(LockedImage {
        reference: project.image(),
        platform: image.platform.to_string(),
        digest: image.manifest_digest.to_string(),
    });
    used.kernel = Some(artifacts::KERNEL_KEY.to_owned());
    used.guest = Some(artifacts::GUEST_KEY.to_owned());
    used.agents.sort_unstable();
    used.requests.sort_unstable();
    used.pins.sort_unstable();
    used.snapshots = vec![LockedSnapshot { inputs: used.key(), digest: snapshot.content.clone() }];
    used
}
