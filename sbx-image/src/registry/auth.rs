//! Who we are to a registry: the answer to its "401 Unauthorized".
//!
//! The token exchange is `oci_distribution`'s. Only what it does not know is here: credentials of `docker login`, and
//! the identity tokens that some of them are (OAuth2 refresh tokens, distribution specification "Token Authentication").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use oci_distribution::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Client, Reference, RegistryOperation};
use reqwest::RequestBuilder;
use reqwest::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::credentials::{self, Credential};
use super::error::RegistryError;
use super::mirrors::Endpoint;
use crate::progress::{Note, Reporter};

/// Time that a token server may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer of a token server in bytes.
const MAX_TOKEN_BYTES: usize = 1024 * 1024;

/// What goes into the `Authorization` header.
#[derive(Clone)]
pub(super) enum Authorization {
    Bearer(String),
    Basic(String, String),
}

/// Keeps what each server gave us, and gets it.
pub(super) struct Authenticator {
    files: Vec<PathBuf>,
    helper_timeout: Duration,
    certificates: Vec<Vec<u8>>,
    known: Mutex<BTreeMap<String, Authorization>>,
}

/// Why there is no authorization: nothing to say, or a fault.
pub(super) enum Outcome {
    Granted(Authorization),
    /// The server wants credentials, and this is why we have none.
    NothingToSay(String),
}

impl Authenticator {
    pub(super) fn new(files: &[PathBuf], helper_timeout: Duration, certificates: Vec<Vec<u8>>) -> Self {
        Self { files: files.to_vec(), helper_timeout, certificates, known: Mutex::default() }
    }

    /// What was granted for the repository before.
    pub(super) async fn known(&self, endpoint: &Endpoint, repository: &str) -> Option<Authorization> {
        self.known.lock().await.get(&key(endpoint, repository)).cloned()
    }

    /// Answers a 401: gets a token, or finds name and password. `refused` is what was sent and not accepted.
    pub(super) async fn authenticate(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        challenge: &str,
        http: &reqwest::Client,
        reporter: &Reporter,
    ) -> Result<Outcome, RegistryError> {
        let mut known = self.known.lock().await;
        let found = credentials::look_up(&self.files, endpoint.host(), self.helper_timeout).await;
        let (credential, hint) = match found {
            Ok(Some(credential)) => (Some(credential), "the stored credentials were not accepted".to_owned()),
            Ok(None) => (None, format!("log in with `docker login {}`", endpoint.host())),
            Err(error) => {
                let reason = error.to_string();
                reporter
                    .note(Note::Credentials { registry: endpoint.host().to_owned(), reason: reason.clone() });
                (None, reason)
            }
        };
        let granted = match credential {
            Some(Credential::Identity(token)) => {
                let repository = endpoint.repository(repository);
                let scope = Scope { repository: &repository, actions: "pull" };
                exchange(http, endpoint, scope, challenge, &token).await?
            }
            Some(Credential::Password(user, password)) => {
                let auth = RegistryAuth::Basic(user.clone(), password.clone());
                let token = self.token(endpoint, repository, &auth).await?;
                Some(token.unwrap_or(Authorization::Basic(user, password)))
            }
            None => self.token(endpoint, repository, &RegistryAuth::Anonymous).await?,
        };
        let Some(granted) = granted else { return Ok(Outcome::NothingToSay(hint)) };
        known.insert(key(endpoint, repository), granted.clone());
        Ok(Outcome::Granted(granted))
    }

    /// A client that may write to the repository of `reference`, which is at `endpoint`.
    pub(super) async fn writer(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        http: &reqwest::Client,
    ) -> Result<Client, RegistryError> {
        let (registry, operation) = (endpoint.host().to_owned(), RegistryOperation::Push);
        let found = credentials::look_up(&self.files, endpoint.host(), self.helper_timeout).await;
        let found =
            found.map_err(|source| RegistryError::Credentials { registry: registry.clone(), source })?;
        let auth = match found {
            None => RegistryAuth::Anonymous,
            Some(Credential::Password(user, password)) => RegistryAuth::Basic(user, password),
            Some(Credential::Identity(token)) => {
                let challenge = challenge_of(http, endpoint).await?;
                let scope = Scope { repository: reference.repository(), actions: "pull,push" };
                match exchange(http, endpoint, scope, &challenge, &token).await? {
                    Some(Authorization::Bearer(token)) => RegistryAuth::Bearer(token),
                    _ => RegistryAuth::Anonymous,
                }
            }
        };
        // An upload has no answer for as long as it takes; whoever uploads watches that it goes on.
        let client = self.client(endpoint, None)?;
        match tokio::time::timeout(TOKEN_TIMEOUT, client.auth(reference, &auth, operation)).await {
            Err(_) => Err(RegistryError::TokenTimeout { registry, after: TOKEN_TIMEOUT }),
            Ok(Err(source)) => Err(RegistryError::Token { registry, source }),
            Ok(Ok(_)) => Ok(client),
        }
    }

