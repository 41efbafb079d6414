//! References: which manifest `docker.io/library/debian:12` meant when it was last pulled.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Bucket, Store, StoreError, entries, failed, read_bounded};
use crate::digest::Digest;
use crate::manifest::{self, Image, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest};
use crate::platform::Platform;
use crate::source::{Source, Stamp};

/// Largest record in bytes; real ones are a few hundred.
const MAX_RECORD_BYTES: u64 = 64 * 1024;

/// One image in the store, as `sbx image ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredImage {
    /// The source in canonical form.
    pub reference: String,
    /// The platform that was asked for.
    pub platform: Platform,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Compressed size of all layers in bytes.
    pub size_bytes: u64,
    /// Number of layers.
    pub layers: usize,
    /// When the image was built, as its configuration says (RFC 3339).
    pub created: Option<String>,
    /// When it was pulled, in seconds since 1970.
    pub pulled: u64,
    /// When a sandbox last asked for it, in seconds since 1970.
    pub last_used: u64,
    /// False when something of it is missing or damaged, so that it must be pulled again.
    pub complete: bool,
}

/// The contents of `images/v1/<key>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) reference: String,
    pub(crate) platform: Platform,
    pub(crate) manifest: Digest,
    /// The index that led to the manifest, if one did.
    pub(crate) index: Option<Digest>,
    /// Identity of the archive file that it came from.
    pub(crate) stamp: Option<Stamp>,
    /// Seconds since 1970.
    pub(crate) pulled: u64,
}

impl Store {
    /// The image that `source` means for `platform`, if it is complete in the store. Asks no network.
    ///
    /// A reference with a digest is found under any name that it was pulled by. Of a layout or archive, the file is
    /// looked at: an image that has changed there since is not found.
    pub fn find(&self, source: &Source, platform: &Platform) -> Option<Image> {
        let reference = source.to_string();
        let record = self.image_record(&reference, platform).filter(|record| record.stamp == source.stamp());
        if let Some(record) = record {
            let image = self.load(&reference, &record.manifest, platform)?;
            self.touch(&reference, platform);
            return Some(image);
        }
        let digest = source.pinned_digest()?;
        let bytes = self.blob(&digest, MAX_MANIFEST_BYTES).ok()??;
        let (manifest, index) = match Manifest::parse(&bytes).ok()? {
            Manifest::Image(_) => (digest, None),
            Manifest::Index(index) => {
                (manifest::choose_platform(&index, platform).ok()?.digest, Some(digest))
            }
        };
        let image = self.load(&reference, &manifest, platform)?;
        // From now on it is kept under this name too.
        let record = ImageRecord::new(&reference, platform, manifest, index, source.stamp());
        self.put_image_record(&record).ok()?;
        Some(image)
    }

    /// All images in the store, by reference.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<StoredImage>, StoreError> {
        let mut images: Vec<StoredImage> =
            self.image_records()?.into_iter().map(|(path, record)| self.describe(&path, record)).collect();
        images.sort_by(|a, b| (&a.reference, &a.platform).cmp(&(&b.reference, &b.platform)));
        Ok(images)
    }

    /// Forgets the image called `name`: a reference, or the beginning (at least six digits) of a manifest digest.
    /// Its layers stay until [`Store::prune`].
    ///
    /// Returns the references that were removed, one for each platform.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`] when there is none of that name.
    pub fn remove_image(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let _lock = self.lock_exclusive()?;
        let canonical = name.parse::<Source>().map(|source| source.to_string()).unwrap_or_default();
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let by_digest = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut removed = BTreeSet::new();
        for (path, record) in self.image_records()? {
            let named = record.reference == name || record.reference == canonical;
            if named || (by_digest && record.manifest.hex().starts_with(digits)) {
                super::staging::remove(&path)?;
                removed.insert(record.reference);
            }
        }
        if removed.is_empty() {
            return Err(StoreError::NoSuchImage { reference: name.to_owned() });
        }
        Ok(removed.into_iter().collect())
    }

    /// Puts the image together from its manifest and configuration; `None` when anything is missing or damaged.
    pub(crate) fn load(&self, reference: &str, digest: &Digest, platform: &Platform) -> Option<Image> {
        let bytes = self.blob(digest, MAX_MANIFEST_BYTES).ok()??;
        let Manifest::Image(parsed) = Manifest::parse(&bytes).ok()? else { return None };
        let config = manifest::config_blob(&parsed).ok()?;
        let config = self.blob(&config.digest, MAX_CONFIG_BYTES).ok()??;
        let image = manifest::assemble(reference, digest.clone(), &parsed, &config, platform).ok()?;
        image.layers.iter().all(|layer| self.has_layer(&layer.diff_id)).then_some(image)
    }

    /// Remembers what a reference means.
    pub(crate) fn put_image_record(&self, record: &ImageRecord) -> Result<(), StoreError> {
        let path = self.image_path(&record.reference, &record.platform);
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.put_file(Bucket::Images, &path, &text)
    }

    /// All records that can be read, with their files. Others are left for [`Store::verify`] to report.
    pub(crate) fn image_records(&self) -> Result<Vec<(PathBuf, ImageRecord)>, StoreError> {
        let mut records = Vec::new();
        for entry in entries(&self.bucket(Bucket::Images))? {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Some(bytes) = read_bounded(&path, MAX_RECORD_BYTES)? else { continue };
            match serde_json::from_slice(&bytes) {
                Ok(record) => records.push((path, record)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "unreadable image record"),
            }
        }
        Ok(records)
    }

    fn image_record(&self, reference: &str, platform: &Platform) -> Option<ImageRecord> {
        let bytes = read_bounded(&self.image_path(reference, platform), MAX_RECORD_BYTES).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    fn image_path(&self, reference: &str, platform: &Platform) -> PathBuf {
        let key = blake3::hash(format!("{reference}\0{platform}").as_bytes()).to_hex();
        let name = format!("{}.json", key.get(..32).unwrap_or(&key));
        self.bucket(Bucket::Images).join(name)
    }

    /// The file's time is when the image was last used.
    fn touch(&self, reference: &str, platform: &Platform) {
        let path = self.image_path(reference, platform);
        let touched =
            File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::debug!(%error, "the time of last use cannot be recorded");
        }
    }

    fn describe(&self, path: &std::path::Path, record: ImageRecord) -> StoredImage {
        let image = self.load(&record.reference, &record.manifest, &record.platform);
        let last_used = fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .map_err(failed("read", path))
            .map_or(record.pulled, seconds);
        StoredImage {
            size_bytes: image
                .iter()
                .flat_map(|image| &image.layers)
                .fold(0, |sum, layer| sum.saturating_add(layer.size)),
            layers: image.as_ref().map_or(0, |image| image.layers.len()),
            created: image.as_ref().and_then(|image| image.config.created().clone()),
            complete: image.is_some(),
            reference: record.reference,
            platform: record.platform,
            manifest_digest: record.manifest,
            pulled: record.pulled,
            last_used,
        }
    }
}

impl ImageRecord {
    /// A record of what a reference means now.
    pub(crate) fn new(
        reference: &str,
        platform: &Platform,
        manifest: Digest,
        index: Option<Digest>,
        stamp: Option<Stamp>,
    ) -> Self {
        let (reference, platform) = (reference.to_owned(), platform.clone());
        Self { reference, platform, manifest, index, stamp, pulled: seconds(SystemTime::now()) }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
