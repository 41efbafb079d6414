//! What an image is: its manifest, its configuration and its layers, parsed within bounds.
//!
//! Docker's schema 2 and OCI manifests have the same members and are read alike. Formats: OCI image specification
//! "Image Manifest" and "Image Configuration".

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;
use thiserror::Error;

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// Largest manifest or index in bytes that is read; registries refuse to store larger ones.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Largest image configuration in bytes that is read. Real ones are a few KiB.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// Most layers that an image may have. Docker's own limit is 127.
pub(crate) const MAX_LAYERS: usize = 512;

/// An image that is complete in the store, or about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The source as it was asked for, in canonical form.
    pub reference: String,
    /// Digest of the manifest for the chosen platform.
    pub manifest_digest: Digest,
    /// The platform that the image says it is for.
    pub platform: Platform,
    /// Environment, command, user and the like.
    pub config: ImageConfiguration,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// Layers that this pull stored; 0 when the image was found in the store.
    pub new_layers: usize,
    /// Bytes that this pull received over the network.
    pub downloaded_bytes: u64,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed tar; the layer's name in the store.
    pub diff_id: Digest,
    /// Digest of the blob as the source has it, compressed or not.
    pub blob_digest: Digest,
    /// Size of that blob in bytes.
    pub size: u64,
}

/// Why a manifest or configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is not the JSON that it should be.
    #[error("the {what} is not valid")]
    Json {
        /// "image manifest", "image index" or "image configuration".
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A digest in it is malformed.
    #[error("the image manifest names a malformed digest")]
    Digest(#[from] DigestError),
    /// The format is one that container engines gave up years ago, or one that is newer than this program.
    #[error(
        "the image manifest has schemaVersion {version}; only version 2 can be read (push the image again with a current tool)"
    )]
    SchemaVersion {
        /// The version it says.
        version: u64,
    },
    /// What the tag names is no container image (a Helm chart, a signature, an artifact).
    #[error("this is not a container image but an artifact of type {media_type}")]
    NotAnImage {
        /// Its media type.
        media_type: String,
    },
    /// The index has nothing for the platform.
    #[error("there is no image for {platform}; it exists for: {offered}")]
    NoPlatform {
        /// The platform asked for.
        platform: Platform,
        /// What there is, comma-separated.
        offered: String,
    },
    /// A single-platform image is for another platform.
    #[error("the image is for {actual}, not for {wanted}")]
    WrongPlatform {
        /// What it is for.
        actual: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
    /// More layers than any container engine can make.
    #[error("the image has {count} layers; at most {MAX_LAYERS} are allowed")]
    TooManyLayers {
        /// Layers that it names.
        count: usize,
    },
    /// Manifest and configuration disagree.
    #[error("the manifest has {layers} layers, but the configuration names {diff_ids}")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Uncompressed digests in the configuration.
        diff_ids: usize,
    },
    /// The layer's content is only to be had from elsewhere, which old Windows images used.
    #[error(
        "layer {digest} is a foreign layer, which is kept outside of the registry; such images cannot be used"
    )]
    ForeignLayer {
        /// Digest of its blob.
        digest: Digest,
    },
    /// A descriptor claims a size over the bound.
    #[error("the {what} claims to be {bytes} bytes long; at most {limit} are allowed")]
    TooLarge {
        /// "image manifest" or "image configuration".
        what: &'static str,
        /// The claim.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
}

/// A manifest as a source gives it: one image, or an index of several.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// One image.
    Image(Box<ImageManifest>),
    /// Images for several platforms.
    Index(Box<ImageIndex>),
}

/// Where some bytes are and what they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    /// Their digest.
    pub(crate) digest: Digest,
    /// Their length in bytes.
    pub(crate) size: u64,
}

/// The members that tell an image manifest from an index, whatever media type the server claims.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u64,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Parses a manifest or index, telling them apart by their members.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let shape: Shape = json("image manifest", bytes)?;
        if shape.schema_version != 2 {
            return Err(ManifestError::SchemaVersion { version: shape.schema_version });
        }
        match (shape.manifests, shape.layers) {
            (Some(_), None) => Ok(Self::Index(Box::new(json("image index", bytes)?))),
            (None, Some(_)) => Ok(Self::Image(Box::new(json("image manifest", bytes)?))),
            _ => {
                let media_type = shape.media_type.unwrap_or_else(|| "unknown".to_owned());
                Err(ManifestError::NotAnImage { media_type })
            }
        }
    }
}

/// The entry of `index` for `platform`, as a blob to fetch.
pub(crate) fn choose_platform(index: &ImageIndex, platform: &Platform) -> Result<Blob, ManifestError> {
    let entry = platform.choose(index).ok_or_else(|| {
        let offered: Vec<String> = Platform::offered(index).iter().map(ToString::to_string).collect();
        let offered = if offered.is_empty() { "no platform".to_owned() } else { offered.join(", ") };
        ManifestError::NoPlatform { platform: platform.clone(), offered }
    })?;
    Blob::of(entry, "image manifest", MAX_MANIFEST_BYTES)
}

