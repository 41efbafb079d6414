//! The host's `resolv.conf` (resolv.conf(5)), as far as it matters: whom to ask, how long, and which domains to search.

use std::net::IpAddr;
use std::time::Duration;

use crate::name::Name;

/// Most servers, as in glibc.
const MAX_SERVERS: usize = 3;

/// Most search domains. glibc has no bound any more; each costs the guest a query for each name.
const MAX_SEARCH: usize = 16;

/// Bytes of the file that are read.
const MAX_BYTES: usize = 64 << 10;

/// Longest time-out and most attempts, as in glibc.
const MAX_TIMEOUT_SECONDS: u64 = 30;
const MAX_ATTEMPTS: u32 = 5;
const MAX_NDOTS: u32 = 15;

/// The port of name servers.
const PORT: u16 = 53;

/// A server to ask.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Server {
    /// Where it is.
    pub address: IpAddr,
    /// The interface, for link-local addresses, by its name or number.
    pub scope: Option<String>,
    /// The port, 53 unless said otherwise by whoever made this.
    pub port: u16,
}

/// What the host's resolver is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvConf {
    /// Whom to ask, in this order.
    pub servers: Vec<Server>,
    /// Domains in which short names are looked for; for the guest's own file.
    pub search: Vec<Name>,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How often to ask each.
    pub attempts: u32,
    /// Names with so many dots are not short.
    pub ndots: u32,
    /// Whether the servers take turns at being the first.
    pub rotate: bool,
    /// Whether to ask over TCP only.
    pub use_tcp: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            ndots: 1,
            rotate: false,
            use_tcp: false,
        }
    }
}

impl Server {
    fn read(text: &str) -> Option<Self> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (text, None),
        };
        Some(Self { address: address.parse().ok()?, scope, port: PORT })
    }
}

impl ResolvConf {
    /// Reads the file. Like every resolver, it passes over what it does not know.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        let end = (0..=MAX_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        for line in text.get(..end.unwrap_or(0)).unwrap_or_default().lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if read.servers.len() < MAX_SERVERS => {
                    read.servers.extend(words.next().and_then(Server::read));
                }
                // The last one counts.
                Some("search" | "domain") => {
                    read.search = words.filter_map(|word| Name::new(word).ok()).take(MAX_SEARCH).collect();
                }
                Some("options") => words.for_each(|word| read.option(word)),
                _ => {}
            }
        }
        // Without any, the one on this machine is meant.
        if read.servers.is_empty() {
            read.servers.extend(Server::read("127.0.0.1"));
        }
        read
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u32>().ok();
        match (name, number) {
            ("timeout", Some(seconds)) => {
                self.timeout = Duration::from_secs(u64::from(seconds).clamp(1, MAX_TIMEOUT_SECONDS));
            }
            ("attempts", Some(attempts)) => self.attempts = attempts.clamp(1, MAX_ATTEMPTS),
            ("ndots", Some(dots)) => self.ndots = dots.min(MAX_NDOTS),
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.use_tcp = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_resolvers_do() {
        let read = ResolvConf::parse(
            "# made by hand\n; or not\nnameserver 10.0.0.1 # first\nnameserver fe80::1%eth0\nnameserver nonsense\n\
             nameserver 2001:db8::1\nnameserver 1.1.1.1\ndomain old.example\nsearch corp.example Dev.Example. bad/\n\
             options timeout:1 attempts:99 rotate ndots:2 edns0 trust-ad timeout:x\nsortlist 1.2.3.4\n",
        );
        let servers: Vec<_> =
            read.servers.iter().map(|server| (server.address.to_string(), server.scope.as_deref())).collect();
        assert_eq!(
            servers,
            [
                ("10.0.0.1".to_owned(), None),
                ("fe80::1".to_owned(), Some("eth0")),
                ("2001:db8::1".to_owned(), None)
            ]
        );
        assert_eq!(read.search, [Name::new("corp.example").unwrap(), Name::new("dev.example").unwrap()]);
        assert_eq!((read.timeout, read.attempts, read.ndots), (Duration::from_secs(1), 5, 2));
        assert!(read.rotate && !read.use_tcp);
    }

    #[test]
    fn an_empty_or_endless_file_means_the_server_of_this_machine() {
        for text in [String::new(), "ü".repeat(100_000)] {
            let read = ResolvConf::parse(&text);
            assert_eq!(read.servers, [Server { address: [127, 0, 0, 1].into(), scope: None, port: 53 }]);
            assert_eq!((read.timeout, read.attempts), (Duration::from_secs(5), 2));
        }
    }
}
