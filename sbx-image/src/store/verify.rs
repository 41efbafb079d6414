//! Hashing again everything that is stored.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::staging::remove;
use super::{Bucket, PARTIAL, Store, StoreError, entries, failed, snapshots};
use crate::comparison::{self, Difference};
use crate::digest::Digest;
use crate::layer;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Objects that were looked at.
    pub objects: usize,
    /// Those that are damaged.
    pub damaged: Vec<Damage>,
}

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, in one line.
    pub reason: String,
    /// References of images that need it; they must be pulled again.
    pub images: Vec<String>,
}

impl Store {
    /// Where two stored layers differ.
    ///
    /// # Errors
    /// When one of them is missing or damaged.
    pub fn compare_layers(&self, first: &Digest, second: &Digest) -> Result<Vec<Difference>, StoreError> {
        let _lock = self.lock_shared()?;
        comparison::layers(&self.layer_path(first), &self.layer_path(second)).map_err(|error| {
            let path = self.layer_path(first);
            StoreError::Damaged { path, reason: error.to_string() }
        })
    }

    /// Hashes everything in the store and compares it with what it was. `progress` is called with each object before
    /// it is read.
    ///
    /// # Errors
    /// When a directory cannot be read; damaged objects are reported in the result instead.
    pub fn verify(&self, progress: &mut dyn FnMut(&Path)) -> Result<Verified, StoreError> {
        let _lock = self.lock_shared()?;
        let mut verified = Verified::default();
        let mut check = |path: &Path, result: Result<(), String>| {
            verified.objects += 1;
            if let Err(reason) = result {
                verified.damaged.push(Damage { path: path.to_owned(), reason, images: Vec::new() });
            }
        };
        self.each_digest(Bucket::Blobs, |path, digest| {
            if path.extension().is_none_or(|extension| extension != PARTIAL) {
                progress(path);
                check(path, check_blob(path, digest));
            }
            Ok(())
        })?;
        self.each_digest(Bucket::Layers, |path, digest| {
            progress(path);
            check(path, self.check_layer(path, digest));
            Ok(())
        })?;
        for key in snapshots::keys(self)? {
            let path = self.snapshot_path(&key);
            progress(&path);
            check(&path, self.check_snapshot(&key));
        }
        for entry in entries(&self.bucket(Bucket::Images))? {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let known = self.image_records()?.iter().any(|(known, _)| *known == path);
                check(&path, if known { Ok(()) } else { Err("it is not an image record".to_owned()) });
            }
        }
        self.name_images(&mut verified.damaged)?;
        Ok(verified)
    }

    /// Deletes damaged objects, so that the next pull fetches them again.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub fn discard(&self, damaged: &[Damage]) -> Result<(), StoreError> {
        let _lock = self.lock_exclusive()?;
        damaged
            .iter()
            .filter(|damage| damage.path.starts_with(self.home()))
            .try_for_each(|damage| remove(&damage.path))
    }

    fn check_layer(&self, path: &Path, digest: Option<Digest>) -> Result<(), String> {
        let digest = digest.ok_or("its name is not a digest")?;
        let record = self.layer_record(&digest).map_err(|error| error.to_string())?;
        if record.diff_id != digest {
            return Err(format!("it says that it is {}", record.diff_id));
        }
        layer::verify(path).map_err(|error| with_causes(&error))
    }

    fn check_snapshot(&self, key: &str) -> Result<(), String> {
        let record = self.snapshot_record(key).map_err(|error| error.to_string())?;
        let record = record.ok_or("it has no snapshot.json")?;
        let actual = snapshots::digest_of(&self.snapshot_path(key), &record.digest)
            .map_err(|error| with_causes(&error))?;
        if actual != record.digest {
            return Err("rootfs.erofs has another digest".to_owned());
        }
        Ok(())
    }

    /// Finds out which images need the damaged objects.
    fn name_images(&self, damaged: &mut [Damage]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        for (record_path, record) in self.image_records()? {
            let mut needed = vec![record_path, self.blob_path(&record.manifest)];
            if let Some(image) = self.load(&record.reference, &record.manifest, &record.platform) {
                needed.extend(image.layers.iter().map(|layer| self.layer_path(&layer.diff_id)));
            }
            for damage in damaged.iter_mut().filter(|damage| needed.contains(&damage.path)) {
                damage.images.push(record.reference.clone());
            }
        }
        Ok(())
    }
}

fn check_blob(path: &Path, digest: Option<Digest>) -> Result<(), String> {
    let digest = digest.ok_or("its name is not a digest")?;
    let hashed =
        File::open(path).and_then(|mut file| digest.of_reader(&mut file)).map_err(failed("read", path));
    match hashed {
        Ok(actual) if actual == digest => Ok(()),
        Ok(_) => Err("its contents have another digest".to_owned()),
        Err(error) => Err(with_causes(&error)),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(source) = current {
        text = format!("{text}: {source}");
        current = source.source();
    }
    text
}
