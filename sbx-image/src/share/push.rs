//! Pushing: layers are packed one after the other, sent where they are missing, and named by the manifest at last.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use oci_distribution::Reference;

use super::{ShareError, SharedSnapshot, artifact, tagged};
use crate::digest::{Algorithm, Digest};
use crate::hashed::Hashed;
use crate::layer::WriteTarError;
use crate::manifest::{Blob, Layer};
use crate::progress::{self, LayerEvent, Progress, Reporter};
use crate::pull::{PullError, PullOptions};
use crate::registry::{Access, Mirrors, Registry, RegistryError, Upload, length};
use crate::store::{Bucket, Staging, Store};

/// How hard zstd tries: its default, at which it packs about as fast as a disk writes.
const ZSTD_LEVEL: i32 = 3;

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What it can be found by: repository and tag.
    pub reference: String,
    /// Bytes that were sent; none if all of it was there.
    pub sent_bytes: u64,
    /// The same snapshot was there before.
    pub was_there: bool,
}

/// Pushes a snapshot, which is of the layers `below` of its image and those of its steps, to a repository. The layers are in
/// the store, and whoever pushes holds it ([`Store::hold`]).
///
/// Needs a tokio runtime with I/O and time, and a rustls crypto provider installed for the process.
///
/// # Errors
/// When the registry does not take it. What was sent stays there, and is not sent again.
pub async fn push(
    store: &Store,
    repository: &Reference,
    snapshot: &SharedSnapshot,
    below: &[Digest],
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pushed, ShareError> {
    progress::delivered(progress, |reporter| async move {
        let reference = tagged(repository, &snapshot.inputs)?;
        let configuration = artifact::configuration(snapshot);
        let config = Blob { digest: Digest::sha256(&configuration), size: length(&configuration) };
        let access = options.access();
        let done = |sent_bytes, was_there| Pushed { reference: reference.whole(), sent_bytes, was_there };
        if is_there(&reference, &config, access, &reporter).await? {
            return Ok(done(0, true));
        }
        let upload = Upload::begin(&reference, access, reporter.clone()).await?;
        let staging = Staging::new(store, Bucket::Blobs)?;
        let mut layers = Vec::with_capacity(snapshot.steps.len());
        for step in &snapshot.steps {
            let file = staging.path().join(step.layer.hex());
            let blob = pack(store, &step.layer, &file).await?;
            layers.push(Layer { diff_id: step.layer.clone(), blob_digest: blob.digest, size: blob.size });
        }
        progress.shared(&reference.whole(), &snapshot.content(below), &layers);
        let mut sent: u64 = 0;
        for (index, layer) in layers.iter().enumerate() {
            let file = staging.path().join(layer.diff_id.hex());
            sent = sent.saturating_add(send(&upload, index, layer, &file, &reporter).await?);
        }
        let file = staging.path().join("configuration");
        fs::write(&file, &configuration).map_err(|source| ShareError::Write { source })?;
        if !upload.has(&config).await? {
            upload.blob(&config, &file, &|_| {}).await?;
            sent = sent.saturating_add(config.size);
        }
        let manifest = artifact::manifest(&config, &layers, &snapshot.image)?;
        upload.manifest(&manifest, artifact::MANIFEST_TYPE).await?;
        Ok(done(sent, false))
    })
    .await
}

/// Whether the registry itself, which may be ahead of its mirrors, has this very snapshot.
async fn is_there(
    reference: &Reference,
    config: &Blob,
    access: Access<'_>,
    reporter: &Reporter,
) -> Result<bool, ShareError> {
    let mirrors = Mirrors::only(access.mirrors.origin(reference.registry()), reference.registry());
    let registry = Registry::new(reference, Access { mirrors: &mirrors, ..access }, reporter.clone())?;
    match registry.manifest(reference.tag().unwrap_or_default()).await {
        Ok((_, bytes)) => Ok(artifact::parse_manifest(&bytes).is_ok_and(|(there, _)| there == *config)),
        Err(error) if error.is_not_found() => Ok(false),
        // Who may not read may be allowed to write.
        Err(RegistryError::Denied { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends a layer, if it is not there; the bytes that were sent.
async fn send(
    upload: &Upload,
    index: usize,
    layer: &Layer,
    file: &Path,
    reporter: &Reporter,
) -> Result<u64, ShareError> {
    let blob = Blob { digest: layer.blob_digest.clone(), size: layer.size };
    if upload.has(&blob).await? {
        reporter.layer(index, LayerEvent::Reused);
        return Ok(0);
    }
    reporter.layer(index, LayerEvent::Started { total_bytes: layer.size, resumed_bytes: 0 });
    upload.blob(&blob, file, &|bytes| reporter.layer(index, LayerEvent::Received { bytes })).await?;
    reporter.layer(index, LayerEvent::Done);
    Ok(layer.size)
}

/// Packs the tar of a layer into a file.
async fn pack(store: &Store, layer: &Digest, file: &Path) -> Result<Blob, ShareError> {
    let (store, layer, file) = (store.clone(), layer.clone(), file.to_owned());
    let packed = tokio::task::spawn_blocking(move || pack_blocking(&store, &layer, &file));
    packed.await.map_err(|_| PullError::Interrupted)?
}

fn pack_blocking(store: &Store, layer: &Digest, file: &Path) -> Result<Blob, ShareError> {
    let write = |source| ShareError::Write { source };
    let file = BufWriter::new(File::create(file).map_err(write)?);
    let hashed = Hashed::new(file, Algorithm::Sha256);
    let mut encoder = zstd::Encoder::new(hashed, ZSTD_LEVEL).map_err(write)?;
    let tar = store.write_layer_tar(layer, &mut encoder);
    tar.map_err(|source: WriteTarError| ShareError::Pack { layer: layer.clone(), source })?;
    let mut hashed = encoder.finish().map_err(write)?;
    hashed.inner.flush().map_err(write)?;
    Ok(Blob { digest: hashed.hasher.finish(), size: hashed.bytes })
}
