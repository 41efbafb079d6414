//! An opened [`Source`]: the same few questions for registries, layouts and archives.

use std::io::Read;
use std::sync::Arc;

use super::docker_archive::{self, DockerImage};
use super::files::{Files, TarFiles};
use super::{Selector, Source, layout};
use crate::digest::Digest;
use crate::manifest::{self, Blob, Image, Layer, Manifest, ManifestError};
use crate::platform::Platform;
use crate::progress::Reporter;
use crate::pull::{PullError, PullOptions};
use crate::registry::Registry;
use crate::store::{Bucket, Store};

/// An opened source.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A repository and the tag or digest wanted from it.
    Registry(Box<Registry>, String),
    /// A layout or OCI archive.
    Layout(Files, Option<Selector>),
    /// One image of a Docker archive.
    Docker(Files, Box<DockerImage>),
}

/// What an image is, and the bytes that say so.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) image: Image,
    pub(crate) config: Blob,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) manifest_bytes: Vec<u8>,
    /// The index that led there, if one did.
    pub(crate) index: Option<(Digest, Vec<u8>)>,
}

/// How a layer's bytes are had.
pub(crate) enum LayerContent<'a> {
    /// Over the network.
    Remote(&'a Registry, Blob),
    /// From a file. The blob's digest is known unless the file is of a Docker archive.
    Local(Box<dyn Read + Send>, Option<Blob>),
}

impl Origin {
    /// Opens the source. Archives are indexed here; registries are not connected to yet.
    pub(crate) fn open(
        source: &Source,
        store: &Store,
        options: &PullOptions,
        reporter: &Reporter,
    ) -> Result<Self, PullError> {
        let tar = |file| {
            let spool = store.bucket(Bucket::Blobs);
            let tar = TarFiles::open(file, &spool, options.limits.archive_bytes)
                .map_err(layout::LayoutError::from)?;
            Ok::<_, layout::LayoutError>(Files::Tar(Arc::new(tar)))
        };
        match source {
            Source::Registry(reference) => {
                let name = reference.digest().or_else(|| reference.tag()).unwrap_or("latest").to_owned();
                Ok(Self::Registry(
                    Box::new(Registry::new(reference, options.access(), reporter.clone())?),
                    name,
                ))
            }
            Source::OciLayout { directory, selector } => {
                Ok(Self::Layout(Files::Directory(directory.clone()), selector.clone()))
            }
            Source::OciArchive { file, selector } => Ok(Self::Layout(tar(file)?, selector.clone())),
            Source::DockerArchive { file, name } => {
                let files = tar(file)?;
                let image = docker_archive::find(&files, name.as_deref())?;
                Ok(Self::Docker(files, Box::new(image)))
            }
        }
    }

    /// Finds out what the image is.
    pub(crate) async fn resolve(&self, reference: &str, platform: &Platform) -> Result<Resolved, PullError> {
        let (mut digest, mut manifest_bytes) = match self {
            Self::Registry(registry, name) => registry.manifest(name).await?,
            Self::Layout(files, selector) => layout::find(files, selector.as_ref(), platform)?,
            Self::Docker(_, image) => (Digest::sha256(&image.manifest), image.manifest.clone()),
        };
        let mut index = None;
        let mut depth = 0;
        let manifest = loop {
            match Manifest::parse(&manifest_bytes)? {
                Manifest::Image(image) => break image,
                Manifest::Index(parsed) if layout::may_descend(depth) => {
                    depth += 1;
                    let chosen = manifest::choose_platform(&parsed, platform)?;
                    index.get_or_insert((digest, manifest_bytes));
                    manifest_bytes = self.manifest(&chosen).await?;
                    digest = chosen.digest;
                }
                Manifest::Index(_) => {
                    let media_type = "index of indexes of indexes".to_owned();
                    return Err(ManifestError::NotAnImage { media_type }.into());
                }
            }
        };
        let config = manifest::config_blob(&manifest)?;
        let config_bytes = match self {
            Self::Registry(registry, _) => registry.blob(&config).await?,
            Self::Layout(files, _) => layout::read_blob(files, &config.digest, manifest::MAX_CONFIG_BYTES)?,
            Self::Docker(_, image) => image.config.clone(),
        };
        let image = manifest::assemble(reference, digest, &manifest, &config_bytes, platform)?;
        Ok(Resolved { image, config, config_bytes, manifest_bytes, index })
    }

    /// Opens a layer of the image.
    pub(crate) fn layer(&self, layer: &Layer) -> Result<LayerContent<'_>, PullError> {
        let blob = Blob { digest: layer.blob_digest.clone(), size: layer.size };
        match self {
            Self::Registry(registry, _) => Ok(LayerContent::Remote(registry, blob)),
            Self::Layout(files, _) => {
                let (reader, _) =
                    files.open(&layout::blob_name(&layer.blob_digest)).map_err(layout::LayoutError::from)?;
                Ok(LayerContent::Local(reader, Some(blob)))
            }
            Self::Docker(files, image) => {
                let name = image.layers.get(&layer.diff_id).map(String::as_str).unwrap_or_default();
                let (reader, _) = files.open(name).map_err(layout::LayoutError::from)?;
                Ok(LayerContent::Local(reader, None))
            }
        }
    }

    async fn manifest(&self, blob: &Blob) -> Result<Vec<u8>, PullError> {
        match self {
            Self::Registry(registry, _) => Ok(registry.manifest(&blob.digest.to_string()).await?.1),
            Self::Layout(files, _) | Self::Docker(files, _) => {
                Ok(layout::read_blob(files, &blob.digest, manifest::MAX_MANIFEST_BYTES)?)
            }
        }
    }
}
