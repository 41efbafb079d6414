//! Credentials that never enter the sandbox: `secret`.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::span::{Span, Spanned};

/// A credential that the network puts into requests to one host.
#[derive(Clone, Debug, Serialize)]
pub struct Secret {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// The environment variable that holds the placeholder inside.
    pub name: Spanned<String>,
    /// `host`: the only host that gets it.
    pub host: Spanned<String>,
    /// `header` or `bearer`: where it goes.
    pub placement: Placement,
    /// `from`: where it comes from. Default: the host's environment variable of the same name.
    pub from: Option<Spanned<SecretSource>>,
}

impl Secret {
    /// Where the credential comes from.
    #[must_use]
    pub fn effective_source(&self) -> SecretSource {
        self.from.as_ref().map_or_else(
            || SecretSource::Environment { variable: self.name.value.clone() },
            |from| from.value.clone(),
        )
    }
}

/// Where a credential goes in a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Into the header of this name, alone.
    Header(String),
    /// Into `Authorization`, after `Bearer`.
    Bearer,
}

/// Where a credential comes from, on the host.
///
/// Serialises as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// `env:NAME`.
    Environment {
        /// The variable.
        variable: String,
    },
    /// `file:PATH`.
    File {
        /// Absolute, relative to the manifest, or beginning with `~/`.
        path: String,
    },
    /// `command:COMMAND`; its standard output, without the newline at the end.
    Command {
        /// For the user's shell.
        command: String,
    },
    /// `secret-service:KEY`, the desktop's keyring.
    SecretService {
        /// The label of the item.
        key: String,
    },
}

impl fmt::Display for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { variable } => write!(formatter, "env:{variable}"),
            Self::File { path } => write!(formatter, "file:{path}"),
            Self::Command { command } => write!(formatter, "command:{command}"),
            Self::SecretService { key } => write!(formatter, "secret-service:{key}"),
        }
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
