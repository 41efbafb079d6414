//! What can go wrong between a registry and us, and what may help.

use std::path::PathBuf;
use std::time::Duration;

use oci_distribution::errors::{OciDistributionError, OciEnvelope};
use thiserror::Error;

use super::credentials::CredentialError;
use crate::digest::Digest;

/// Why a registry did not give what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection, or it broke and could not be continued.
    #[error("{url}: {reason}")]
    Connection {
        /// What was asked for.
        url: String,
        /// What happened, in one line.
        reason: String,
        /// The whole story.
        source: reqwest::Error,
    },
    /// Nothing arrived for too long.
    #[error("{url}: nothing has arrived for {} s", after.as_secs_f32())]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer is shorter than what the manifest says.
    #[error("{url}: the server gives only {received} of {expected} bytes")]
    Truncated {
        /// What was asked for.
        url: String,
        /// Bytes that arrived.
        received: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// More bytes than the manifest says.
    #[error("{url}: the server sends more than the {expected} bytes that were announced")]
    TooLong {
        /// What was asked for.
        url: String,
        /// Bytes that were announced.
        expected: u64,
    },
    /// The server refused.
    #[error("{url}: {status}{}", separated(message))]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: reqwest::StatusCode,
        /// What the server said, in one line; may be empty.
        message: String,
    },
    /// No such image.
    #[error("{url}: not found{}; check the name and tag", separated(message))]
    NotFound {
        /// What was asked for.
        url: String,
        /// What the server said, in one line; may be empty.
        message: String,
    },
    /// The registry wants to know who we are, or does not let us.
    #[error("{url}: access denied{}; {hint}", separated(message))]
    Denied {
        /// What was asked for.
        url: String,
        /// What the server said, in one line; may be empty.
        message: String,
        /// What may help.
        hint: String,
    },
    /// The registry limits how much may be pulled.
    #[error("{url}: the registry asks to come back in {} s (rate limit); log in with `docker login`, or use a mirror", wait.as_secs())]
    RateLimited {
        /// What was asked for.
        url: String,
        /// What the server asked for.
        wait: Duration,
    },
    /// The answer is a web page.
    #[error(
        "{url}: the answer is a web page, not a registry's; is the name right, or does a proxy want a login?"
    )]
    NotARegistry {
        /// What was asked for.
        url: String,
    },
    /// What arrived is not what its digest says.
    #[error("{url}: what arrived has the digest {actual}, not {expected}")]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what arrived.
        actual: Digest,
    },
    /// The answer to the request for a token is none.
    #[error("cannot get a token for {registry}")]
    Token {
        /// Registry host.
        registry: String,
        /// What happened.
        source: OciDistributionError,
    },
    /// The credentials that are configured cannot be read.
    #[error("cannot log in at {registry}")]
    Credentials {
        /// Registry host.
        registry: String,
        /// Why.
        source: CredentialError,
    },
    /// What was to be pushed could not be read.
    #[error("cannot read what is to be pushed to {url}")]
    Read {
        /// Where it was to go.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not take what is pushed as the distribution specification has it.
    #[error("{url}: the registry does not take it ({reason})")]
    Upload {
        /// What was to be written.
        url: String,
        /// What it said, in one line.
        reason: String,
    },
    /// The server that gives tokens does not answer.
    #[error("cannot get a token for {registry}: no answer within {} s", after.as_secs())]
    TokenTimeout {
        /// Registry host.
        registry: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Several servers were asked, in vain.
    #[error("no server has it: {}", each(failures))]
    AllFailed {
        /// What each one said.
        failures: Vec<Self>,
    },
    /// A certificate file cannot be read.
    #[error("cannot read the certificates in {}", path.display())]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The HTTP client cannot be set up.
    #[error(
        "cannot set up HTTPS (are the system's CA certificates installed? Debian: apt install ca-certificates)"
    )]
    Client {
        /// Why.
        source: reqwest::Error,
    },
}

