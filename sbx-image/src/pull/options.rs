//! What a pull may do and how far it goes: plain data, filled in by the program that has the user's configuration.

use std::path::PathBuf;

use crate::layer;
use crate::platform::Platform;
use crate::registry::{Access, Mirrors, Network};

/// How to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// The platform to choose from multi-platform images.
    pub platform: Platform,
    /// Where else images may be had.
    pub mirrors: Mirrors,
    /// Files with credentials as `docker login` (`config.json`) and `podman login` (`auth.json`) write them, in the
    /// order in which they are asked. They must be the user's own: they may name programs to run.
    pub credential_files: Vec<PathBuf>,
    /// Files with certificates (PEM) of authorities to trust besides the system's.
    pub extra_ca_files: Vec<PathBuf>,
    /// How patient to be with servers.
    pub network: Network,
    /// How much an image may ask for.
    pub limits: PullLimits,
    /// Layers that are fetched at the same time.
    pub parallel_layers: usize,
}

/// Bounds that turn a hostile image into an error before the disk is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullLimits {
    /// Uncompressed bytes of one layer.
    pub layer_bytes: u64,
    /// Uncompressed bytes for each compressed byte of a layer, once it has more than [`Self::ratio_free_bytes`].
    /// Gzip cannot exceed 1032; layers of real images stay under 20.
    pub ratio: u64,
    /// Uncompressed bytes up to which the ratio does not matter.
    pub ratio_free_bytes: u64,
    /// Bytes of a compressed archive file when uncompressed.
    pub archive_bytes: u64,
    /// What the files in one layer may ask for.
    pub layer: layer::Limits,
}

impl PullOptions {
    /// What of it registries are talked to with.
    pub(crate) fn access(&self) -> Access<'_> {
        Access {
            mirrors: &self.mirrors,
            ca_files: &self.extra_ca_files,
            credential_files: &self.credential_files,
            network: &self.network,
        }
    }
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: Platform::host(),
            mirrors: Mirrors::default(),
            credential_files: Vec::new(),
            extra_ca_files: Vec::new(),
            network: Network::default(),
            limits: PullLimits::default(),
            parallel_layers: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
        }
    }
}

impl Default for PullLimits {
    fn default() -> Self {
        Self {
            layer_bytes: 128 << 30,
            ratio: 200,
            ratio_free_bytes: 1 << 30,
            archive_bytes: 256 << 30,
            layer: layer::Limits::default(),
        }
    }
}
