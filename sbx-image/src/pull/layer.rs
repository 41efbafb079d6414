//! One layer: from "is it there?" to "it is there".

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::PullLimits;
use super::channel::Piece;
use super::error::{PullError, disk_full};
use super::partial::Partial;
use super::stages::{self, Job, Outcome, StoreFailure, UncompressError};
use crate::manifest::{Blob, Layer};
use crate::progress::{LayerEvent, Note, Reporter};
use crate::registry::Registry;
use crate::source::{LayerContent, Origin};
use crate::store::{Bucket, LayerRecord, Staging, Store, StoreError};

/// Pieces that may wait for the first thread. They are as large as the socket's reads, at most about 400 KiB.
const QUEUE: usize = 8;

/// Bytes that are read from a local file at a time.
const READ_BYTES: usize = 256 * 1024;

/// What all layers of a pull share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) origin: Origin,
    pub(crate) limits: PullLimits,
    pub(crate) reporter: Reporter,
}

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// False when it was in the store already.
    pub(crate) is_new: bool,
    /// Bytes that came over the network.
    pub(crate) downloaded_bytes: u64,
}

impl Context {
    /// Makes sure that the layer at `index` is in the store.
    pub(super) async fn layer(self: Arc<Self>, index: usize, layer: Layer) -> Result<Fetched, PullError> {
        let waiting = || self.reporter.layer(index, LayerEvent::Waiting);
        let _lock = self.store.lock_layer(&layer.diff_id, waiting).await?;
        if self.store.has_layer(&layer.diff_id) {
            self.reporter.layer(index, LayerEvent::Reused);
            return Ok(Fetched { is_new: false, downloaded_bytes: 0 });
        }
        let fetched = match self.fetch(index, &layer).await {
            // What an earlier pull left, or a proxy on the way, may have been damaged: from the start, once.
            Err(error) if error.may_be_transfer_fault() => {
                self.reporter.note(Note::WrongDigest { digest: layer.blob_digest.clone() });
                self.fetch(index, &layer).await?
            }
            result => result?,
        };
        self.reporter.layer(index, LayerEvent::Done);
        Ok(fetched)
    }

    async fn fetch(&self, index: usize, layer: &Layer) -> Result<Fetched, PullError> {
        let content = self.origin.layer(layer)?;
        let (blob, partial) = match &content {
            LayerContent::Remote(_, blob) => (Some(blob.clone()), Partial::open(&self.store, blob)),
            LayerContent::Local(_, blob) => (blob.clone(), None),
        };
        let resumed_bytes = partial.as_ref().map_or(0, Partial::length);
        let started = LayerEvent::Started { total_bytes: layer.size, resumed_bytes };
        self.reporter.layer(index, started);
        let staging = Staging::new(&self.store, Bucket::Layers)?;
        let (pieces, received) = mpsc::channel(QUEUE);
        let worker = self.start(layer, blob.clone(), staging, received, partial);
        let delivery = Delivery { pieces, reporter: &self.reporter, index, position: resumed_bytes };
        let delivered = match content {
            LayerContent::Remote(registry, blob) => delivery.remote(registry, &blob).await,
            LayerContent::Local(reader, _) => delivery.local(reader, layer).await,
        };
        let (staging, outcome, partial) = worker.await.map_err(|_| PullError::Interrupted)?;
        let result = judge(layer, blob.as_ref(), outcome, delivered, staging.path());
        let keep_partial = match &result {
            Err(PullError::Store(StoreError::Full { .. })) => false,
            Err(PullError::Registry(error)) => !error.is_wrong_content(),
            Err(PullError::Interrupted) => true,
            _ => false,
        };
        match result {
            Ok((record, downloaded_bytes)) => {
                // The file goes only when the layer is safe.
                self.commit(staging, record).await?;
                if let Some(partial) = partial {
                    partial.remove();
                }
                Ok(Fetched { is_new: true, downloaded_bytes })
            }
            Err(error) => {
                if let Some(partial) = partial.filter(|partial| !keep_partial || partial.length() == 0) {
                    partial.remove();
                }
                Err(error)
            }
        }
    }

    /// Starts the stages on threads of their own.
    fn start(
        &self,
        layer: &Layer,
        blob: Option<Blob>,
        staging: Staging,
        received: mpsc::Receiver<Piece>,
        partial: Option<Partial>,
    ) -> tokio::task::JoinHandle<(Staging, Outcome, Option<Partial>)> {
        let (diff_id, limits) = (layer.diff_id.clone(), self.limits.clone());
        tokio::task::spawn_blocking(move || {
            let job = Job { blob, diff_id: &diff_id, directory: staging.path(), limits: &limits };
            let (outcome, partial) = stages::run(&job, received, partial);
            (staging, outcome, partial)
        })
    }