    /// A client of the library's for `endpoint`.
    fn client(&self, endpoint: &Endpoint, read_timeout: Option<Duration>) -> Result<Client, RegistryError> {
        let registry = endpoint.host().to_owned();
        let insecure = if endpoint.is_secure() { Vec::new() } else { vec![registry.clone()] };
        Client::try_from(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(insecure),
            extra_root_certificates: self
                .certificates
                .iter()
                .map(|data| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() })
                .collect(),
            connect_timeout: Some(TOKEN_TIMEOUT),
            read_timeout,
            use_monolithic_push: true,
            user_agent: super::USER_AGENT,
            ..ClientConfig::default()
        })
        .map_err(|source| RegistryError::Token { registry, source })
    }

    /// Gets a bearer token; `None` when the registry does not use tokens.
    async fn token(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        auth: &RegistryAuth,
    ) -> Result<Option<Authorization>, RegistryError> {
        let registry = endpoint.host().to_owned();
        let client = self.client(endpoint, Some(TOKEN_TIMEOUT))?;
        let reference =
            Reference::with_tag(registry.clone(), endpoint.repository(repository), "latest".to_owned());
        let exchange = client.auth(&reference, auth, RegistryOperation::Pull);
        match tokio::time::timeout(TOKEN_TIMEOUT, exchange).await {
            Err(_) => Err(RegistryError::TokenTimeout { registry, after: TOKEN_TIMEOUT }),
            Ok(Err(source)) => Err(RegistryError::Token { registry, source }),
            Ok(Ok(token)) => Ok(token.map(Authorization::Bearer)),
        }
    }
}

impl Authorization {
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Bearer(token) => request.bearer_auth(token),
            Self::Basic(user, password) => request.basic_auth(user, Some(password)),
        }
    }
}

/// The two names that token servers use for the same thing.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    token: Option<String>,
}

/// What a token is to be good for.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    repository: &'a str,
    /// `pull`, or `pull,push`.
    actions: &'static str,
}

/// What the server says of who gives tokens.
async fn challenge_of(http: &reqwest::Client, endpoint: &Endpoint) -> Result<String, RegistryError> {
    let url = format!("{endpoint}v2/");
    match tokio::time::timeout(TOKEN_TIMEOUT, http.get(&url).send()).await {
        Err(_) => {
            Err(RegistryError::TokenTimeout { registry: endpoint.host().to_owned(), after: TOKEN_TIMEOUT })
        }
        Ok(Err(source)) => Err(RegistryError::connection(&url, source)),
        Ok(Ok(response)) => Ok(super::client::header(&response, &WWW_AUTHENTICATE)),
    }
}

/// Exchanges an identity token for an access token at the server that `challenge` names.
async fn exchange(
    http: &reqwest::Client,
    endpoint: &Endpoint,
    scope: Scope<'_>,
    challenge: &str,
    identity: &str,
) -> Result<Option<Authorization>, RegistryError> {
    let Some(realm) = parameter(challenge, "realm") else { return Ok(None) };
    let scope = format!("repository:{}:{}", scope.repository, scope.actions);
    let service = parameter(challenge, "service").unwrap_or_default();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "sbx"),
        ("service", service.as_str()),
        ("scope", scope.as_str()),
        ("refresh_token", identity),
    ];
    let answered = async {
        let response = http.post(&realm).form(&form).send().await?;
        super::client::read_body(response, MAX_TOKEN_BYTES).await
    };
    let registry = endpoint.host().to_owned();
    let body = match tokio::time::timeout(TOKEN_TIMEOUT, answered).await {
        Err(_) => return Err(RegistryError::TokenTimeout { registry, after: TOKEN_TIMEOUT }),
        Ok(body) => body.map_err(|source| RegistryError::connection(&realm, source))?,
    };
    let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
    Ok(answer.and_then(|answer| answer.access_token.or(answer.token)).map(Authorization::Bearer))
}

/// The quoted parameter `name` of a `WWW-Authenticate: Bearer` header.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let parameters = challenge.strip_prefix("Bearer ").or_else(|| challenge.strip_prefix("bearer "))?;
    let (_, after) = parameters.split_once(&format!("{name}=\""))?;
    after.split_once('"').map(|(value, _)| value.to_owned())
}

fn key(endpoint: &Endpoint, repository: &str) -> String {
    format!("{endpoint}{repository}")
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authenticator").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge() {
        let challenge = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="a,b""#;
        assert_eq!(parameter(challenge, "realm").unwrap(), "https://auth.example/token");
        assert_eq!(parameter(challenge, "service").unwrap(), "registry.example");
        assert_eq!(parameter(challenge, "error"), None);
        assert_eq!(parameter(r#"Basic realm="x""#, "realm"), None);
    }
}
