//! The store: everything about images that is kept on disk, shared by all sandboxes of a user.
//!
//! ```text
//! $SBX_HOME/
//!   blobs/v1/sha256/<hex>            manifests and configurations
//!   blobs/v1/sha256/<hex>.partial    a layer's blob while it is fetched, so that a killed pull can go on
//!   layers/v1/sha256/<hex>/          one layer, named by the digest of its uncompressed tar
//!       data  tree  layer.json       contents, metadata, and where they came from
//!   snapshots/v1/<key>/              one bootable file system: rootfs.erofs, manifest.json, snapshot.json
//!   steps/v1/<key>.json              which layer a step of provisioning made
//!   images/v1/<key>.json             which manifest a reference and platform mean
//!   locks/                           files that are only there to be locked
//!   */v1/.staging/<random>/          what a process is making, locked while it lives
//! ```
//!
//! Rules that hold at every moment, also when a process is killed or the disk is full:
//! - Anything outside of `.staging` and `.partial` is complete. It is made in `.staging` and renamed into place.
//! - A name that contains a digest or key is never written twice with different contents.
//! - Who adds something holds the store lock shared until it is referenced; who deletes holds it exclusively.
//! - The bucket's version changes with its format; [`Store::prune`] deletes buckets of other versions.
//!
//! Locks are taken in this order: store, then one step, then one layer or one snapshot.

mod images;
mod layers;
mod lock;
mod programs;
mod prune;
mod snapshots;
mod staging;
mod steps;
mod usage;
mod verify;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;

pub(crate) use images::ImageRecord;
pub use images::StoredImage;
pub use layers::{AddError, AddedLayer};
pub use lock::Lock;
pub use prune::{PruneOptions, Pruned};
pub use snapshots::{Snapshot, SnapshotExtent, SnapshotFault, content as snapshot_content};
pub(crate) use staging::{Staging, remove};
pub use steps::StepRecord;
pub use usage::{BucketUsage, Usage};
pub use verify::{Damage, Verified};

/// Name of the directory in which objects are made.
const STAGING: &str = ".staging";

/// Ending of the name of a blob that has not arrived completely.
const PARTIAL: &str = "partial";

/// The store of images, layers and snapshots under one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    home: Arc<Path>,
}

/// The kinds of objects in the store; each has a directory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Manifests, configurations, and layers on their way.
    Blobs,
    /// Unpacked layers.
    Layers,
    /// Bootable file systems.
    Snapshots,
    /// What steps of provisioning made.
    Steps,
    /// References.
    Images,
}

/// Why the store could not do something.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No room left, or the user's quota is used up.
    #[error("the file system of {} is full; make room there, for example with `sbx prune`", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the store is not what it was when it was stored.
    #[error("{} is damaged: {reason}; `sbx image verify` lists what else is, `sbx image pull` fetches it again", path.display())]
    Damaged {
        /// The object.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An image was asked for by name that is not stored.
    #[error("there is no image `{reference}` in the store; `sbx image ls` lists what there is")]
    NoSuchImage {
        /// What was asked for.
        reference: String,
    },
    /// What should name a step does not.
    #[error("`{key}` is no key of a step")]
    StepKey {
        /// The text.
        key: String,
    },
}

/// What `layer.json` says about the layer beside it; `tree` itself knows what it and `data` must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Length of that tar in bytes.
    pub(crate) uncompressed_bytes: u64,
}

impl Bucket {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Images, Self::Blobs, Self::Layers, Self::Snapshots, Self::Steps];

    /// The directory's name under the store's home.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Layers => "layers",
            Self::Snapshots => "snapshots",
            Self::Steps => "steps",
            Self::Images => "images",
        }
    }

    /// The format that this program reads and writes; others are left alone until they are pruned.
    pub(crate) fn version(self) -> &'static str {
        "v1"
    }
}

impl Store {
    /// Opens the store under `home`, making its directories when they are missing.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Full`] when a directory cannot be made.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        let home = std::path::absolute(home).map_err(failed("find", home))?;
        let store = Self { home: home.into() };
        for bucket in Bucket::ALL {
            create_directory(&store.bucket(bucket).join(STAGING))?;
        }
        create_directory(&store.home.join("locks"))?;
        Ok(store)
    }

    /// The directory that everything is under.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The directory of the current version of `bucket`.
    pub(crate) fn bucket(&self, bucket: Bucket) -> PathBuf {
        self.home.join(bucket.name()).join(bucket.version())
    }

    /// Where the blob `digest` is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.bucket(Bucket::Blobs).join(digest.algorithm().name()).join(digest.hex())
    }

    /// Where the arriving blob `digest` is kept.
    pub(crate) fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.blob_path(digest).with_extension(PARTIAL)
    }

    /// Where the layer `diff_id` is, or would be.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.bucket(Bucket::Layers).join(diff_id.algorithm().name()).join(diff_id.hex())
    }

    /// True when the layer is stored. It is complete then.
    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).join("layer.json").exists()
    }

    /// Stores a manifest or configuration, unless it is there and undamaged.
    pub(crate) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self.blob(digest, limit) {
            Ok(Some(_)) => Ok(()),
            _ => self.put_file(Bucket::Blobs, &self.blob_path(digest), bytes),
        }
    }

    /// Reads a manifest or configuration, checking that it is still what its name says.
    pub(crate) fn blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_path(digest);
        let Some(bytes) = read_bounded(&path, limit)? else { return Ok(None) };
        if digest.of_same_kind(&bytes) != *digest {
            return Err(StoreError::Damaged {
                path,
                reason: "its contents do not have this digest".to_owned(),
            });
        }
        Ok(Some(bytes))
    }

    /// Writes a small file under a temporary name and renames it to `path`, replacing what was there.
    pub(crate) fn put_file(&self, bucket: Bucket, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let staging = Staging::new(self, bucket)?;
        let temporary = staging.path().join("file");
        write_synced(&temporary, bytes)?;
        if let Some(parent) = path.parent() {
            create_directory(parent)?;
        }
        fs::rename(&temporary, path).map_err(failed("write", path))?;
        sync_parent(path)
    }

    /// Reads what is known about a stored layer.
    pub(crate) fn layer_record(&self, diff_id: &Digest) -> Result<LayerRecord, StoreError> {
        let path = self.layer_path(diff_id).join("layer.json");
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged { path, reason: error.to_string() })
    }
}

/// Makes the error for `action` on `path`; a full file system gets its own kind, whose message says what to do.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path, source },
        _ => StoreError::Io { action, path, source },
    }
}

pub(crate) fn create_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// Waits until the name `path` is on the disk.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed("sync", parent))
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            reason: format!("it is longer than {limit} bytes"),
        });
    }
    Ok(Some(bytes))
}

/// The entries of a directory, none when it is missing.
pub(crate) fn entries(path: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    let listing = match fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", path)(error)),
    };
    listing.collect::<Result<_, _>>().map_err(failed("list", path))
}
