//! The artifact: its manifest and its configuration, written and read.
//!
//! ```text
//!   manifest        schemaVersion 2 · artifactType · config · layers, in the order of the steps (OCI image specification 1.1)
//!   configuration   { "version": 1, "inputs": "…", "image": "sha256:…", "steps": [ { "key": "…", "layer": "sha256:…",
//!                     "setup_directories": ["node_modules"] } ] }
//! ```
//! The same snapshot is always the same configuration.

use std::str::FromStr as _;

use oci_spec::image::{Descriptor, DescriptorBuilder, ImageManifestBuilder, MediaType};
use serde::{Deserialize, Serialize};

use super::{ShareError, SharedSnapshot};
use crate::digest::Digest;
use crate::manifest::{self, Blob, Layer, MAX_CONFIG_BYTES, MAX_LAYERS, Manifest, ManifestError};
use crate::normalisation::SETUP_DIRECTORIES_MAX;

/// Media type of the manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Type of the artifact and of its configuration: a registry shows it, and other tools refuse to run it as an image.
const SNAPSHOT_TYPE: &str = "application/vnd.sbx.snapshot.v1+json";

/// Media type of the layers.
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Configuration {
    version: u32,
    #[serde(flatten)]
    snapshot: SharedSnapshot,
}

/// What a configuration is parsed as first: others may have other members.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The configuration of a snapshot.
pub(super) fn configuration(snapshot: &SharedSnapshot) -> Vec<u8> {
    let configuration = Configuration { version: VERSION, snapshot: snapshot.clone() };
    serde_json::to_vec(&configuration).unwrap_or_default()
}

/// The manifest that holds a configuration and the layers of its steps together.
pub(super) fn manifest(config: &Blob, layers: &[Layer], image: &Digest) -> Result<Vec<u8>, ShareError> {
    let layers = layers.iter().map(|layer| descriptor(LAYER_TYPE, &layer.blob_digest, layer.size));
    let base = ("org.opencontainers.image.base.digest".to_owned(), image.to_string());
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::Other(SNAPSHOT_TYPE.to_owned()))
        .config(descriptor(SNAPSHOT_TYPE, &config.digest, config.size)?)
        .layers(layers.collect::<Result<Vec<_>, _>>()?)
        .annotations([base])
        .build()
        .map_err(format)?;
    Ok(serde_json::to_vec(&manifest).unwrap_or_default())
}

/// The configuration that a manifest names, and its layers as blobs.
pub(super) fn parse_manifest(bytes: &[u8]) -> Result<(Blob, Vec<Blob>), ShareError> {
    let Manifest::Image(manifest) = Manifest::parse(bytes)? else {
        return Err(ShareError::Format { reason: "it is an index of several".to_owned() });
    };
    let media_type = manifest.config().media_type().to_string();
    if media_type != SNAPSHOT_TYPE {
        return Err(ShareError::Format { reason: format!("its type is {}", shown(&media_type)) });
    }
    let count = manifest.layers().len();
    if count > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers { count }.into());
    }
    let config = Blob::of(manifest.config(), "configuration", MAX_CONFIG_BYTES)?;
    let layers = manifest.layers().iter().map(|layer| Blob::of(layer, "layer", u64::MAX));
    Ok((config, layers.collect::<Result<_, _>>()?))
}

/// The snapshot that a configuration describes, and its layers, whose blobs are `blobs`.
pub(super) fn parse_configuration(
    bytes: &[u8],
    blobs: Vec<Blob>,
) -> Result<(SharedSnapshot, Vec<Layer>), ShareError> {
    let Version { version } = manifest::json("configuration", bytes)?;
    if version != VERSION {
        return Err(ShareError::Format { reason: format!("its version is {version}") });
    }
    let Configuration { snapshot, .. } = manifest::json("configuration", bytes)?;
    let steps = &snapshot.steps;
    if steps.len() != blobs.len() {
        let reason = format!("it has {} steps and {} layers", steps.len(), blobs.len());
        return Err(ShareError::Format { reason });
    }
    for directory in steps.iter().flat_map(|step| &step.setup_directories) {
        let is_inside = directory.split('/').all(|name| !matches!(name, "" | "." | ".."));
        if !is_inside || directory.contains(char::is_control) {
            let reason = format!("`{}` is no directory in a workspace", shown(directory));
            return Err(ShareError::Format { reason });
        }
    }
    if steps.iter().any(|step| step.setup_directories.len() > SETUP_DIRECTORIES_MAX) {
        let reason = format!("a step has more than {SETUP_DIRECTORIES_MAX} directories in the workspace");
        return Err(ShareError::Format { reason });
    }
    let layers = steps.iter().zip(blobs).map(|(step, blob)| Layer {
        diff_id: step.layer.clone(),
        blob_digest: blob.digest,
        size: blob.size,
    });
    let layers = layers.collect();
    Ok((snapshot, layers))
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Result<Descriptor, ShareError> {
    let digest = oci_spec::image::Digest::from_str(&digest.to_string()).map_err(format)?;
    let media_type = MediaType::from(media_type);
    DescriptorBuilder::default().media_type(media_type).digest(digest).size(size).build().map_err(format)
}

fn format(error: oci_spec::OciSpecError) -> ShareError {
    ShareError::Format { reason: error.to_string() }
}

/// What a stranger wrote, on a terminal.
fn shown(text: &str) -> String {
    text.escape_default().take(100).collect()
}
