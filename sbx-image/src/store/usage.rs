//! How much room things take.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;

use super::{Bucket, Store, StoreError, entries, failed};
use crate::digest::Digest;

/// Unit of `st_blocks`, whatever the file system's block size (`stat(2)`).
const STAT_BLOCK_BYTES: u64 = 512;

/// What the store takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Each kind of object, in the order in which they are shown.
    pub buckets: Vec<BucketUsage>,
    /// Bytes of layers that more than one image uses, counted once.
    pub shared_layer_bytes: u64,
    /// Bytes of layers that neither an image uses nor a step has made.
    pub unused_layer_bytes: u64,
    /// All of it in bytes.
    pub total_bytes: u64,
}

/// What one kind of object takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketUsage {
    /// Its directory's name.
    pub bucket: &'static str,
    /// Number of objects.
    pub objects: usize,
    /// Bytes on disk, those of unfinished objects included.
    pub bytes: u64,
}

impl Store {
    /// Adds up what the store takes on disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut buckets = Vec::new();
        for bucket in Bucket::ALL {
            let bytes = disk_bytes(&self.home().join(bucket.name()))?;
            let mut objects = 0;
            match bucket {
                Bucket::Blobs | Bucket::Layers => self.each_digest(bucket, |_, _| {
                    objects += 1;
                    Ok(())
                })?,
                Bucket::Snapshots => objects = super::snapshots::keys(self)?.len(),
                Bucket::Steps => objects = self.step_records()?.len(),
                Bucket::Images => objects = self.image_records()?.len(),
            }
            buckets.push(BucketUsage { bucket: bucket.name(), objects, bytes });
        }
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut manifests: Vec<_> = self.image_records()?.into_iter().map(|(_, record)| record).collect();
        manifests.sort_by(|a, b| a.manifest.cmp(&b.manifest));
        manifests.dedup_by(|a, b| a.manifest == b.manifest);
        for record in manifests {
            if let Some(image) = self.load(&record.reference, &record.manifest, &record.platform) {
                for layer in image.layers {
                    *users.entry(layer.diff_id).or_default() += 1;
                }
            }
        }
        for (_, record) in self.step_records()? {
            if let Some(record) = record {
                users.entry(record.layer).or_insert(1);
            }
        }
        let (mut shared, mut unused) = (0_u64, 0_u64);
        self.each_digest(Bucket::Layers, |path, digest| {
            match digest.and_then(|digest| users.get(&digest)).copied().unwrap_or(0) {
                0 => unused = unused.saturating_add(disk_bytes(path)?),
                1 => {}
                _ => shared = shared.saturating_add(disk_bytes(path)?),
            }
            Ok(())
        })?;
        let total_bytes = buckets.iter().fold(0, |sum: u64, bucket| sum.saturating_add(bucket.bytes));
        Ok(Usage { buckets, shared_layer_bytes: shared, unused_layer_bytes: unused, total_bytes })
    }
}

/// Bytes on disk of a file, or of a directory and all in it. What vanishes meanwhile counts as nothing.
pub(super) fn disk_bytes(path: &Path) -> Result<u64, StoreError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut bytes = metadata.blocks().saturating_mul(STAT_BLOCK_BYTES);
    if metadata.is_dir() {
        for entry in entries(path)? {
            bytes = bytes.saturating_add(disk_bytes(&entry.path())?);
        }
    }
    Ok(bytes)
}