/// The configuration that `manifest` names, as a blob to fetch.
pub(crate) fn config_blob(manifest: &ImageManifest) -> Result<Blob, ManifestError> {
    let media_type = manifest.config().media_type().to_string();
    let known =
        ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    // Some builders leave the type out or say octet-stream; what the blob is shows when it is parsed.
    if !known.contains(&media_type.as_str())
        && !media_type.is_empty()
        && media_type != "application/octet-stream"
    {
        return Err(ManifestError::NotAnImage { media_type });
    }
    Blob::of(manifest.config(), "image configuration", MAX_CONFIG_BYTES)
}

/// Puts manifest and configuration together, checking that they agree with each other and with `platform`.
pub(crate) fn assemble(
    reference: &str,
    manifest_digest: Digest,
    manifest: &ImageManifest,
    config: &[u8],
    platform: &Platform,
) -> Result<Image, ManifestError> {
    let config: ImageConfiguration = json("image configuration", config)?;
    let actual = Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone(),
    };
    if !platform.accepts(&actual) {
        return Err(ManifestError::WrongPlatform {
            actual: Box::new(actual),
            wanted: Box::new(platform.clone()),
        });
    }
    let count = manifest.layers().len();
    if count > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers { count });
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != count {
        return Err(ManifestError::LayerCount { layers: count, diff_ids: diff_ids.len() });
    }
    let mut layers = Vec::with_capacity(count);
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let blob_digest: Digest = descriptor.digest().to_string().parse()?;
        let media_type = descriptor.media_type().to_string();
        if media_type.contains(".foreign.") || media_type.contains("nondistributable") {
            return Err(ManifestError::ForeignLayer { digest: blob_digest });
        }
        layers.push(Layer { diff_id: diff_id.parse()?, blob_digest, size: descriptor.size() });
    }
    Ok(Image {
        reference: reference.to_owned(),
        manifest_digest,
        platform: actual,
        config,
        layers,
        new_layers: 0,
        downloaded_bytes: 0,
    })
}

impl Blob {
    /// The blob of a descriptor that may not claim to be longer than `limit`.
    pub(crate) fn of(
        descriptor: &oci_spec::image::Descriptor,
        what: &'static str,
        limit: u64,
    ) -> Result<Self, ManifestError> {
        let bytes = descriptor.size();
        if bytes > limit {
            return Err(ManifestError::TooLarge { what, bytes, limit });
        }
        Ok(Self { digest: descriptor.digest().to_string().parse()?, size: bytes })
    }
}

pub(crate) fn json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Volumes":null,
        "ExposedPorts":null,"Labels":null,"OnBuild":null,"Entrypoint":null},"rootfs":{"type":"layers","diff_ids":
        ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":null}"#;

    fn manifest(layers: usize, layer_type: &str) -> String {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let layer = format!(r#"{{"mediaType":"{layer_type}","digest":"{digest}","size":10,"urls":null}}"#);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":
            {{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{digest}","size":5}},
            "layers":[{}]}}"#,
            vec![layer; layers].join(",")
        )
    }

    fn assembled(manifest: &str, platform: &str) -> Result<Image, ManifestError> {
        let Manifest::Image(parsed) = Manifest::parse(manifest.as_bytes())? else { panic!("not an image") };
        let digest = Digest::sha256(manifest.as_bytes());
        assemble("x", digest, &parsed, CONFIG.as_bytes(), &platform.parse().unwrap())
    }

    #[test]
    fn docker_nulls_are_nothing() {
        let image =
            assembled(&manifest(1, "application/vnd.docker.image.rootfs.diff.tar.gzip"), "linux/amd64");
        let image = image.unwrap();
        assert_eq!(image.layers.len(), 1);
        assert_eq!(image.platform.to_string(), "linux/amd64");
    }

    #[test]
    fn faults_are_named() {
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let fault = |manifest: &str, platform: &str| assembled(manifest, platform).unwrap_err().to_string();
        assert_eq!(
            fault(&manifest(2, tar), "linux/amd64"),
            "the manifest has 2 layers, but the configuration names 1"
        );
        assert_eq!(
            fault(&manifest(600, tar), "linux/amd64"),
            "the image has 600 layers; at most 512 are allowed"
        );
        assert_eq!(
            fault(&manifest(1, tar), "linux/arm64"),
            "the image is for linux/amd64, not for linux/arm64/v8"
        );
        let foreign =
            fault(&manifest(1, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "linux/amd64");
        assert!(foreign.contains("foreign layer"), "{foreign}");
        assert_eq!(fault("<html>", "linux/amd64"), "the image manifest is not valid");
        assert!(fault(r#"{"schemaVersion":1}"#, "linux/amd64").contains("schemaVersion 1"));
        let artifact = fault(r#"{"schemaVersion":2,"mediaType":"application/x-chart"}"#, "linux/amd64");
        assert_eq!(artifact, "this is not a container image but an artifact of type application/x-chart");
    }

    #[test]
    fn an_index_without_the_platform_tells_what_there_is() {
        let text = r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":3,"digest":
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "platform":{"os":"linux","architecture":"s390x"}}]}"#;
        let Manifest::Index(index) = Manifest::parse(text.as_bytes()).unwrap() else {
            panic!("not an index")
        };
        let error = choose_platform(&index, &"linux/amd64".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "there is no image for linux/amd64; it exists for: linux/s390x");
    }
}
