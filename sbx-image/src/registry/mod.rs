//! Registries: the client side of the OCI distribution specification, for pulling, and for pushing shared snapshots.
//!
//! `oci_distribution` gives the names, the token exchange and the format of errors. The transport is ours, because a
//! pull must know what its interface hides: how long a server asks us to wait, whether a range was honoured, and when
//! an answer is longer than it may be.
//!
//! Every item is asked for at the registry's mirrors in turn and then at the registry. All of it is named by digest
//! (or becomes so once the tag is resolved), so it does not matter who delivers it, and a download that breaks off at
//! one server goes on at the next.

mod auth;
mod client;
mod credentials;
mod error;
mod mirrors;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use oci_distribution::Reference;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName};
use reqwest::{Response, StatusCode};

use crate::digest::Digest;
use crate::manifest::{Blob, MAX_MANIFEST_BYTES};
use crate::progress::{Note, Reporter};
use client::{HttpClient, Request, header};

pub use credentials::CredentialError;
pub use error::RegistryError;
pub use mirrors::{Endpoint, MirrorError, Mirrors};
pub(crate) use upload::Upload;

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("sbx/", env!("CARGO_PKG_VERSION"));

/// Manifests that we can read.
const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Blobs may be anything.
const ACCEPT_BLOB: &str = "application/octet-stream, */*";

/// How patient we are with servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Times that a request is tried on one server before giving up on it.
    pub attempts: u32,
    /// Pause after the first failure; each further one is twice as long, give or take a quarter.
    pub first_delay: Duration,
    /// Longest pause, and the longest that a server may ask for with `Retry-After`.
    pub longest_wait: Duration,
    /// Time without a single byte after which a connection counts as broken.
    pub stall_timeout: Duration,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time that a credential helper may take.
    pub helper_timeout: Duration,
}

/// A repository in a registry, reached through mirrors or directly.
#[derive(Debug)]
pub(crate) struct Registry {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    repository: String,
    reporter: Reporter,
}

/// Access to registries: what the user configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) mirrors: &'a Mirrors,
    pub(crate) ca_files: &'a [std::path::PathBuf],
    pub(crate) credential_files: &'a [std::path::PathBuf],
    pub(crate) network: &'a Network,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_delay: Duration::from_millis(250),
            longest_wait: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            helper_timeout: Duration::from_secs(30),
        }
    }
}

impl Network {
    /// The pause after failure number `failures`: exponential, with jitter so that many clients do not come back at
    /// the same moment.
    fn delay(&self, failures: u32) -> Duration {
        let doubled = self.first_delay.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let capped = doubled.min(self.longest_wait);
        let jitter = 75 + u32::from(blake3::hash(&now_nanoseconds().to_le_bytes()).as_bytes()[0]) % 51;
        capped * jitter / 100
    }
}

impl Registry {
    /// Prepares to talk to the registry of `reference`; connects to nothing yet.
    pub(crate) fn new(
        reference: &Reference,
        access: Access<'_>,
        reporter: Reporter,
    ) -> Result<Self, RegistryError> {
        let endpoints = access.mirrors.endpoints(reference.registry());
        Ok(Self {
            client: HttpClient::new(&endpoints, access, reporter.clone())?,
            endpoints,
            repository: reference.repository().to_owned(),
            reporter,
        })
    }

    /// Fetches the manifest called `name` (a tag, or a digest that it is checked against).
    pub(crate) async fn manifest(&self, name: &str) -> Result<(Digest, Vec<u8>), RegistryError> {
        let item = format!("manifests/{name}");
        let mut failures = Vec::new();
        for endpoint in &self.endpoints {
            match self.manifest_from(endpoint, &item, name.parse().ok()).await {
                Ok(found) => return Ok(found),
                Err(error) => self.give_up_on(endpoint, error, &mut failures),
            }
        }
        Err(all_failed(failures))
    }

