//! One request to one server, and the retries around it.

use std::path::PathBuf;
use std::time::Duration;

use oci_distribution::Reference;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};

use super::auth::{Authenticator, Authorization, Outcome};
use super::error::{RegistryError, message_in};
use super::mirrors::Endpoint;
use super::{Access, Network};
use crate::progress::{Note, Reporter};

/// Largest part of an error's body that is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// An HTTP client with credentials and manners.
#[derive(Debug)]
pub(super) struct HttpClient {
    /// For servers elsewhere: through a proxy, where one is configured.
    proxied: reqwest::Client,
    /// For this machine, which no proxy can reach.
    direct: reqwest::Client,
    authenticator: Authenticator,
    network: Network,
    reporter: Reporter,
}

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) repository: &'a str,
    /// `manifests/…` or `blobs/…`.
    pub(super) item: &'a str,
    /// Media types that are understood, for `Accept`.
    pub(super) accept: &'static str,
    /// First byte that is wanted.
    pub(super) offset: u64,
}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry<'a> {
    pub(super) network: &'a Network,
    pub(super) reporter: &'a Reporter,
}

impl Retry<'_> {
    /// Sleeps before the next try after failure number `failures`, or gives `error` back when there is none.
    pub(super) async fn pause_or_fail(
        self,
        url: &str,
        error: RegistryError,
        failures: u32,
        retry_after: Option<Duration>,
    ) -> Result<(), RegistryError> {
        // A server that is not there will hardly be there in a minute; one that is overloaded may recover.
        let attempts =
            if error.is_unreachable() { self.network.attempts.min(3) } else { self.network.attempts };
        if !error.is_transient() || failures >= attempts {
            return Err(error);
        }
        let delay = match retry_after {
            Some(wait) if wait > self.network.longest_wait => {
                return Err(RegistryError::RateLimited { url: url.to_owned(), wait });
            }
            Some(wait) => wait,
            None => self.network.delay(failures),
        };
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.reporter.note(Note::Retry { url: url.to_owned(), reason: error.in_short(url), delay_ms });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

impl HttpClient {
    /// Sets up what is needed to talk to `endpoints`.
    pub(super) fn new(
        endpoints: &[Endpoint],
        access: Access<'_>,
        reporter: Reporter,
    ) -> Result<Self, RegistryError> {
        let certificates = read_certificates(access.ca_files)?;
        let build = |local: bool| {
            let mut parsed = Vec::with_capacity(certificates.len());
            for certificate in &certificates {
                parsed.push(reqwest::Certificate::from_pem(certificate)?);
            }
            let builder = reqwest::Client::builder()
                .user_agent(super::USER_AGENT)
                .connect_timeout(access.network.connect_timeout)
                .tls_certs_merge(parsed);
            if local { builder.no_proxy().build() } else { builder.build() }
        };
        let failed = |source| RegistryError::Client { source };
        let local = endpoints.iter().any(Endpoint::is_loopback);
        let remote = endpoints.iter().any(|endpoint| !endpoint.is_loopback());
        // One that is not needed is not made: each reads the system's certificates.
        let direct = build(local).map_err(failed)?;
        let proxied = if local && remote { build(false).map_err(failed)? } else { direct.clone() };
        let network = access.network.clone();
        let authenticator = Authenticator::new(access.credential_files, network.helper_timeout, certificates);
        Ok(Self { proxied, direct, authenticator, network, reporter })
    }

    fn client(&self, endpoint: &Endpoint) -> &reqwest::Client {
        if endpoint.is_loopback() { &self.direct } else { &self.proxied }
    }

    /// A client that may write to the repository of `reference`, which is at `endpoint`.
    pub(super) async fn writer(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
    ) -> Result<oci_distribution::Client, RegistryError> {
        self.authenticator.writer(endpoint, reference, self.client(endpoint)).await
    }

    /// Asks `endpoint`, again where that may help, until there is an answer with a body to read.
    pub(super) async fn get(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
    ) -> Result<Response, RegistryError> {
        let url = endpoint.url(request.repository, request.item);
        let mut failures = 0;
        loop {
            let (error, retry_after) = match self.try_get(endpoint, &url, request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            failures += 1;
            self.pause_or_fail(&url, error, failures, retry_after).await?;
        }
    }

    /// Sleeps before the next try after failure number `failures`, or gives `error` back when there is none.
    pub(super) async fn pause_or_fail(
        &self,
        url: &str,
        error: RegistryError,
        failures: u32,
        retry_after: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let retry = Retry { network: &self.network, reporter: &self.reporter };
        retry.pause_or_fail(url, error, failures, retry_after).await
    }

    /// Waits for the next piece of a body, not for ever.
    pub(super) async fn next_chunk(
        &self,
        url: &str,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, RegistryError> {
        match tokio::time::timeout(self.network.stall_timeout, response.chunk()).await {
            Err(_) => Err(RegistryError::Stalled { url: url.to_owned(), after: self.network.stall_timeout }),
            Ok(chunk) => chunk.map_err(|source| RegistryError::connection(url, source)),
        }
    }

    /// One request, or two when the first is answered with 401.
    async fn try_get(
        &self,
        endpoint: &Endpoint,
        url: &str,
        request: Request<'_>,
    ) -> Result<Response, (RegistryError, Option<Duration>)> {
        let known = self.authenticator.known(endpoint, request.repository).await;
        let response =
            self.send(endpoint, url, request, known.as_ref()).await.map_err(|error| (error, None))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return check(url, response).await;
        }
        let challenge = header(&response, &WWW_AUTHENTICATE);
        let denied = check(url, response).await.err();
        let outcome = self
            .authenticator
            .authenticate(endpoint, request.repository, &challenge, self.client(endpoint), &self.reporter)
            .await
            .map_err(|error| (error, None))?;
        match (outcome, denied) {
            (Outcome::Granted(authorization), _) => {
                let response = self
                    .send(endpoint, url, request, Some(&authorization))
                    .await
                    .map_err(|error| (error, None))?;
                check(url, response).await
            }
            (Outcome::NothingToSay(hint), Some((RegistryError::Denied { url, message, .. }, _))) => {
                Err((RegistryError::Denied { url, message, hint }, None))
            }
            (Outcome::NothingToSay(hint), _) => {
                Err((RegistryError::Denied { url: url.to_owned(), message: String::new(), hint }, None))
            }
        }
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        url: &str,
        request: Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RegistryError> {
        let mut builder = self.client(endpoint).get(url).header(ACCEPT, request.accept);
        if request.offset > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", request.offset));
        }
        if let Some(authorization) = authorization {
            builder = authorization.apply(builder);
        }
        match tokio::time::timeout(self.network.stall_timeout, builder.send()).await {
            Err(_) => Err(RegistryError::Stalled { url: url.to_owned(), after: self.network.stall_timeout }),
            Ok(sent) => sent.map_err(|source| RegistryError::connection(url, source)),
        }
    }
}

/// Reads a body of at most `limit` bytes; what is longer is cut off.
pub(super) async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    Ok(body)
}

/// Turns every answer but 200 and 206 into an error, with the time that the server asks to wait.
async fn check(url: &str, response: Response) -> Result<Response, (RegistryError, Option<Duration>)> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(response);
    }
    let retry_after = header(&response, &RETRY_AFTER).parse().ok().map(Duration::from_secs);
    let content_type = header(&response, &CONTENT_TYPE);
    // The body only explains; an error while reading it is not worth telling.
    let body = tokio::time::timeout(Duration::from_secs(5), read_body(response, MAX_ERROR_BYTES)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let (url, message) = (url.to_owned(), message_in(&body, &content_type));
    let error = match (status, message) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, message) => RegistryError::Denied {
            url,
            message: message.unwrap_or_default(),
            hint: "the name may be wrong, or your account may not see it".to_owned(),
        },
        (StatusCode::NOT_FOUND, Some(message)) => RegistryError::NotFound { url, message },
        (status, None) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            RegistryError::NotARegistry { url }
        }
        (status, message) => RegistryError::Status { url, status, message: message.unwrap_or_default() },
    };
    Err((error, retry_after))
}

/// A header's text; empty when it is missing.
pub(super) fn header(response: &Response, name: &reqwest::header::HeaderName) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The certificates in PEM files, one by one, because the clients take them so.
fn read_certificates(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, RegistryError> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut certificates = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RegistryError::CertificateFile { path: path.clone(), source })?;
        let pieces = text.split_inclusive(END).filter(|piece| piece.contains(END));
        certificates.extend(pieces.map(|piece| piece.as_bytes().to_vec()));
    }
    Ok(certificates)
}
