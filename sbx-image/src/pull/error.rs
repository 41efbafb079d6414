//! Why an image could not be pulled.

use std::error::Error;
use std::io;

use thiserror::Error as ThisError;

use crate::digest::Digest;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::registry::RegistryError;
use crate::source::LayoutError;
use crate::store::StoreError;

/// Why an image could not be pulled.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum PullError {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The layout or archive does not have it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image's manifest or configuration cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// What arrived is not what the manifest names, twice.
    #[error("layer {layer}: what arrived has the digest {actual}; the copy at the source is damaged")]
    WrongDigest {
        /// Digest of its blob.
        layer: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// The layer's bytes are the right ones, but not what the configuration says they contain.
    #[error(
        "layer {layer}: uncompressed it has the digest {actual}, but the image's configuration says {expected}; the image is broken"
    )]
    WrongDiffId {
        /// Digest of its blob.
        layer: Digest,
        /// The configuration's digest.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The layer's compressed form is malformed.
    #[error("layer {layer} cannot be uncompressed")]
    Compression {
        /// Digest of its blob.
        layer: Digest,
        /// Where and why.
        source: io::Error,
    },
    /// The layer is too large when uncompressed.
    #[error("layer {layer} has more than {limit} bytes when uncompressed, which is the limit")]
    LayerTooLarge {
        /// Digest of its blob.
        layer: Digest,
        /// The limit in bytes.
        limit: u64,
    },
    /// The layer is small but would fill the disk.
    #[error("layer {layer} has more than {limit} times its size when uncompressed: a decompression bomb")]
    Bomb {
        /// Digest of its blob.
        layer: Digest,
        /// The limit.
        limit: u64,
    },
    /// The layer's tar is refused.
    #[error("layer {layer} cannot be used")]
    Layer {
        /// Digest of its blob.
        layer: Digest,
        /// What is wrong with it.
        source: LayerError,
    },
    /// A file of a layout or archive could not be read to its end.
    #[error("cannot read layer {layer}")]
    Read {
        /// Digest of its blob.
        layer: Digest,
        /// Why.
        source: io::Error,
    },
    /// The pull was given up.
    #[error("the pull was interrupted")]
    Interrupted,
}

impl PullError {
    /// True when fetching the same bytes again may give other ones.
    pub(super) fn may_be_transfer_fault(&self) -> bool {
        match self {
            Self::WrongDigest { .. } => true,
            Self::Registry(error) => error.is_wrong_content(),
            _ => false,
        }
    }
}

/// Looks for "no space left" among an error's causes.
pub(super) fn disk_full<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return Some(io);
        }
        current = error.source();
    }
    None
}
