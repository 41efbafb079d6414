//! One rule, and where it comes from.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// What a rule does, and what happens without one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be reached.
    Allow,
    /// It may not.
    Deny,
}

/// What a flow is carried by.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Which hosts a rule is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
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

impl Target {
    /// Whether this is about addresses, and this one is among them. IPv4 addresses in IPv6 form are IPv4 addresses.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let Self::Network { address: network, prefix } = self else {
            return false;
        };
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        let (network, prefix) = match (network.to_canonical(), network) {
            (IpAddr::V4(mapped), IpAddr::V6(_)) => match prefix.checked_sub(96) {
                Some(prefix) => (IpAddr::V4(mapped), prefix),
                None => (*network, *prefix),
            },
            _ => (*network, *prefix),
        };
        match (network, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(prefix)
            }
            _ => false,
        }
    }
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// Whether this port is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Where a rule was written, for people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Origin {
    /// `sandbox.kdl:15`, or what implied it: `agent "claude"`, `apt sources`.
    pub place: String,
    /// The rule as it was written there: `deny "gist.github.com"`.
    pub text: String,
}

/// One `allow` or `deny` about one target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
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

impl Rule {
    /// Whether this is about flows of this kind to this port.
    #[must_use]
    pub fn is_about(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|own| own == protocol) && self.ports.is_none_or(|ports| ports.contains(port))
    }

    /// Whether this is about every port and protocol.
    #[must_use]
    pub const fn is_unrestricted(&self) -> bool {
        self.protocol.is_none() && self.ports.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_cover_addresses_by_their_first_bits() {
        let covers = |network: &str, prefix, address: &str| {
            Target::Network { address: network.parse().unwrap(), prefix }.covers(address.parse().unwrap())
        };
        assert!(covers("10.1.0.0", 16, "10.1.255.255"));
        assert!(covers("10.1.0.0", 16, "::ffff:10.1.0.1"));
        assert!(!covers("10.1.0.0", 16, "10.2.0.0"));
        assert!(covers("10.1.2.3", 32, "10.1.2.3"));
        assert!(!covers("10.1.2.3", 32, "10.1.2.2"));
        assert!(covers("0.0.0.0", 0, "255.1.2.3"));
        assert!(!covers("0.0.0.0", 0, "::1"));
        assert!(!covers("::", 0, "::ffff:1.2.3.4"));
        assert!(covers("::ffff:10.0.0.0", 104, "10.9.9.9"));
        assert!(covers("fd00::", 8, "fdff::1"));
        assert!(!Target::Exact(Name::new("a").unwrap()).covers([1, 2, 3, 4].into()));
    }
}
