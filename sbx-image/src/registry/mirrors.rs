//! Where the images of a registry are fetched from: mirrors first, then the registry itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Mirrors of registries, as the user configured them. A repository cannot configure any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    by_registry: BTreeMap<String, Vec<Endpoint>>,
}

/// One server that speaks the distribution protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    secure: bool,
    /// Host and port.
    host: String,
    /// What comes before the repository's name on this server; empty or ending in a slash.
    prefix: String,
}

/// Why a text does not say which mirrors there are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// No `=`.
    #[error("`{text}` does not say whose mirror it is; write it as docker.io=https://mirror.example")]
    NoRegistry {
        /// The part that is wrong.
        text: String,
    },
    /// The address is not an HTTP address without query or credentials.
    #[error(
        "`{text}` is not the address of a mirror; write it as https://host, http://host:port or https://host/path"
    )]
    Address {
        /// The part that is wrong.
        text: String,
    },
}

impl Mirrors {
    /// Adds a mirror for `registry` (a host as it stands in image names, such as `docker.io`), asked after those that
    /// were added before.
    ///
    /// # Errors
    /// [`MirrorError`] when `address` is not an HTTP address.
    pub fn add(&mut self, registry: &str, address: &str) -> Result<(), MirrorError> {
        let endpoint = address.parse()?;
        self.by_registry.entry(registry.to_owned()).or_default().push(endpoint);
        Ok(())
    }

    /// None, for a registry that is spoken to as `endpoint` says.
    pub(crate) fn only(endpoint: Endpoint, registry: &str) -> Self {
        Self { by_registry: BTreeMap::from([(registry.to_owned(), vec![endpoint])]) }
    }

    /// The registry itself, which alone can be written to; as a mirror of its own name, if the user says how it is spoken to.
    pub(crate) fn origin(&self, registry: &str) -> Endpoint {
        let origin = Endpoint::of_registry(registry);
        let same = |mirror: &&Endpoint| mirror.host == origin.host && mirror.prefix.is_empty();
        self.by_registry.get(registry).into_iter().flatten().find(same).cloned().unwrap_or(origin)
    }

    /// The servers to ask for images of `registry`, in this order; the last one is the registry itself.
    pub(crate) fn endpoints(&self, registry: &str) -> Vec<Endpoint> {
        let mut endpoints = self.by_registry.get(registry).cloned().unwrap_or_default();
        let origin = self.origin(registry);
        if !endpoints.contains(&origin) {
            endpoints.push(origin);
        }
        endpoints
    }
}

impl FromStr for Mirrors {
    type Err = MirrorError;

    /// Reads `docker.io=http://127.0.0.1:5000,ghcr.io=https://mirror.example`. A registry may stand there several times.
    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let mut mirrors = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((registry, address)) if !registry.trim().is_empty() => {
                    mirrors.add(registry.trim(), address.trim())?;
                }
                _ => return Err(MirrorError::NoRegistry { text: part.to_owned() }),
            }
        }
        Ok(mirrors)
    }
}

impl Endpoint {
    /// The server of a registry that is named in an image reference.
    ///
    /// Plain HTTP is spoken with this machine only, as container engines do: there is nobody in between.
    fn of_registry(registry: &str) -> Self {
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        Self { secure: !is_loopback(host), host: host.to_owned(), prefix: String::new() }
    }

    /// Host and port, by which credentials are looked up.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// True when the server is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// True for HTTPS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name that `repository` has on this server.
    pub(crate) fn repository(&self, repository: &str) -> String {
        format!("{}{repository}", self.prefix)
    }

    /// The URL of `item` (such as `manifests/latest`) of `repository`.
    pub(crate) fn url(&self, repository: &str, item: &str) -> String {
        format!("{}/v2/{}/{item}", self.root(), self.repository(repository))
    }

    fn root(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.host)
    }
}

impl FromStr for Endpoint {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let fault = || MirrorError::Address { text: text.to_owned() };
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(fault()),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let host_ok = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        let path_ok = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        if host.is_empty() || !host.bytes().all(host_ok) || !path.bytes().all(path_ok) || path.contains("..")
        {
            return Err(fault());
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Self { secure, host: host.to_owned(), prefix })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.root(), self.prefix)
    }
}

/// True when `host` (with or without port) is this machine by its spelling alone; names are not resolved.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(mirrors: &str, registry: &str) -> Vec<String> {
        let mirrors: Mirrors = mirrors.parse().unwrap();
        mirrors
            .endpoints(registry)
            .iter()
            .map(|endpoint| endpoint.url("library/debian", "manifests/12"))
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_in_order() {
        assert_eq!(
            urls(
                "docker.io=http://127.0.0.1:5000, docker.io=https://cache.example/hub/,ghcr.io=https://x.example",
                "docker.io"
            ),
            [
                "http://127.0.0.1:5000/v2/library/debian/manifests/12",
                "https://cache.example/v2/hub/library/debian/manifests/12",
                "https://registry-1.docker.io/v2/library/debian/manifests/12",
            ]
        );
        assert_eq!(urls("", "quay.io"), ["https://quay.io/v2/library/debian/manifests/12"]);
    }

    #[test]
    fn what_is_written_goes_to_the_registry_itself() {
        let mirrors: Mirrors =
            "r.example=https://cache.example,127.0.0.1:5000=https://127.0.0.1:5000".parse().unwrap();
        let origin = |registry| mirrors.origin(registry).to_string();
        assert_eq!(origin("r.example"), "https://r.example/");
        assert_eq!(origin("127.0.0.1:5000"), "https://127.0.0.1:5000/");
        assert_eq!(origin("localhost:5000"), "http://localhost:5000/");
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000"] {
            assert!(urls("", host)[0].starts_with("http://"), "{host}");
        }
        for host in
            ["localhost.example", "127.0.0.1.example:80", "10.0.0.1:5000", "[fe80::1]:5000", "128.0.0.1"]
        {
            assert!(urls("", host)[0].starts_with("https://"), "{host}");
        }
    }

    #[test]
    fn bad_mirrors_are_refused() {
        for bad in [
            "docker.io",
            "=http://x",
            "docker.io=ftp://x",
            "docker.io=mirror.example",
            "docker.io=https://",
            "docker.io=https://user:pass@host",
            "docker.io=https://host/a?b",
            "docker.io=https://host/../x",
        ] {
            assert!(bad.parse::<Mirrors>().is_err(), "{bad}");
        }
    }
}
