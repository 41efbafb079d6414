//! One rule, and where it comes from.

use std::net::IpAddr;

use serde::Serialize;

use crate::name::Name;

/// What a rule does, and what happens without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be reached.
    Allow,
    /// It may not.
    Deny,
}

/// What a flow is carried by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Which hosts a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// One name.
    Exact(Name),
    /// `*.`: names with one label before this.
    OneLabel(Name),
    /// `**.`: names with at least one label before this.
    AnyDepth(Name),
    /// Addresses: those that share the first `prefix` bits.
    Network {
        /// The first address.
        address: IpAddr,
        /// Number of leading bits that count, at most 32 or 128.
        prefix: u8,
    },
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// Where a rule was written, for people.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Origin {
    /// `sandbox.kdl:15`, or what implied it: `agent "claude"`, `apt sources`.
    pub place: String,
    /// The rule as it was written there: `deny "gist.github.com"`.
    pub text: String,
}

/// One `allow` or `deny` about one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// To which hosts.
    pub target: Target,
    /// To which ports. All, if none.
    pub ports: Option<PortRange>,
    /// By which protocol. All, if none.
    pub protocol: Option<Protocol>,
    /// Where it is from.
    pub origin: Origin,
}
