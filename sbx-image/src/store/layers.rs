//! Layers that were made here, not fetched: what a machine wrote becomes one.
//!
//! ```text
//!   tar of the machine ─ingest→ staging ─Normalisation→ tree ─LayerTar→ the tar ─ingest→ staging ─→ layers/v1/<diff-id>
//!                                                                         └ sha256: the diff-id
//! ```
//!
//! What is stored was read from the tar that the digest is of, as a pull would read it; so the layer is the same to the
//! last byte whether it was made here or came from a registry.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Bucket, LayerRecord, Staging, Store, StoreError, failed, remove, write_synced};
use crate::digest::{Algorithm, Digest};
use crate::hashed::Hashed;
use crate::layer::canonical::LayerTar;
use crate::layer::stored::{self, LayerTree};
use crate::layer::{
    self, DATA_FILE, LayerError, LayerSummary, Limits, StoredError, TREE_FILE, WriteTarError,
};
use crate::node::Node;
use crate::normalisation::{Below, Normalisation, NormalisationError};
use crate::tree::Tree;

/// Bytes that may follow the end of a tar: writers fill their last block, of 10 KiB as a rule.
const TRAILING_BYTES_MAX: u64 = 1 << 20;

/// A layer that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedLayer {
    /// Digest of its tar, which is its name.
    pub diff_id: Digest,
    /// Length of that tar in bytes.
    pub bytes: u64,
    /// Entries of that tar.
    pub entries: u64,
    /// Directories that were made in the workspace, relative to it, in ascending order.
    pub setup_directories: Vec<String>,
}

