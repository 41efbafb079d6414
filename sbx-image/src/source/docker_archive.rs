//! What `docker save` and `podman save` write: a tar with `manifest.json`, a configuration and layers.
//!
//! There is no image manifest in it, so one is made from the configuration: the same image always gets the same one.

use std::collections::BTreeMap;

use oci_distribution::Reference;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::layout::LayoutError;
use crate::digest::Digest;
use crate::manifest::{MAX_CONFIG_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, ManifestError};

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image in the archive.
#[derive(Debug)]
pub(crate) struct DockerImage {
    /// The manifest that we made.
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    /// Names of the layers' files, by the digest of their uncompressed tars.
    pub(super) layers: BTreeMap<Digest, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeManifest {
    schema_version: u8,
    media_type: &'static str,
    config: MadeDescriptor,
    layers: Vec<MadeDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeDescriptor {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

/// Finds the image called `name`, or the only one.
pub(super) fn find(files: &Files, name: Option<&str>) -> Result<DockerImage, LayoutError> {
    let json = |what, source| LayoutError::Manifest(ManifestError::Json { what, source });
    let bytes = files.read("manifest.json", MAX_MANIFEST_BYTES)?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|source| json("manifest.json", source))?;
    let entry = choose(&entries, name, &files.container().display().to_string())?;
    let config = files.read(&entry.config, MAX_CONFIG_BYTES)?;
    let parsed: ImageConfiguration =
        serde_json::from_slice(&config).map_err(|source| json("image configuration", source))?;
    let diff_ids = parsed.rootfs().diff_ids();
    if entry.layers.len() > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers { count: entry.layers.len() }.into());
    }
    if diff_ids.len() != entry.layers.len() {
        let fault = ManifestError::LayerCount { layers: entry.layers.len(), diff_ids: diff_ids.len() };
        return Err(fault.into());
    }
    let mut layers = BTreeMap::new();
    let mut descriptors = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
        let diff_id: Digest = diff_id.parse().map_err(ManifestError::from)?;
        let (_, size) = files.open(name)?;
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        descriptors.push(MadeDescriptor { media_type, digest: diff_id.clone(), size });
        layers.insert(diff_id, name.clone());
    }
    let manifest = MadeManifest {
        schema_version: 2,
        media_type: "application/vnd.oci.image.manifest.v1+json",
        config: MadeDescriptor {
            media_type: "application/vnd.oci.image.config.v1+json",
            digest: Digest::sha256(&config),
            size: u64::try_from(config.len()).unwrap_or(u64::MAX),
        },
        layers: descriptors,
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|source| json("image manifest", source))?;
    Ok(DockerImage { manifest, config, layers })
}

fn choose<'a>(entries: &'a [Entry], name: Option<&str>, container: &str) -> Result<&'a Entry, LayoutError> {
    let names = || {
        let all: Vec<&str> =
            entries.iter().flat_map(|entry| entry.repo_tags.iter().flatten()).map(String::as_str).collect();
        all.join(", ")
    };
    let called = |entry: &&Entry, wanted: &str| {
        entry
            .repo_tags
            .iter()
            .flatten()
            .any(|tag| tag == wanted || completed(tag).is_some_and(|tag| Some(tag) == completed(wanted)))
    };
    match (name, entries) {
        (Some(wanted), _) => {
            entries.iter().find(|entry| called(entry, wanted)).ok_or_else(|| LayoutError::NoSuchImage {
                container: container.to_owned(),
                wanted: wanted.to_owned(),
                offered: names(),
            })
        }
        (None, [only]) => Ok(only),
        (None, _) => Err(LayoutError::Several { container: container.to_owned(), offered: names() }),
    }
}

/// The name with registry and tag, which tools write or leave out as they like.
fn completed(name: &str) -> Option<String> {
    name.parse::<Reference>().ok().map(|reference| reference.whole())
}
