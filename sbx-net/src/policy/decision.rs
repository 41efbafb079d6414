//! What was decided, why, and what to write to have it decided otherwise.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::address::AddressKind;
use super::index::Entry;
use super::rule::{Action, Origin, Protocol};
use crate::name::Name;
use crate::proxy::Refusal;

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may be connected; whether it may pass is decided again when the guest has said whom it speaks to.
    Inspect,
    /// It may not.
    Refuse,
}

/// Why it was decided so.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A rule allows it.
    Allowed,
    /// A rule denies it.
    Denied,
    /// Nothing is said about it, and what is not denied is allowed.
    NotDenied,
    /// No rule allows the name.
    NoRule,
    /// A rule allows the name, but not this port or protocol.
    OtherPort,
    /// No rule allows the address, and no allowed name was resolved to it.
    UnknownAddress,
    /// Only a rule about addresses could open an address of this kind.
    Special(AddressKind),
    /// Nothing can open an address of this kind.
    Never(AddressKind),
    /// The name decides, and the guest has not told it yet.
    NotToldYet,
    /// The guest names a host that was not resolved to this address.
    OtherHost,
    /// The guest speaks TLS or HTTP without naming the host.
    Nameless,
    /// QUIC hides the name.
    Quic,
    /// The rules allow it, and the proxy of the host has not made the connection.
    Proxy(Refusal),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => formatter.write_str("a rule allows it"),
            Self::Denied => formatter.write_str("a rule denies it"),
            Self::NotDenied => formatter.write_str("no rule denies it"),
            Self::NoRule => formatter.write_str("no rule allows this host"),
            Self::OtherPort => formatter.write_str("the host is allowed, but not on this port"),
            Self::UnknownAddress => {
                formatter.write_str("no rule allows this address, and no allowed name was resolved to it")
            }
            Self::Special(kind) => write!(formatter, "it is {kind}, which needs a rule about addresses"),
            Self::Never(kind) => write!(formatter, "it is {kind}, which no sandbox may reach"),
            Self::NotToldYet => formatter.write_str("it depends on the name of the host"),
            Self::OtherHost => {
                formatter.write_str("the host that was named was not resolved to this address")
            }
            Self::Nameless => formatter.write_str("the connection does not tell the name of its host"),
            Self::Proxy(refusal) => refusal.fmt(formatter),
            Self::Quic => formatter.write_str("QUIC hides the name of its host, only TCP shows it"),
        }
    }
}

/// A rule that would allow what was refused. Displays as the line of `sandbox.kdl`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    /// A name or an address.
    pub host: String,
    /// The port, unless the rule may be about all.
    pub port: Option<u16>,
    /// The protocol, unless the rule may be about both.
    pub protocol: Option<Protocol>,
}

impl Advice {
    /// For a name as such.
    pub(super) fn name(name: &Name) -> Self {
        Self { host: name.to_string(), port: None, protocol: None }
    }

    /// For an address as such.
    pub(super) fn address(address: IpAddr) -> Self {
        Self { host: address.to_canonical().to_string(), port: None, protocol: None }
    }

    /// Only on this port.
    pub(super) const fn on(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Only by this protocol.
    pub(super) const fn by(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and addresses have no characters that would have to be escaped.
        write!(formatter, "allow \"{}\"", self.host)?;
        if let Some(port) = self.port {
            write!(formatter, " port={port}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(formatter, " protocol=\"{protocol}\"")?;
        }
        Ok(())
    }
}

/// A verdict, with everything that a user should be told about it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Decision {
    /// What is to be done.
    pub verdict: Verdict,
    /// Where the rule that decided is written, if one did.
    pub rule: Option<Arc<Origin>>,
    /// Why.
    pub reason: Reason,
    advice: Option<Advice>,
}

impl Decision {
    /// The rule that would allow it, unless nothing could: a denial has to be taken back, not outbid.
    #[must_use]
    pub const fn advice(&self) -> Option<&Advice> {
        self.advice.as_ref()
    }

    /// Whether the verdict is [`Verdict::Allow`].
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }

    /// Whether the verdict is [`Verdict::Refuse`].
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdict == Verdict::Refuse
    }

    /// A rule decided.
    pub(super) fn by(entry: &Entry) -> Self {
        let (verdict, reason) = match entry.rule.action {
            Action::Allow => (Verdict::Allow, Reason::Allowed),
            Action::Deny => (Verdict::Refuse, Reason::Denied),
        };
        Self { verdict, rule: Some(Arc::clone(&entry.origin)), reason, advice: None }
    }

    /// No rule decided, and so it is allowed.
    pub(super) const fn not_denied() -> Self {
        Self { verdict: Verdict::Allow, rule: None, reason: Reason::NotDenied, advice: None }
    }

    /// The name decides; `rule` is the one that will allow it then.
    pub(super) fn inspect(rule: Option<&Entry>) -> Self {
        let rule = rule.map(|entry| Arc::clone(&entry.origin));
        Self { verdict: Verdict::Inspect, rule, reason: Reason::NotToldYet, advice: None }
    }

    /// The host's proxy has decided; no rule could change that.
    pub(crate) fn by_proxy(refusal: Refusal) -> Self {
        Self::refuse(Reason::Proxy(refusal), None)
    }

    /// No rule allows it.
    pub(super) fn refuse(reason: Reason, advice: impl Into<Option<Advice>>) -> Self {
        Self { verdict: Verdict::Refuse, rule: None, reason, advice: advice.into() }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.reason)?;
        match &self.rule {
            Some(origin) => write!(formatter, ": {} ({})", origin.text, origin.place),
            None => Ok(()),
        }
    }
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Decision", 4)?;
        fields.serialize_field("verdict", &self.verdict)?;
        fields.serialize_field("rule", &self.rule.as_deref())?;
        fields.serialize_field("reason", &self.reason.to_string())?;
        fields.serialize_field("advice", &self.advice.as_ref().map(Advice::to_string))?;
        fields.end()
    }
}
