//! Deleting what nothing needs any more.
//!
//! ```text
//!   reference ──→ manifest ──→ configuration, layers      kept while the reference is
//!   sandbox ────→ snapshot ──→ layers                      kept while the sandbox is
//!   step ───────→ layer                                    kept while a sandbox is that stands on it, and, unless all is
//!                                                          to go, while the image is that it was made on
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::staging::remove;
use super::{Bucket, PARTIAL, StepRecord, Store, StoreError, entries, snapshots, usage};
use crate::digest::Digest;
use crate::manifest::Image;

/// What to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Keys of the snapshots that sandboxes use, running or not. They and their layers are kept.
    pub in_use: Vec<String>,
    /// Also forget images with a tag that no sandbox uses. Without it only images that are pinned by digest are
    /// forgotten when no sandbox uses them, since nobody can name them but a lock file.
    pub all: bool,
}

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// References that were forgotten.
    pub images: Vec<String>,
    /// Layers.
    pub layers: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Steps of provisioning that were forgotten.
    pub steps: usize,
    /// Manifests, configurations, and parts of layers that were never completed.
    pub blobs: usize,
    /// Bytes on disk that are free now.
    pub freed_bytes: u64,
}

/// What stays.
#[derive(Debug, Default)]
struct Kept {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
    snapshots: BTreeSet<String>,
}

impl Store {
    /// Deletes what neither an image nor a sandbox needs. Waits for pulls that are under way.
    ///
    /// # Errors
    /// When the store cannot be read or something cannot be deleted.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned, StoreError> {
        let _lock = self.lock_exclusive()?;
        let mut pruned = Pruned { freed_bytes: self.sweep()?, ..Pruned::default() };
        let kept = self.kept(options, &mut pruned)?;
        for key in snapshots::keys(self)? {
            if !kept.snapshots.contains(&key) {
                delete(&self.snapshot_path(&key), &mut pruned)?;
                pruned.snapshots += 1;
            }
        }
        self.each_digest(Bucket::Layers, |path, digest| {
            if digest.is_none_or(|digest| !kept.layers.contains(&digest)) {
                delete(path, &mut pruned)?;
                pruned.layers += 1;
            }
            Ok(())
        })?;
        self.each_digest(Bucket::Blobs, |path, digest| {
            let partial = path.extension().is_some_and(|extension| extension == PARTIAL);
            if partial || digest.is_none_or(|digest| !kept.blobs.contains(&digest)) {
                delete(path, &mut pruned)?;
                pruned.blobs += 1;
            }
            Ok(())
        })?;
        self.delete_other_versions(&mut pruned)?;
        self.delete_lock_files()?;
        pruned.images.sort();
        Ok(pruned)
    }

    /// Decides what stays, forgetting images that do not.
    fn kept(&self, options: &PruneOptions, pruned: &mut Pruned) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let mut used: BTreeSet<Vec<Digest>> = BTreeSet::new();
        for key in &options.in_use {
            if let Some(record) = self.snapshot_record(key).ok().flatten() {
                kept.layers.extend(record.layers.iter().cloned());
                used.insert(record.layers);
            }
            kept.snapshots.insert(key.clone());
        }
        let mut stacks = BTreeSet::new();
        for (path, record) in self.image_records()? {
            let image = self.load(&record.reference, &record.manifest, &record.platform);
            let layers = image.as_ref().map(stack).unwrap_or_default();
            // A snapshot with packages on top of an image begins with the image's layers.
            let is_used = used.iter().any(|stack| !layers.is_empty() && stack.starts_with(&layers));
            let is_pinned = record.reference.contains('@');
            if !is_used && (options.all || is_pinned) {
                remove(&path)?;
                pruned.images.push(record.reference);
                continue;
            }
            kept.layers.extend(layers.iter().cloned());
            kept.blobs.extend(record.index);
            kept.blobs.extend(self.config_digest(&record.manifest));
            kept.blobs.insert(record.manifest);
            stacks.insert(layers);
        }
        stacks.extend(self.forget_steps(options, &used, &stacks, &mut kept, pruned)?);
        for key in snapshots::keys(self)? {
            if self.snapshot_record(&key).ok().flatten().is_some_and(|record| stacks.contains(&record.layers))
            {
                kept.snapshots.insert(key);
            }
        }
        Ok(kept)
    }

    /// Forgets steps that nobody needs; gives the layers of the others with what they stand on.
    fn forget_steps(
        &self,
        options: &PruneOptions,
        used: &BTreeSet<Vec<Digest>>,
        images: &BTreeSet<Vec<Digest>>,
        kept: &mut Kept,
        pruned: &mut Pruned,
    ) -> Result<BTreeSet<Vec<Digest>>, StoreError> {
        let mut stacks = BTreeSet::new();
        for (path, record) in self.step_records()? {
            let stack = record.as_ref().map(StepRecord::stack).unwrap_or_default();
            let is_used = used.iter().any(|used| used.starts_with(&stack));
            let has_image = images.iter().any(|image| !image.is_empty() && stack.starts_with(image));
            let is_kept = record.is_some() && (is_used || (has_image && !options.all));
            if !is_kept {
                delete(&path, pruned)?;
                pruned.steps += 1;
                continue;
            }
            kept.layers.extend(stack.iter().cloned());
            stacks.insert(stack);
        }
        Ok(stacks)
    }

    fn config_digest(&self, manifest: &Digest) -> Option<Digest> {
        use crate::manifest::{MAX_MANIFEST_BYTES, Manifest, config_blob};
        let bytes = self.blob(manifest, MAX_MANIFEST_BYTES).ok()??;
        match Manifest::parse(&bytes).ok()? {
            Manifest::Image(image) => Some(config_blob(&image).ok()?.digest),
            Manifest::Index(_) => None,
        }
    }

    /// Calls `visit` for everything in a bucket whose objects are named by digest; other names have none.
    pub(super) fn each_digest(
        &self,
        bucket: Bucket,
        mut visit: impl FnMut(&Path, Option<Digest>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for algorithm in entries(&self.bucket(bucket))? {
            let Ok(name) = algorithm.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            for entry in entries(&algorithm.path())? {
                let digest = entry.file_name().to_str().and_then(|hex| format!("{name}:{hex}").parse().ok());
                visit(&entry.path(), digest)?;
            }
        }
        Ok(())
    }

    fn delete_other_versions(&self, pruned: &mut Pruned) -> Result<(), StoreError> {
        for bucket in Bucket::ALL {
            for entry in entries(&self.home().join(bucket.name()))? {
                if entry.file_name() != bucket.version() {
                    delete(&entry.path(), pruned)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody holds the lock of a step, layer or snapshot without the store's, which we hold.
    fn delete_lock_files(&self) -> Result<(), StoreError> {
        for entry in entries(&self.home().join("locks"))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if ["step-", "layer-", "snapshot-"].iter().any(|kind| name.starts_with(kind)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn stack(image: &Image) -> Vec<Digest> {
    image.layers.iter().map(|layer| layer.diff_id.clone()).collect()
}

fn delete(path: &Path, pruned: &mut Pruned) -> Result<(), StoreError> {
    let bytes = usage::disk_bytes(path)?;
    remove(path)?;
    pruned.freed_bytes = pruned.freed_bytes.saturating_add(bytes);
    Ok(())
}