    /// Fetches a small blob completely.
    pub(crate) async fn blob(&self, blob: &Blob) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut download = self.download(blob, 0);
        while let Some(chunk) = download.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        let actual = blob.digest.of_same_kind(&bytes);
        if actual != blob.digest {
            let (url, expected) = (download.url(), blob.digest.clone());
            return Err(RegistryError::WrongDigest { url, expected, actual });
        }
        Ok(bytes)
    }

    /// Begins to fetch a blob from byte `offset` on. The caller checks the digest.
    pub(crate) fn download(&self, blob: &Blob, offset: u64) -> Download<'_> {
        Download {
            registry: self,
            item: format!("blobs/{}", blob.digest),
            size: blob.size,
            position: offset,
            endpoint: 0,
            response: None,
            fruitless: 0,
            failures: Vec::new(),
        }
    }

    async fn manifest_from(
        &self,
        endpoint: &Endpoint,
        item: &str,
        expected: Option<Digest>,
    ) -> Result<(Digest, Vec<u8>), RegistryError> {
        let url = endpoint.url(&self.repository, item);
        let mut failures = 0;
        loop {
            let request = Request { repository: &self.repository, item, accept: ACCEPT_MANIFEST, offset: 0 };
            let response = self.client.get(endpoint, request).await?;
            let read = self.read_manifest(&url, response).await;
            match read {
                Ok((bytes, announced)) => return check_manifest(url, bytes, announced, expected),
                Err(error) => {
                    failures += 1;
                    self.client.pause_or_fail(&url, error, failures, None).await?;
                }
            }
        }
    }

    /// Reads a manifest's body, and the digest that the server says it has.
    async fn read_manifest(
        &self,
        url: &str,
        mut response: Response,
    ) -> Result<(Vec<u8>, Option<Digest>), RegistryError> {
        if header(&response, &CONTENT_TYPE).starts_with("text/html") {
            return Err(RegistryError::NotARegistry { url: url.to_owned() });
        }
        let announced = header(&response, &HeaderName::from_static("docker-content-digest")).parse().ok();
        let mut bytes = Vec::new();
        while let Some(chunk) = self.client.next_chunk(url, &mut response).await? {
            bytes.extend_from_slice(&chunk);
            if length(&bytes) > MAX_MANIFEST_BYTES {
                return Err(RegistryError::TooLong { url: url.to_owned(), expected: MAX_MANIFEST_BYTES });
            }
        }
        Ok((bytes, announced))
    }

    fn give_up_on(&self, endpoint: &Endpoint, error: RegistryError, failures: &mut Vec<RegistryError>) {
        if self.endpoints.last() != Some(endpoint) {
            self.reporter
                .note(Note::MirrorFailed { mirror: endpoint.to_string(), reason: error.to_string() });
        }
        failures.push(error);
    }
}

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Download<'a> {
    registry: &'a Registry,
    item: String,
    size: u64,
    position: u64,
    /// Index of the server that is asked now.
    endpoint: usize,
    response: Option<Response>,
    /// Failures since the last byte arrived.
    fruitless: u32,
    failures: Vec<RegistryError>,
}

