//! The proxies through which this host reaches others, and the dialogue with them, without I/O.
//!
//! ```text
//! address, name ─▶ Proxies::choose ─▶ Proxy ─▶ Dialogue ◀──bytes──▶ driver
//!                                                 └─▶ Progress { Wait | Send | Open | Refused }
//! ```
//! Which connections go through which proxy is what curl and most others understand by the variables: port 80 by `HTTP_PROXY`,
//! port 443 by `HTTPS_PROXY`, what neither is for by `ALL_PROXY`, and nothing that `NO_PROXY` names.

mod address;
mod dialogue;
mod exempt;
mod http;
mod refusal;
mod socks;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::name::Name;

pub use self::address::ProxyError;
pub use self::dialogue::{Dialogue, MAX_HEAD_BYTES, Progress};
pub use self::exempt::Exempt;
pub use self::refusal::Refusal;

/// Ports of HTTP and HTTPS.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ProxyKind {
    /// By `CONNECT` (RFC 9110, 9.3.6), with the name of the host.
    Http,
    /// By SOCKS 5 (RFC 1928), with the address that was resolved here.
    Socks,
    /// By SOCKS 5, with the name of the host.
    SocksWithNames,
}

/// Who we are to a proxy.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Credentials {
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// One proxy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proxy {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    credentials: Option<Credentials>,
    /// What the host was resolved to; without any, the proxy cannot be reached.
    #[serde(skip)]
    pub addresses: Vec<SocketAddr>,
}

impl Proxy {
    /// The same, told names.
    #[must_use]
    pub fn with_names(self) -> Self {
        let kind = if self.kind == ProxyKind::Socks { ProxyKind::SocksWithNames } else { self.kind };
        Self { kind, ..self }
    }
}

/// All that the host's user has set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proxies {
    /// `HTTP_PROXY`.
    pub http: Option<Proxy>,
    /// `HTTPS_PROXY`.
    pub https: Option<Proxy>,
    /// `ALL_PROXY`.
    pub all: Option<Proxy>,
    /// `NO_PROXY`.
    pub exempt: Exempt,
}

impl Proxies {
    /// The proxy for connections to `address`, which stands for `name`; none if they are made directly.
    #[must_use]
    pub fn choose(&self, address: SocketAddr, name: Option<&Name>) -> Option<&Proxy> {
        // Services of this host are on its loopback, and no rule allows another one's.
        if address.ip().is_loopback() || self.exempt.covers(address, name) {
            return None;
        }
        let own = match address.port() {
            HTTP => self.http.as_ref(),
            HTTPS => self.https.as_ref(),
            _ => None,
        };
        own.or(self.all.as_ref())
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none() && self.all.is_none()
    }

    /// All that are there.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Proxy> {
        [&mut self.http, &mut self.https, &mut self.all].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests;
