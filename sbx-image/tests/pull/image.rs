//! Images made for the tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use sbx_image::Digest;
use serde_json::{Value, json};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// An image: blobs, and the name of its manifest among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestImage {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) manifest: Option<Digest>,
    /// Digests of the layers' blobs.
    pub(crate) layers: Vec<Digest>,
}

impl TestImage {
    /// An image of these layers (uncompressed tars) for linux/amd64.
    pub(crate) fn new(layers: &[(Vec<u8>, Packing)]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| Digest::sha256(tar).to_string()).collect();
        let packed = layers.iter().map(|(tar, packing)| pack(tar, *packing)).collect();
        Self::from_blobs(packed, diff_ids)
    }

    /// One gzip layer with a file of `bytes` pseudo-random bytes, which compression does not shrink.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self::new(&[(tar_of(&[("data.bin", &noise(bytes, 1))]), Packing::Gzip)])
    }

    /// An image whose blobs and configuration need not agree.
    pub(crate) fn from_blobs(packed: Vec<Vec<u8>>, diff_ids: Vec<String>) -> Self {
        let mut image = Self::default();
        let config = json!({"architecture": "amd64", "os": "linux",
            "config": {"Env": ["A=b"], "Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config_type = "application/vnd.oci.image.config.v1+json";
        let config = image.add(config.to_string().into_bytes(), config_type);
        let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<Value> = packed.into_iter().map(|blob| image.add(blob, layer_type)).collect();
        image.layers =
            layers.iter().map(|layer| layer["digest"].as_str().unwrap().parse().unwrap()).collect();
        image.set_manifest(
            &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers}),
        );
        image
    }

    /// Adds a blob; gives its descriptor.
    pub(crate) fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        self.blobs.insert(digest, bytes);
        descriptor
    }

    /// Makes `manifest` what the tag means.
    pub(crate) fn set_manifest(&mut self, manifest: &Value) {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        self.blobs.insert(digest.clone(), bytes);
        self.manifest = Some(digest);
    }

    /// The manifest, parsed.
    pub(crate) fn manifest_json(&self) -> Value {
        serde_json::from_slice(&self.blobs[self.manifest.as_ref().unwrap()]).unwrap()
    }

    /// The files of a registry that has this image as `repository:latest`.
    pub(crate) fn files(&self, repository: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for (digest, bytes) in &self.blobs {
            files.insert(format!("/v2/{repository}/blobs/{digest}"), bytes.clone());
            files.insert(format!("/v2/{repository}/manifests/{digest}"), bytes.clone());
        }
        if let Some(manifest) = &self.manifest {
            files.insert(format!("/v2/{repository}/manifests/latest"), self.blobs[manifest].clone());
        }
        files
    }

    /// Writes the image as an OCI layout with the tag `latest`.
    pub(crate) fn write_layout(&self, directory: &Path) {
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        for (digest, bytes) in &self.blobs {
            fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        }
        let manifest = self.manifest.as_ref().unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest.to_string(),
            "size": self.blobs[manifest].len(), "annotations": {"org.opencontainers.image.ref.name": "latest"}}]});
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// A tar of regular files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn pack(tar: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(tar, 3).unwrap(),
    }
}

/// Bytes that look random and are always the same.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}
