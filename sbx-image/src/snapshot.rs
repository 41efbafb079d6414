//! Snapshots: the metadata of one image over the contents of its layers.
//!
//! ```text
//!     <key>/rootfs.erofs     metadata (`erofs`); a few MB, written anew for each image
//!     <key>/manifest.json    what the device consists of:
//!
//!     { "version": 1,
//!       "digest": "sha256:…",          of rootfs.erofs
//!       "inodes": 12783,
//!       "extents": [ { "layer": null,          "offset": 0, "length": 1806336 },      rootfs.erofs
//!                    { "layer": "<directory>", "offset": 0, "length": 283115520 } ] } a layer's data
//! ```
//!
//! Contents stay where the layers are, so images share them, and a new top layer costs its own size. The same layers
//! give the same bytes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::erofs::{self, Image, WriteError};
use crate::layer::stored::{self, LayerTree};
use crate::layer::{DATA_FILE, StoredError, TREE_FILE};
use crate::node::Node;
use crate::tree::Tree;

/// Name of the file with the metadata.
pub const ROOTFS_FILE: &str = "rootfs.erofs";
/// Name of the file that describes the device.
pub const MANIFEST_FILE: &str = "manifest.json";

const VERSION: u32 = 1;

/// Largest manifest that is read, in bytes: an image has at most a few hundred layers.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    version: u32,
    /// `sha256:` and the hash of `rootfs.erofs` in hexadecimal digits.
    pub digest: String,
    /// Files and directories, each once.
    pub inodes: u64,
    /// Parts of the device in their order, without gaps.
    pub extents: Vec<Extent>,
}

/// One part of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Name of the layer's directory whose `data` this is; none for `rootfs.erofs`.
    pub layer: Option<String>,
    /// Where in the file the part starts, in bytes.
    pub offset: u64,
    /// Its bytes, a multiple of 4096.
    pub length: u64,
}

/// What a built snapshot is.
pub type SnapshotSummary = SnapshotManifest;

/// Why a snapshot cannot be built or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A layer in the store is damaged.
    #[error(transparent)]
    Layer(#[from] StoredError),
    /// The layers do not fit into one file system.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file of the snapshot cannot be written or read.
    #[error("cannot access `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is not what this version of sbx writes.
    #[error("`{}` is no snapshot manifest of this version of sbx", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
    },
}

/// Builds the snapshot of `layers`, the directories of the layers, bottom first, in the existing directory `dir`.
/// Nothing is synced.
///
/// # Errors
/// When a layer is damaged, the layers are too large together, or the disk is full.
pub fn build(layers: &[PathBuf], dir: &Path) -> Result<SnapshotSummary, BuildError> {
    let bytes = layers.iter().map(|layer| stored::read(layer)).collect::<Result<Vec<_>, _>>()?;
    let trees =
        layers.iter().zip(&bytes).map(|(layer, bytes)| open(layer, bytes)).collect::<Result<Vec<_>, _>>()?;
    let empty_root = Node::implicit_directory();
    let tree = Tree::merge(&trees, &empty_root);
    let lengths: Vec<u64> = trees.iter().map(|tree| tree.data_bytes).collect();
    let image = erofs::write(&tree, &lengths)?;
    write_file(&dir.join(ROOTFS_FILE), &image.bytes)?;
    let manifest = manifest(&image, layers, &lengths);
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|source| BuildError::File { path: dir.join(MANIFEST_FILE), source: source.into() })?;
    write_file(&dir.join(MANIFEST_FILE), &text)?;
    Ok(manifest)
}

impl SnapshotManifest {
    /// Reads the manifest of the snapshot in `dir`.
    ///
    /// # Errors
    /// When it is missing, or another version of sbx wrote it.
    pub fn read(dir: &Path) -> Result<Self, BuildError> {
        let path = dir.join(MANIFEST_FILE);
        let read = || -> io::Result<Option<Vec<u8>>> {
            if std::fs::metadata(&path)?.len() > MANIFEST_BYTES_MAX {
                return Ok(None);
            }
            std::fs::read(&path).map(Some)
        };
        let bytes = read().map_err(|source| BuildError::File { path: path.clone(), source })?;
        let manifest = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        manifest.filter(|manifest| manifest.version == VERSION).ok_or(BuildError::Manifest { path })
    }

    /// Bytes of the metadata: what this image alone takes on the disk.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        let own = self.extents.iter().filter(|extent| extent.layer.is_none());
        own.map(|extent| extent.length).fold(0, u64::saturating_add)
    }
}

fn open<'a>(layer: &Path, bytes: &'a [u8]) -> Result<LayerTree<'a>, StoredError> {
    let tree = stored::decode(bytes, &layer.join(TREE_FILE))?;
    let path = layer.join(DATA_FILE);
    match std::fs::metadata(&path) {
        Ok(data) if data.len() == tree.data_bytes => Ok(tree),
        Ok(_) => Err(StoredError::Damaged { path, reason: "it has the wrong length" }),
        Err(source) => Err(StoredError::Read { path, source }),
    }
}

fn manifest(image: &Image, layers: &[PathBuf], lengths: &[u64]) -> SnapshotManifest {
    let metadata =
        Extent { layer: None, offset: 0, length: u64::try_from(image.bytes.len()).unwrap_or(u64::MAX) };
    let data = layers.iter().zip(lengths).filter(|(_, length)| **length > 0).map(|(layer, length)| Extent {
        layer: Some(layer.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()),
        offset: 0,
        length: *length,
    });
    let digest = Sha256::digest(&image.bytes);
    SnapshotManifest {
        version: VERSION,
        digest: digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        inodes: image.inodes,
        extents: std::iter::once(metadata).chain(data).collect(),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let write = || File::create_new(path)?.write_all(bytes);
    write().map_err(|source| BuildError::File { path: path.into(), source })
}
