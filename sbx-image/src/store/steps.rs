//! Steps: which layer the packages, agents and setup commands of a machine made, by a key of all that they depend on.
//!
//! ```text
//!   steps/v1/<key>.json   { "layer": "sha256:…", "below": ["sha256:…", …], "setup_directories": ["node_modules"] }
//! ```
//!
//! A record is a hint: without it, or without its layer, the step is taken again and makes the same layer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bucket, Store, StoreError, entries, read_bounded};
use crate::digest::{Digest, is_hexadecimal};

/// Largest record in bytes: a few hundred layers, and as many directories.
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

/// Most digits of a key.
const KEY_DIGITS_MAX: usize = 128;

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its layer.
    pub layer: Digest,
    /// The layers that it was made on, lowest first: it is of use only on these.
    pub below: Vec<Digest>,
    /// Directories that it made in the workspace, relative to it.
    #[serde(default)]
    pub setup_directories: Vec<String>,
}

impl StepRecord {
    /// The layers with the step's own on top.
    pub fn stack(&self) -> Vec<Digest> {
        self.below.iter().chain([&self.layer]).cloned().collect()
    }
}

impl Store {
    /// What the step of this key made, if it was taken and its layer is still there.
    ///
    /// # Errors
    /// When the store cannot be read. A record that cannot be understood counts as none.
    pub fn step(&self, key: &str) -> Result<Option<StepRecord>, StoreError> {
        let Some(path) = self.step_path(key) else { return Ok(None) };
        let Some(bytes) = read_bounded(&path, MAX_RECORD_BYTES)? else { return Ok(None) };
        let record: Option<StepRecord> = serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable step record"))
            .ok();
        Ok(record.filter(|record| self.has_layer(&record.layer)))
    }

    /// Remembers what a step made. `key` is in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// When the key is none, or the record cannot be written.
    pub fn record_step(&self, key: &str, record: &StepRecord) -> Result<(), StoreError> {
        let path = self
            .step_path(key)
            .ok_or_else(|| StoreError::StepKey { key: key.escape_default().to_string() })?;
        let _store = self.lock_shared()?;
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.put_file(Bucket::Steps, &path, &text)
    }

    /// Every record with its file, and those that cannot be read or whose layer is gone with nothing.
    pub(crate) fn step_records(&self) -> Result<Vec<(PathBuf, Option<StepRecord>)>, StoreError> {
        let mut records = Vec::new();
        for entry in entries(&self.bucket(Bucket::Steps))? {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = read_bounded(&path, MAX_RECORD_BYTES).ok().flatten().unwrap_or_default();
            let record: Option<StepRecord> = serde_json::from_slice(&bytes).ok();
            records.push((path, record.filter(|record| self.has_layer(&record.layer))));
        }
        Ok(records)
    }

    /// Where the record of `key` is, or would be; a key becomes a file name only if it is one.
    fn step_path(&self, key: &str) -> Option<PathBuf> {
        is_step_key(key).then(|| self.bucket(Bucket::Steps).join(format!("{key}.json")))
    }
}

/// Whether a text names a step.
pub(super) fn is_step_key(key: &str) -> bool {
    key.len() <= KEY_DIGITS_MAX && is_hexadecimal(key)
}
