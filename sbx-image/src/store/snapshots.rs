//! Snapshots: the bootable file systems that are built from stored layers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::staging::remove;
use super::{Bucket, Staging, Store, StoreError, failed, read_bounded, write_synced};
use crate::digest::{Digest, DigestError};
use crate::manifest::Image;
use crate::snapshot::{self, BuildError, MANIFEST_FILE, ROOTFS_FILE, SnapshotSummary};

/// Goes into every key: a change of what snapshots look like must not meet old ones.
const FORMAT: &str = "sbx-snapshot-1";

/// Largest `snapshot.json` in bytes: one line for each of at most 512 layers, and room.
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// A bootable root file system: one virtual disk, put together from parts of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Name in the store.
    pub key: String,
    /// Digest of `rootfs.erofs`. The same layers give the same digest on every machine.
    pub digest: Digest,
    /// What is in it, whatever our file format: `blake3:` and the hash of the digests of its layers. A lock file says it.
    pub content: String,
    /// The disk from its first byte to its last.
    pub extents: Vec<SnapshotExtent>,
    /// True when it was there already.
    pub reused: bool,
    /// Bytes on disk that only this snapshot needs.
    pub new_bytes: u64,
    /// Bytes on disk in layers, which others may use too.
    pub shared_bytes: u64,
}

/// A part of a file that is a part of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotExtent {
    /// The file.
    pub file: PathBuf,
    /// Where the part begins in it, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Why there is no snapshot of an image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotFault {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer was deleted after the image was found.
    #[error("layer {layer} is not in the store; `sbx image pull` fetches it if it is the image's")]
    MissingLayer {
        /// Its uncompressed digest.
        layer: Digest,
    },
    /// What was built has a digest that is none.
    #[error("the file system of the image has a malformed digest")]
    Digest {
        /// What is wrong with it.
        source: DigestError,
    },
    /// The layers do not make a file system.
    #[error("cannot build the file system of the image")]
    Build(#[from] BuildError),
}

/// The contents of `snapshot.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    /// Lowest layer first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) digest: Digest,
    pub(crate) extents: Vec<ExtentRecord>,
}

