//! Hosts that are connected to without a proxy: `NO_PROXY`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::policy::Target;

/// Entries that are taken.
const MAX_ENTRIES: usize = 1024;

/// What `NO_PROXY` lists.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Exempt {
    entries: Vec<Entry>,
}

/// One of the list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Entry {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Host {
    /// `*`.
    All,
    /// A name and all below it, with or without a dot before it.
    Name(Name),
    /// An address or a network.
    Network(Target),
}

impl Exempt {
    /// Reads a list separated by commas or blanks; what is no host is passed over, as by everybody.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        Self { entries: words.filter_map(Entry::parse).take(MAX_ENTRIES).collect() }
    }

    /// Whether the host is one of the list.
    #[must_use]
    pub fn covers(&self, address: SocketAddr, name: Option<&Name>) -> bool {
        self.entries.iter().any(|entry| {
            entry.port.is_none_or(|port| port == address.port())
                && match &entry.host {
                    Host::All => true,
                    Host::Network(network) => network.covers(address.ip()),
                    Host::Name(own) => name.is_some_and(|name| name == own || name.below(own).is_some()),
                }
        })
    }
}

impl Entry {
    fn parse(word: &str) -> Option<Self> {
        if let Some(host) = Host::parse(word) {
            return Some(Self { host, port: None });
        }
        let (host, port) = word.rsplit_once(':')?;
        Some(Self { host: Host::parse(host)?, port: Some(port.parse().ok()?) })
    }
}

impl Host {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::All);
        }
        let (address, prefix) = match word.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (word.trim_start_matches('[').trim_end_matches(']'), None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(most), |prefix| prefix.parse().ok())?;
            return (prefix <= most).then_some(Self::Network(Target::Network { address, prefix }));
        }
        let name = word.strip_prefix('*').unwrap_or(word);
        Name::new(name.strip_prefix('.').unwrap_or(name)).ok().map(Self::Name)
    }
}