impl Download<'_> {
    /// The next bytes; `None` at the end. Breaks are mended here: the caller sees every byte once and in order.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.position < self.size {
            let Some(endpoint) = self.registry.endpoints.get(self.endpoint) else {
                return Err(all_failed(std::mem::take(&mut self.failures)));
            };
            let url = endpoint.url(&self.registry.repository, &self.item);
            match self.step(endpoint, &url).await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.fruitless = 0;
                    self.position = self.position.saturating_add(length(&chunk));
                    return Ok(Some(chunk));
                }
                Err((error, exhausted)) => self.recover(endpoint, &url, error, exhausted).await,
            }
        }
        Ok(None)
    }

    /// The URL that is being read, for errors.
    pub(crate) fn url(&self) -> String {
        let endpoint = self.registry.endpoints.get(self.endpoint).or_else(|| self.registry.endpoints.last());
        endpoint.map(|endpoint| endpoint.url(&self.registry.repository, &self.item)).unwrap_or_default()
    }

    /// Connects if need be, and reads. The flag in the error says that this server was tried often enough.
    async fn step(&mut self, endpoint: &Endpoint, url: &str) -> Result<Bytes, (RegistryError, bool)> {
        let chunk = match &mut self.response {
            Some(response) => {
                self.registry.client.next_chunk(url, response).await.map_err(|error| (error, false))?
            }
            None => {
                let (mut response, leftover) = self.open(endpoint, url).await?;
                let chunk = match leftover {
                    Some(chunk) => Some(chunk),
                    None => self
                        .registry
                        .client
                        .next_chunk(url, &mut response)
                        .await
                        .map_err(|error| (error, false))?,
                };
                self.response = Some(response);
                chunk
            }
        };
        match chunk {
            Some(chunk) if length(&chunk) > self.size.saturating_sub(self.position) => {
                Err((RegistryError::TooLong { url: url.to_owned(), expected: self.size }, false))
            }
            Some(chunk) => Ok(chunk),
            None => Err((self.truncated(url), false)),
        }
    }

    /// Asks for what is missing. When the server does not know ranges, what we have is skipped; the rest of the piece
    /// in which that ends comes back too.
    async fn open(
        &self,
        endpoint: &Endpoint,
        url: &str,
    ) -> Result<(Response, Option<Bytes>), (RegistryError, bool)> {
        let repository = self.registry.repository.as_str();
        let offset = self.position;
        let request = Request { repository, item: &self.item, accept: ACCEPT_BLOB, offset };
        let client = &self.registry.client;
        let mut response = client.get(endpoint, request).await.map_err(|error| (error, true))?;
        let is_partial = response.status() == StatusCode::PARTIAL_CONTENT;
        if is_partial && !header(&response, &CONTENT_RANGE).starts_with(&format!("bytes {offset}-")) {
            return Err((self.truncated(url), true));
        }
        let mut skip = if is_partial { 0 } else { offset };
        let announced: Option<u64> = header(&response, &CONTENT_LENGTH).parse().ok();
        let awaited = self.size.saturating_sub(offset).saturating_add(skip);
        match announced {
            Some(bytes) if bytes > awaited => {
                return Err((RegistryError::TooLong { url: url.to_owned(), expected: self.size }, true));
            }
            // Trying again would not make the blob longer.
            Some(bytes) if bytes < awaited => {
                let received = self.size.saturating_sub(awaited.saturating_sub(bytes));
                return Err((
                    RegistryError::Truncated { url: url.to_owned(), received, expected: self.size },
                    true,
                ));
            }
            _ => {}
        }
        while skip > 0 {
            let chunk = client.next_chunk(url, &mut response).await.map_err(|error| (error, false))?;
            let Some(mut chunk) = chunk else { return Err((self.truncated(url), false)) };
            if length(&chunk) > skip {
                return Ok((response, Some(chunk.split_off(usize::try_from(skip).unwrap_or(usize::MAX)))));
            }
            skip = skip.saturating_sub(length(&chunk));
        }
        Ok((response, None))
    }

    /// After a failure: waits for the next try on this server, or goes to the next one.
    async fn recover(&mut self, endpoint: &Endpoint, url: &str, error: RegistryError, exhausted: bool) {
        self.response = None;
        self.fruitless += 1;
        let outcome = match exhausted {
            true => Err(error),
            false => self.registry.client.pause_or_fail(url, error, self.fruitless, None).await,
        };
        if let Err(error) = outcome {
            self.registry.give_up_on(endpoint, error, &mut self.failures);
            self.endpoint += 1;
            self.fruitless = 0;
        }
    }

    fn truncated(&self, url: &str) -> RegistryError {
        RegistryError::Truncated { url: url.to_owned(), received: self.position, expected: self.size }
    }
}

fn check_manifest(
    url: String,
    bytes: Vec<u8>,
    announced: Option<Digest>,
    expected: Option<Digest>,
) -> Result<(Digest, Vec<u8>), RegistryError> {
    for expected in [expected.clone(), announced].into_iter().flatten() {
        let actual = expected.of_same_kind(&bytes);
        if actual != expected {
            return Err(RegistryError::WrongDigest { url, expected, actual });
        }
    }
    Ok((expected.unwrap_or_else(|| Digest::sha256(&bytes)), bytes))
}

/// What to tell when nobody had it: the registry's own answer says most; those of mirrors matter when there are any.
fn all_failed(mut failures: Vec<RegistryError>) -> RegistryError {
    match (failures.pop(), failures.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            failures.push(last);
            RegistryError::AllFailed { failures }
        }
        (None, _) => RegistryError::AllFailed { failures },
    }
}

pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn now_nanoseconds() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos())
}