/// A part of the disk, by what it is and not where: the store may be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtentRecord {
    /// Index into `layers`; none for `rootfs.erofs`.
    pub(crate) layer: Option<usize>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Store {
    /// The snapshot of `image`; built if it is not there.
    ///
    /// # Errors
    /// When a layer is missing, when the layers do not make a file system, or when the disk is full.
    pub fn snapshot(&self, image: &Image) -> Result<Snapshot, SnapshotFault> {
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        self.snapshot_of(&layers)
    }

    /// The snapshot of `layers`, lowest first; built if it is not there.
    ///
    /// # Errors
    /// When a layer is missing, when the layers do not make a file system, or when the disk is full.
    pub fn snapshot_of(&self, layers: &[Digest]) -> Result<Snapshot, SnapshotFault> {
        let key = key(layers);
        if let Ok(Some(record)) = self.snapshot_record(&key) {
            return Ok(self.describe_snapshot(&key, &record, true));
        }
        let _store = self.lock_shared()?;
        let _lock = self.lock_snapshot(&key)?;
        if let Ok(Some(record)) = self.snapshot_record(&key) {
            return Ok(self.describe_snapshot(&key, &record, true));
        }
        // What is there without a readable record is damaged, and would stand in the way.
        remove(&self.snapshot_path(&key))?;
        self.sweep()?;
        if let Some(layer) = layers.iter().find(|layer| !self.has_layer(layer)) {
            return Err(SnapshotFault::MissingLayer { layer: layer.clone() });
        }
        let staging = Staging::new(self, Bucket::Snapshots)?;
        let paths: Vec<PathBuf> = layers.iter().map(|layer| self.layer_path(layer)).collect();
        let summary = snapshot::build(&paths, staging.path())?;
        let record = SnapshotRecord::new(layers.to_vec(), &summary)?;
        for name in [ROOTFS_FILE, MANIFEST_FILE] {
            let path = staging.path().join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
        }
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        write_synced(&staging.path().join("snapshot.json"), &text)?;
        staging.commit(&self.snapshot_path(&key))?;
        Ok(self.describe_snapshot(&key, &record, false))
    }

    /// Where the snapshot `key` is, or would be.
    pub(crate) fn snapshot_path(&self, key: &str) -> PathBuf {
        self.bucket(Bucket::Snapshots).join(key)
    }

    /// What is known about a stored snapshot.
    pub(crate) fn snapshot_record(&self, key: &str) -> Result<Option<SnapshotRecord>, StoreError> {
        let path = self.snapshot_path(key).join("snapshot.json");
        let Some(bytes) = read_bounded(&path, MAX_RECORD_BYTES)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StoreError::Damaged { path, reason: error.to_string() })
    }

    fn describe_snapshot(&self, key: &str, record: &SnapshotRecord, reused: bool) -> Snapshot {
        let directory = self.snapshot_path(key);
        let extents: Vec<SnapshotExtent> = record
            .extents
            .iter()
            .map(|extent| SnapshotExtent {
                file: match extent.layer.and_then(|index| record.layers.get(index)) {
                    Some(layer) => self.layer_path(layer).join("data"),
                    None => directory.join(ROOTFS_FILE),
                },
                offset: extent.offset,
                length: extent.length,
            })
            .collect();
        let length_of = |shared: bool| {
            record
                .extents
                .iter()
                .filter(|extent| extent.layer.is_some() == shared)
                .fold(0_u64, |sum, extent| sum.saturating_add(extent.length))
        };
        Snapshot {
            key: key.to_owned(),
            digest: record.digest.clone(),
            content: content(&record.layers),
            new_bytes: if reused { 0 } else { length_of(false) },
            shared_bytes: length_of(true),
            extents,
            reused,
        }
    }
}

impl SnapshotRecord {
    fn new(layers: Vec<Digest>, summary: &SnapshotSummary) -> Result<Self, SnapshotFault> {
        let mut extents = Vec::with_capacity(summary.extents.len());
        for extent in &summary.extents {
            // A layer that occurs twice has one directory, so the first place is as good as the other.
            let layer = match &extent.layer {
                Some(name) => layers.iter().position(|layer| layer.hex() == name),
                None => None,
            };
            extents.push(ExtentRecord { layer, offset: extent.offset, length: extent.length });
        }
        let digest = summary.digest.parse().map_err(|source| SnapshotFault::Digest { source })?;
        Ok(Self { layers, digest, extents })
    }
}

/// The name of the snapshot of `layers`: it depends on nothing else.
fn key(layers: &[Digest]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT.as_bytes());
    for layer in layers {
        hasher.update(b"\n");
        hasher.update(layer.to_string().as_bytes());
    }
    let hex = hasher.finalize().to_hex();
    hex.get(..40).unwrap_or(&hex).to_owned()
}

/// What a snapshot of `layers` has in it, whatever the file format.
pub fn content(layers: &[Digest]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("sbx 2026-11 content of a snapshot");
    for layer in layers {
        hasher.update(layer.to_string().as_bytes());
        hasher.update(b"\n");
    }
    format!("blake3:{}", hasher.finalize().to_hex())
}

/// Hashes what a snapshot's digest is of.
pub(crate) fn digest_of(directory: &Path, expected: &Digest) -> Result<Digest, StoreError> {
    let path = directory.join(ROOTFS_FILE);
    let mut file = File::open(&path).map_err(failed("read", &path))?;
    expected.of_reader(&mut file).map_err(failed("read", &path))
}

/// All snapshots in the store, by key.
pub(crate) fn keys(store: &Store) -> Result<Vec<String>, StoreError> {
    let listing = super::entries(&store.bucket(Bucket::Snapshots))?;
    Ok(listing
        .iter()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && fs::exists(store.snapshot_path(name)).unwrap_or(false))
        .collect())
}