impl RegistryError {
    /// Turns the failure of a request into an error with a reason that people understand.
    pub(super) fn connection(url: &str, source: reqwest::Error) -> Self {
        let reason = innermost(&source);
        let reason = if source.is_timeout() {
            "no connection in time".to_owned()
        } else if source.is_connect() {
            format!("cannot connect: {reason}")
        } else {
            format!("the connection broke: {reason}")
        };
        Self::Connection { url: url.to_owned(), reason, source: source.without_url() }
    }

    /// The failure of a request of `oci_distribution` to write what is at `url`.
    pub(super) fn write(url: &str, registry: &str, source: OciDistributionError) -> Self {
        const REFUSED: [u16; 2] = [401, 403];
        let url = url.to_owned();
        let denied = |url, message| Self::Denied {
            url,
            message,
            hint: format!("log in with `docker login {registry}`, to an account that may write there"),
        };
        match source {
            OciDistributionError::RequestError(error) => match error.status() {
                Some(status) if REFUSED.contains(&status.as_u16()) => denied(url, String::new()),
                Some(status) => Self::Status { url, status, message: String::new() },
                None => Self::connection(&url, error),
            },
            OciDistributionError::ServerError { code, message, .. } => {
                let message = message_in(message.as_bytes(), "").unwrap_or_default();
                match reqwest::StatusCode::from_u16(code) {
                    Ok(_) if REFUSED.contains(&code) => denied(url, message),
                    Ok(status) => Self::Status { url, status, message },
                    Err(_) => Self::Upload { url, reason: message },
                }
            }
            OciDistributionError::UnauthorizedError { .. } => denied(url, String::new()),
            OciDistributionError::AuthenticationFailure(message) => {
                denied(url, message_in(message.as_bytes(), "").unwrap_or_default())
            }
            OciDistributionError::IoError(source) => Self::Read { url, source },
            other => Self::Upload { url, reason: printable(&other.to_string(), 300) },
        }
    }

    /// True when there is nothing of this name, and the registry itself says so.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::AllFailed { failures } => failures.last().is_some_and(Self::is_not_found),
            _ => false,
        }
    }

    /// True when trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. }
            | Self::Stalled { .. }
            | Self::Truncated { .. }
            | Self::TokenTimeout { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || status.as_u16() == 429 || status.as_u16() == 408
            }
            Self::Token { source, .. } => matches!(source, OciDistributionError::RequestError(_)),
            _ => false,
        }
    }

    /// True when there was no server at all, so that it is not worth waiting long for it.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Connection { source, .. } => source.is_connect(),
            _ => false,
        }
    }

    /// True when the bytes are not those that the manifest names.
    pub(crate) fn is_wrong_content(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::TooLong { .. })
    }

    /// For a log line or a note: one line, without the URL.
    pub(super) fn in_short(&self, url: &str) -> String {
        let text = self.to_string();
        text.strip_prefix(&format!("{url}: ")).map(str::to_owned).unwrap_or(text)
    }
}

/// What a server says in the body of an error, in one line for people; `None` for a web page.
pub(super) fn message_in(body: &[u8], content_type: &str) -> Option<String> {
    /// Enough for a sentence; a hostile server shall not fill the screen.
    const SHOWN: usize = 300;
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) {
        let said: Vec<String> = envelope.errors.iter().map(|error| error.message.clone()).collect();
        return Some(printable(&said.join(", "), SHOWN));
    }
    let text = String::from_utf8_lossy(body);
    let is_page = content_type.starts_with("text/html") || text.trim_start().starts_with('<');
    (!is_page).then(|| printable(text.lines().next().unwrap_or_default(), SHOWN))
}

/// Control characters could rewrite the terminal.
fn printable(text: &str, limit: usize) -> String {
    text.trim().chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn separated(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn each(failures: &[RegistryError]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The cause at the bottom, which says most ("Connection refused"), while those above repeat each other.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    printable(&current.to_string(), 300)
}
