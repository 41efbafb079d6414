//! OCI image layouts: a directory, or a tar of one, with `index.json` and `blobs/`.
//!
//! Format: OCI image specification, "Image Layout".

use oci_spec::image::{Descriptor, ImageIndex};
use thiserror::Error;

use super::Selector;
use super::files::{Files, FilesError};
use crate::digest::Digest;
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError};
use crate::platform::Platform;

/// The annotation that holds an image's tag in `index.json`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// Why an image cannot be found in a layout or archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A file is missing or unreadable.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// An index or manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no image of that name.
    #[error("{container} has no image `{wanted}`; it has: {offered}")]
    NoSuchImage {
        /// The directory or archive.
        container: String,
        /// What was asked for.
        wanted: String,
        /// What there is, comma-separated.
        offered: String,
    },
    /// Several images, and none was named.
    #[error("{container} has several images; add the name of one after a colon: {offered}")]
    Several {
        /// The directory or archive.
        container: String,
        /// What there is, comma-separated.
        offered: String,
    },
    /// A file is not what its name says.
    #[error("{name} in {container} is damaged: its contents have another digest")]
    WrongDigest {
        /// The directory or archive.
        container: String,
        /// The file.
        name: String,
    },
}

/// A manifest that was found: its digest and bytes.
pub(super) type Found = (Digest, Vec<u8>);

/// Finds the manifest or index that `selector` means; one for `platform` where that decides.
pub(super) fn find(
    files: &Files,
    selector: Option<&Selector>,
    platform: &Platform,
) -> Result<Found, LayoutError> {
    if let Some(Selector::Digest(digest)) = selector {
        return Ok((digest.clone(), read_blob(files, digest, MAX_MANIFEST_BYTES)?));
    }
    let container = files.container().display().to_string();
    let bytes = files.read("index.json", MAX_MANIFEST_BYTES)?;
    let Manifest::Index(index) = Manifest::parse(&bytes)? else {
        return Err(
            ManifestError::NotAnImage { media_type: "index.json without manifests".to_owned() }.into()
        );
    };
    let names = offered(&index);
    let entry = match selector {
        Some(Selector::Tag(tag)) => {
            let named = index.manifests().iter().find(|entry| is_called(entry, tag));
            named.ok_or_else(|| LayoutError::NoSuchImage {
                container: container.clone(),
                wanted: tag.clone(),
                offered: names.clone(),
            })?
        }
        _ => match index.manifests().as_slice() {
            [only] => only,
            // Without names, they are one image for several platforms.
            _ if names.is_empty() => {
                platform.choose(&index).ok_or(LayoutError::Several { container, offered: names })?
            }
            _ => return Err(LayoutError::Several { container, offered: names }),
        },
    };
    let digest: Digest = entry.digest().to_string().parse().map_err(ManifestError::from)?;
    let bytes = read_blob(files, &digest, MAX_MANIFEST_BYTES)?;
    Ok((digest, bytes))
}

/// Reads a blob and checks its digest.
pub(super) fn read_blob(files: &Files, digest: &Digest, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let name = blob_name(digest);
    let bytes = files.read(&name, limit)?;
    if digest.of_same_kind(&bytes) != *digest {
        return Err(LayoutError::WrongDigest { container: files.container().display().to_string(), name });
    }
    Ok(bytes)
}

/// Where a layout has a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// How many indexes may lead to an image.
pub(super) fn may_descend(depth: usize) -> bool {
    depth < MAX_DEPTH
}

fn name_of(entry: &Descriptor) -> Option<&String> {
    entry.annotations().as_ref()?.get(REF_NAME)
}

/// Docker writes whole references as names; the tag alone is enough then.
fn is_called(entry: &Descriptor, tag: &str) -> bool {
    name_of(entry)
        .is_some_and(|name| name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag))
}

fn offered(index: &ImageIndex) -> String {
    index.manifests().iter().filter_map(name_of).cloned().collect::<Vec<_>>().join(", ")
}
