//! User names and passwords for registries, from where `docker login` and `podman login` put them.
//!
//! The files are the user's own. They may name a credential helper, a program that is asked for the password; nothing
//! in a repository can do that.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use thiserror::Error;
use tokio::sync::oneshot;

/// The name by which credentials for Docker Hub are stored, whichever of its hosts is meant.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a user has for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User name and password.
    Password(String, String),
    /// A token that can be exchanged for access tokens.
    Identity(String),
}

/// Why credentials that are configured cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what `docker login` writes, or the helper failed.
    #[error("{} has no usable credentials for {registry}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The registry's host.
        registry: String,
        /// What is wrong, in one line.
        reason: String,
    },
    /// The helper program does not answer.
    #[error("the credential helper named in {} did not answer within {} s", path.display(), timeout.as_secs())]
    HelperTimeout {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        timeout: Duration,
    },
}

/// Looks up what the user has for `registry` (a host with port): the first of `files` that has something wins.
pub(crate) async fn look_up(
    files: &[PathBuf],
    registry: &str,
    timeout: Duration,
) -> Result<Option<Credential>, CredentialError> {
    for path in files {
        for name in names(registry) {
            if let Some(credential) = look_up_in(path, name, registry, timeout).await? {
                return Ok(Some(credential));
            }
        }
    }
    Ok(None)
}

/// The names under which `registry` may stand in a file.
fn names(registry: &str) -> Vec<&str> {
    match registry {
        "registry-1.docker.io" | "index.docker.io" | "docker.io" => vec![HUB_KEY, "docker.io"],
        other => vec![other],
    }
}

async fn look_up_in(
    path: &Path,
    name: &str,
    registry: &str,
    timeout: Duration,
) -> Result<Option<Credential>, CredentialError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    // The helper may hang (a locked key ring with no one to unlock it), so it is asked on a thread that we can leave.
    let (answer, answered) = oneshot::channel();
    let server = name.to_owned();
    std::thread::spawn(move || {
        let _ = answer.send(docker_credential::get_credential_from_reader(BufReader::new(file), &server));
    });
    let unusable = |reason: String| {
        let (path, registry) = (path.to_owned(), registry.to_owned());
        CredentialError::Unusable { path, registry, reason }
    };
    match tokio::time::timeout(timeout, answered).await {
        Err(_) => Err(CredentialError::HelperTimeout { path: path.to_owned(), timeout }),
        Ok(Err(_)) => Err(unusable("the helper cannot be run".to_owned())),
        Ok(Ok(Ok(DockerCredential::UsernamePassword(user, password)))) => {
            Ok(Some(Credential::Password(user, password)))
        }
        Ok(Ok(Ok(DockerCredential::IdentityToken(token)))) => Ok(Some(Credential::Identity(token))),
        Ok(Ok(Err(error))) if means_none(&error) => Ok(None),
        Ok(Ok(Err(error))) => Err(unusable(reason(&error))),
    }
}

/// Helpers say that they have nothing by failing with this text, which the helper protocol fixes.
fn means_none(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured => true,
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. } => {
            [stdout, stderr].iter().any(|text| text.contains("credentials not found"))
        }
        _ => false,
    }
}

/// One line, without what a helper printed besides: it might be a secret.
fn reason(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, stderr, .. } => {
            let said = stderr.lines().next().unwrap_or("it said nothing");
            format!("{helper} failed: {}", said.chars().take(200).collect::<String>())
        }
        CredentialRetrievalError::ConfigReadError => "the file is not valid JSON".to_owned(),
        other => other.to_string(),
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(user, _) => write!(formatter, "Password({user:?}, …)"),
            Self::Identity(_) => write!(formatter, "Identity(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn looked_up(config: &str, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, config).unwrap();
        look_up(&[directory.path().join("missing.json"), path], registry, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn passwords_of_docker_login() {
        // base64 of ann:secret
        let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOnNlY3JldA=="},
            "r.example:5000":{"auth":"YW5uOnNlY3JldA=="},"t.example":{"identitytoken":"abc"}}}"#;
        let ann = Some(Credential::Password("ann".to_owned(), "secret".to_owned()));
        assert_eq!(looked_up(config, "registry-1.docker.io").await.unwrap(), ann);
        assert_eq!(looked_up(config, "r.example:5000").await.unwrap(), ann);
        assert_eq!(
            looked_up(config, "t.example").await.unwrap(),
            Some(Credential::Identity("abc".to_owned()))
        );
        assert_eq!(looked_up(config, "other.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_helper_that_is_missing_is_named() {
        let config = r#"{"credHelpers":{"r.example":"sbx-test-missing"}}"#;
        let error = looked_up(config, "r.example").await.unwrap_err().to_string();
        assert!(error.contains("r.example"), "{error}");
        assert_eq!(looked_up(config, "other.example").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error() {
        let error = looked_up("{", "r.example").await.unwrap_err().to_string();
        assert!(error.ends_with("the file is not valid JSON"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let password = Credential::Password("ann".to_owned(), "secret".to_owned());
        assert!(!format!("{password:?}").contains("secret"));
    }
}
