//! Snapshots that are shared: what packages, agents and setup commands made on top of an image, in a registry.
//!
//! ```text
//!   lock ─inputs─▶ tag `lock-<inputs>` ─▶ manifest ─▶ configuration: the steps, with the layer of each
//!                                            └──────▶ the layers, as those of images are, compressed with zstd
//! ```
//!
//! It is an artifact as the OCI image specification 1.1 has it ("Guidelines for Artifact Usage"), which any registry keeps. The
//! image's own layers are not in it: whoever wants the snapshot has the image, or pulls it from where it is.
//!
//! A registry is not trusted. Whoever pulls knows the digest of the snapshot beforehand, from `sandbox.lock`; it is over the
//! digests of all layers, so that it is known before the first layer is asked for whether these are the right ones, and each
//! layer is hashed as it arrives.

mod artifact;
mod pull;
mod push;

use oci_distribution::Reference;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{Digest, is_hexadecimal};
use crate::layer::{StoredError, WriteTarError};
use crate::manifest::ManifestError;
use crate::pull::PullError;
use crate::registry::RegistryError;
use crate::store::{StoreError, snapshot_content};

pub use pull::pull;
pub use push::{Pushed, push};

/// A snapshot that is shared, without the layers themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSnapshot {
    /// Hash over all inputs, in lower-case hexadecimal digits: what it is found by.
    pub inputs: String,
    /// Digest of the image's manifest.
    pub image: Digest,
    /// What was put on top of the image, lowest first.
    pub steps: Vec<SharedStep>,
}

impl SharedSnapshot {
    /// The digest of the snapshot, over the layers `below`, which are the image's, and those of the steps.
    pub fn content(&self, below: &[Digest]) -> String {
        let steps = self.steps.iter().map(|step| &step.layer);
        snapshot_content(&below.iter().chain(steps).cloned().collect::<Vec<_>>())
    }
}

/// What one step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedStep {
    /// The key of the step, as in [`Store::step`](crate::Store::step).
    pub key: String,
    /// Digest of the layer's tar.
    pub layer: Digest,
    /// Directories that it made in the workspace, relative to it.
    #[serde(default)]
    pub setup_directories: Vec<String>,
}

/// The snapshot that is wanted from a registry.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Hash over all inputs.
    pub inputs: &'a str,
    /// Digest of the snapshot, as [`content`](crate::store::snapshot_content) computes it: nothing else is taken.
    pub content: &'a str,
    /// The image's layers, lowest first.
    pub below: &'a [Digest],
    /// Name of the directory in the image's root that is the workspace of setup commands.
    pub workspace: &'a str,
}

/// Why a snapshot was not pushed or pulled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The hash of the inputs is none.
    #[error("`{inputs}` is not the hash of a lock")]
    Inputs {
        /// What was given.
        inputs: String,
    },
    /// The registry did not do it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What is there has another form.
    #[error("what is there is not a snapshot that this version of sbx can use: {reason}")]
    Format {
        /// What is wrong.
        reason: String,
    },
    /// Its manifest or configuration cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What is there is not what the lock says.
    #[error("the snapshot there is {actual}, and not {wanted} as it should be")]
    OtherSnapshot {
        /// What was wanted.
        wanted: String,
        /// What its layers come to.
        actual: String,
    },
    /// A layer could not be had.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A layer is damaged.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// A layer could not be packed.
    #[error("cannot pack layer {layer}")]
    Pack {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: WriteTarError,
    },
    /// A file to be pushed could not be written.
    #[error("cannot write what is to be pushed")]
    Write {
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Most characters of a hash of inputs.
const INPUTS_DIGITS_MAX: usize = 96;

/// The name under which the snapshot of these inputs is in a repository.
fn tagged(repository: &Reference, inputs: &str) -> Result<Reference, ShareError> {
    if inputs.len() > INPUTS_DIGITS_MAX || !is_hexadecimal(inputs) {
        return Err(ShareError::Inputs { inputs: inputs.escape_default().take(INPUTS_DIGITS_MAX).collect() });
    }
    Ok(Reference::with_tag(
        repository.registry().to_owned(),
        repository.repository().to_owned(),
        format!("lock-{inputs}"),
    ))
}