/// Why no layer was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddError {
    /// The tar is not one that we take, or the disk is full.
    #[error("what the machine wrote cannot be made into a layer")]
    Layer(#[from] LayerError),
    /// The tar broke off.
    #[error("cannot read what the machine wrote")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The tar does not end at its end.
    #[error("more than {limit} bytes follow the end of what the machine wrote")]
    Trailing {
        /// Most of them.
        limit: u64,
    },
    /// Not what a layer may have.
    #[error(transparent)]
    Normalisation(#[from] NormalisationError),
    /// A layer is damaged.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was to be stored has another digest.
    #[error("the layer has the digest {actual}, not {expected}")]
    Digest {
        /// What it should have had.
        expected: Digest,
        /// What it has.
        actual: Digest,
    },
}

impl Store {
    /// Stores what a machine wrote as a layer: reads its tar, which may be hostile, to the end, and keeps what
    /// `normalisation` says. The same layer again is not stored twice.
    ///
    /// Whoever needs the layer holds the store ([`Store::hold`]) until it is written down what it is for.
    ///
    /// # Errors
    /// When the tar is malformed, breaks off or is beyond `limits`, or the disk is full. Nothing is left behind then.
    pub fn add_layer(
        &self,
        tar: &mut dyn Read,
        normalisation: &Normalisation,
        limits: &Limits,
    ) -> Result<AddedLayer, AddError> {
        let _store = self.lock_shared()?;
        self.sweep()?;
        let written = Staging::new(self, Bucket::Layers)?;
        layer::ingest(tar, written.path(), limits)?;
        read_to_end(tar)?;
        tracing::debug!("read what a machine wrote");
        let bytes = stored::read(written.path())?;
        let mut tree = stored::decode(&bytes, &written.path().join(TREE_FILE))?;
        let data = open_data(written.path())?;
        let setup_directories = self.normalise(&mut tree, &data, normalisation)?;
        let (diff_id, bytes, summary) = self.store_tar(&mut LayerTar::new(&tree, &data), None, limits)?;
        tracing::debug!(%diff_id, "stored what a machine wrote");
        Ok(AddedLayer { diff_id, bytes, entries: summary.entries, setup_directories })
    }

    /// Stores the layer `diff_id` from its tar, unless it is there.
    ///
    /// # Errors
    /// [`AddError::Digest`] when it is another layer's; otherwise like [`Store::add_layer`].
    pub fn put_layer(&self, tar: &mut dyn Read, diff_id: &Digest, limits: &Limits) -> Result<(), AddError> {
        let _store = self.lock_shared()?;
        self.sweep()?;
        self.store_tar(tar, Some(diff_id), limits).map(|_| ())
    }

    /// Writes the tar of a stored layer in the one form that this crate writes. For layers that were made by
    /// [`Store::add_layer`] these are the bytes that the digest is of.
    ///
    /// # Errors
    /// When the layer is missing or damaged, or `to` fails.
    pub fn write_layer_tar(&self, diff_id: &Digest, to: &mut dyn Write) -> Result<(), WriteTarError> {
        layer::write_tar(&self.layer_path(diff_id), to)
    }

    /// Changes the tree, whose contents are in `data`, to what belongs in the layer.
    fn normalise(
        &self,
        tree: &mut LayerTree<'_>,
        data: &File,
        normalisation: &Normalisation,
    ) -> Result<Vec<String>, AddError> {
        if normalisation.below.is_empty() {
            return Ok(normalisation.apply(tree, None)?);
        }
        let paths: Vec<PathBuf> = normalisation.below.iter().map(|layer| self.layer_path(layer)).collect();
        let bytes = paths.iter().map(|path| stored::read(path)).collect::<Result<Vec<_>, _>>()?;
        let layers = paths.iter().zip(&bytes);
        let layers = layers.map(|(path, bytes)| stored::decode(bytes, &path.join(TREE_FILE)));
        let layers: Vec<LayerTree<'_>> = layers.collect::<Result<_, _>>()?;
        let files = paths.iter().map(|path| open_data(path)).collect::<Result<Vec<_>, _>>()?;
        let empty_root = Node::implicit_directory();
        let merged = Tree::merge(&layers, &empty_root);
        Ok(normalisation.apply(tree, Some(&Below { tree: &merged, data: &files, own: data }))?)
    }

    /// Reads a tar into the store under the digest that it has.
    fn store_tar(
        &self,
        tar: &mut dyn Read,
        expected: Option<&Digest>,
        limits: &Limits,
    ) -> Result<(Digest, u64, LayerSummary), AddError> {
        let staging = Staging::new(self, Bucket::Layers)?;
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let mut tar = Hashed::new(tar, algorithm);
        let summary = layer::ingest(&mut tar, staging.path(), limits)?;
        read_to_end(&mut tar)?;
        let (diff_id, uncompressed_bytes) = (tar.hasher.finish(), tar.bytes);
        if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
            return Err(AddError::Digest { expected: expected.clone(), actual: diff_id });
        }
        let _lock = self.lock_layer_blocking(&diff_id)?;
        if !self.has_layer(&diff_id) {
            self.commit_layer(staging, &LayerRecord { diff_id: diff_id.clone(), uncompressed_bytes })?;
        }
        Ok((diff_id, uncompressed_bytes, summary))
    }

    /// Makes a layer durable and gives it its name. The caller holds its lock and knows that it is not there.
    pub(crate) fn commit_layer(&self, staging: Staging, record: &LayerRecord) -> Result<(), StoreError> {
        for name in [DATA_FILE, TREE_FILE] {
            let path = staging.path().join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
        }
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        write_synced(&staging.path().join("layer.json"), &text)?;
        let target = self.layer_path(&record.diff_id);
        // What is there without a record is damaged.
        remove(&target)?;
        staging.commit(&target)
    }
}

fn open_data(layer: &Path) -> Result<File, StoreError> {
    let path = layer.join(DATA_FILE);
    File::open(&path).map_err(failed("read", &path))
}

/// Reads what follows the end of an archive. Whoever sends it says by its end that it is whole.
fn read_to_end(tar: &mut dyn Read) -> Result<(), AddError> {
    let limit = TRAILING_BYTES_MAX;
    let rest = io::copy(&mut tar.take(limit.saturating_add(1)), &mut io::sink());
    match rest.map_err(|source| AddError::Read { source })? {
        rest if rest > limit => Err(AddError::Trailing { limit }),
        _ => Ok(()),
    }
}
