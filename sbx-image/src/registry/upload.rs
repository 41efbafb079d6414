//! Writing to a registry: blobs from files, and manifests.
//!
//! The protocol is `oci_distribution`'s (distribution specification, "Pushing"). Here is what it leaves to its users: that an
//! upload which stands still ends, that one which failed is tried again, and that a failure says what to do.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use oci_distribution::errors::OciDistributionError;
use oci_distribution::{Client, Reference};
use reqwest::header::HeaderValue;

use super::client::{HttpClient, Retry};
use super::mirrors::Endpoint;
use super::{Access, Network, RegistryError, length};
use crate::manifest::Blob;
use crate::progress::Reporter;

/// Bytes that are read from a file at a time.
const READ_BYTES: usize = 256 * 1024;

/// Times that a server may be longer silent when it has everything: it hashes and stores the blob before it answers.
const STORING: u32 = 10;

/// How often an upload is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A repository that is written to.
pub(crate) struct Upload {
    client: Client,
    endpoint: Endpoint,
    reference: Reference,
    network: Network,
    reporter: Reporter,
}

impl Upload {
    /// Logs in to write to the repository of `reference`, whose tag is that of the manifest.
    pub(crate) async fn begin(
        reference: &Reference,
        access: Access<'_>,
        reporter: Reporter,
    ) -> Result<Self, RegistryError> {
        let endpoint = access.mirrors.origin(reference.registry());
        let http = HttpClient::new(std::slice::from_ref(&endpoint), access, reporter.clone())?;
        let client = http.writer(&endpoint, reference).await?;
        let (reference, network) = (reference.clone(), access.network.clone());
        Ok(Self { client, endpoint, reference, network, reporter })
    }

    /// Whether the repository has the blob.
    pub(crate) async fn has(&self, blob: &Blob) -> Result<bool, RegistryError> {
        let digest = blob.digest.to_string();
        let url = self.url(&format!("blobs/{digest}"));
        let ask = async || self.timed(&url, self.client.blob_exists(&self.reference, &digest)).await;
        self.retried(&url, ask).await
    }

    /// Writes the blob, which is the content of `file`; `sent` is told how many bytes are on their way.
    pub(crate) async fn blob(
        &self,
        blob: &Blob,
        file: &Path,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        self.retried(&url, async || self.send(&url, blob, file, sent).await).await
    }

    /// Writes the manifest under the tag of the reference.
    pub(crate) async fn manifest(&self, bytes: &[u8], media_type: &'static str) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{}", self.reference.tag().unwrap_or_default()));
        let put = async || {
            let media_type = HeaderValue::from_static(media_type);
            let put = self.client.push_manifest_raw(&self.reference, bytes.to_vec(), media_type);
            self.timed(&url, put).await
        };
        self.retried(&url, put).await.map(drop)
    }

    /// Sends a blob once.
    async fn send(
        &self,
        url: &str,
        blob: &Blob,
        file: &Path,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let read = |source| RegistryError::Read { url: url.to_owned(), source };
        let file = File::open(file).map_err(read)?;
        let sent = Arc::new(AtomicU64::new(0));
        let body = stream::try_unfold((file, Arc::clone(&sent)), |(mut file, sent)| async move {
            let piece = next_piece(&mut file)?;
            sent.fetch_add(length(&piece), Ordering::Relaxed);
            Ok::<_, OciDistributionError>((!piece.is_empty()).then_some((piece, (file, sent))))
        });
        let digest = blob.digest.to_string();
        let work = self.client.push_blob_stream(&self.reference, body, &digest, Some(blob.size));
        tokio::pin!(work);
        let stall = self.network.stall_timeout;
        let (mut before, mut silent) = (0, 0_u32);
        loop {
            match tokio::time::timeout(stall.min(TICK), &mut work).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(source)) => return Err(self.failed(url, source)),
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    told(now);
                    silent = if now > before { 0 } else { silent.saturating_add(1) };
                    before = now;
                    let patience = if now >= blob.size { stall.saturating_mul(STORING) } else { stall };
                    let waited = stall.min(TICK).saturating_mul(silent);
                    if waited >= patience {
                        return Err(RegistryError::Stalled { url: url.to_owned(), after: waited });
                    }
                }
            }
        }
    }

    /// Waits for an answer, not for ever.
    async fn timed<T>(
        &self,
        url: &str,
        work: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, RegistryError> {
        match tokio::time::timeout(self.network.stall_timeout, work).await {
            Err(_) => Err(RegistryError::Stalled { url: url.to_owned(), after: self.network.stall_timeout }),
            Ok(result) => result.map_err(|source| self.failed(url, source)),
        }
    }

    fn failed(&self, url: &str, source: OciDistributionError) -> RegistryError {
        RegistryError::write(url, self.endpoint.host(), source)
    }

    /// Tries what is done at `url`, again where that may help.
    async fn retried<T>(
        &self,
        url: &str,
        attempt: impl AsyncFn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let retry = Retry { network: &self.network, reporter: &self.reporter };
        let mut failures: u32 = 0;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    failures = failures.saturating_add(1);
                    retry.pause_or_fail(url, error, failures, None).await?;
                }
            }
        }
    }

    fn url(&self, item: &str) -> String {
        self.endpoint.url(self.reference.repository(), item)
    }
}

/// What comes next in a file; nothing at its end.
fn next_piece(file: &mut File) -> io::Result<Bytes> {
    let mut buffer = vec![0; READ_BYTES];
    let count = file.read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer.into())
}
