//! What may be reached from the sandbox, and in it: `network`.

use serde::Serialize;

use crate::{
    span::{Span, Spanned},
    types::{HostPattern, PortRange, Protocol},
};

/// The policy.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// What happens without a rule.
    pub default: Spanned<Action>,
    /// `allow` and `deny` in the order of the file. A `deny` wins over every `allow`.
    pub rules: Vec<Rule>,
    /// `host-service`: ports of the host's localhost.
    pub host_services: Vec<HostService>,
    /// `publish`: ports of the sandbox on the host's 127.0.0.1.
    pub published: Vec<Publish>,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Allow,
    /// It is refused.
    Deny,
}

impl Action {
    /// As the manifest writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// One `allow` or `deny`.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// What it does.
    pub action: Action,
    /// To which destinations.
    pub targets: Vec<Spanned<Target>>,
    /// `port`: to which ports. Default: all.
    pub port: Option<Spanned<PortRange>>,
    /// `protocol`. Default: all.
    pub protocol: Option<Spanned<Protocol>>,
}

/// A destination of a rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// Hosts by name or address.
    Host(HostPattern),
    /// `registries`: the package registries that the image's own clients are configured for.
    Registries {
        /// Always true.
        registries: bool,
    },
}

/// A port of the host's localhost that the sandbox reaches as `host.sbx.internal`.
#[derive(Clone, Debug, Serialize)]
pub struct HostService {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// The port on both sides.
    pub port: Spanned<u16>,
}

/// A port of the sandbox that the host reaches on 127.0.0.1.
#[derive(Clone, Debug, Serialize)]
pub struct Publish {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// The port in the sandbox.
    pub port: Spanned<u16>,
    /// `as`: the port on the host, 0 if the system is to choose one. Default: the same.
    pub host_port: Option<Spanned<u16>>,
}

impl Publish {
    /// The port on the host, 0 if the system is to choose one.
    #[must_use]
    pub const fn effective_host_port(&self) -> u16 {
        match &self.host_port {
            Some(port) => port.value,
            None => self.port.value,
        }
    }
}