    /// Makes the layer durable and gives it its name.
    async fn commit(&self, staging: Staging, record: LayerRecord) -> Result<(), PullError> {
        let store = self.store.clone();
        let work = move || store.commit_layer(staging, &record);
        tokio::task::spawn_blocking(work).await.map_err(|_| PullError::Interrupted)??;
        Ok(())
    }
}

/// Brings a layer's bytes to the first stage.
struct Delivery<'a> {
    pieces: mpsc::Sender<Piece>,
    reporter: &'a Reporter,
    index: usize,
    position: u64,
}

impl Delivery<'_> {
    /// Downloads the blob from where the partial file ends. Returns the bytes that came over the network.
    async fn remote(mut self, registry: &Registry, blob: &Blob) -> Result<u64, PullError> {
        let mut downloaded: u64 = 0;
        let mut download = registry.download(blob, self.position);
        while let Some(chunk) = download.next().await? {
            downloaded = downloaded.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if !self.send(chunk).await {
                return Ok(downloaded);
            }
        }
        let _ = self.pieces.send(Piece::End).await;
        Ok(downloaded)
    }

    /// Reads the blob from a file.
    async fn local(mut self, mut reader: Box<dyn Read + Send>, layer: &Layer) -> Result<u64, PullError> {
        loop {
            let read = move || {
                let mut buffer = vec![0; READ_BYTES];
                let count = reader.read(&mut buffer)?;
                buffer.truncate(count);
                Ok((reader, buffer))
            };
            let result = tokio::task::spawn_blocking(read).await.map_err(|_| PullError::Interrupted)?;
            let buffer;
            (reader, buffer) =
                result.map_err(|source| PullError::Read { layer: layer.blob_digest.clone(), source })?;
            if buffer.is_empty() {
                let _ = self.pieces.send(Piece::End).await;
                return Ok(0);
            }
            if !self.send(buffer.into()).await {
                return Ok(0);
            }
        }
    }

    /// False when nobody takes any more; the stages know why.
    async fn send(&mut self, chunk: Bytes) -> bool {
        self.position = self.position.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        self.reporter.layer(self.index, LayerEvent::Received { bytes: self.position });
        self.pieces.send(Piece::Bytes(chunk)).await.is_ok()
    }
}

/// Finds the cause among the failures, or that there is none.
fn judge(
    layer: &Layer,
    blob: Option<&Blob>,
    outcome: Outcome,
    delivered: Result<u64, PullError>,
    directory: &std::path::Path,
) -> Result<(LayerRecord, u64), PullError> {
    let name = || layer.blob_digest.clone();
    if let Err(StoreFailure::Layer(error)) = &outcome.stored
        && let Some(full) = disk_full(error)
    {
        let source = std::io::Error::new(full.kind(), full.to_string());
        return Err(StoreError::Full { path: directory.to_owned(), source }.into());
    }
    match outcome.uncompressed {
        Err(UncompressError::Length(limit)) => return Err(PullError::LayerTooLarge { layer: name(), limit }),
        Err(UncompressError::Ratio(limit)) => return Err(PullError::Bomb { layer: name(), limit }),
        _ => {}
    }
    let downloaded_bytes = delivered?;
    if let Some(source) = outcome.partial {
        return Err(PullError::Read { layer: name(), source });
    }
    if let Some(blob) = blob {
        match outcome.blob {
            Some(actual) if actual == blob.digest => {}
            Some(actual) => return Err(PullError::WrongDigest { layer: name(), actual }),
            None => return Err(PullError::Interrupted),
        }
    }
    let uncompressed_bytes = match outcome.uncompressed {
        Ok(bytes) => Some(bytes),
        Err(UncompressError::Format(source)) => return Err(PullError::Compression { layer: name(), source }),
        Err(_) => None,
    };
    match (outcome.stored, uncompressed_bytes) {
        (Err(StoreFailure::Layer(source)), _) => Err(PullError::Layer { layer: name(), source }),
        (Ok((actual, _)), Some(uncompressed_bytes)) if actual == layer.diff_id => {
            Ok((LayerRecord { diff_id: actual, uncompressed_bytes }, downloaded_bytes))
        }
        (Ok((actual, _)), Some(_)) => {
            Err(PullError::WrongDiffId { layer: name(), expected: layer.diff_id.clone(), actual })
        }
        _ => Err(PullError::Interrupted),
    }
}
