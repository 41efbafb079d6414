//! `HOST[:PORT]`, as users type it.

use std::{fmt, net::IpAddr};

use sbx_manifest::{HostPattern, NotAHost};
use sbx_net::name::Name;

use crate::error::{CommandError, Result};

/// One host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    /// By its name.
    Name(Name),
    /// By its address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(formatter, "{name}"),
            Self::Address(address) => write!(formatter, "{address}"),
        }
    }
}

/// A port of a host. Displays as it is typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]:{}", self.port),
            host => write!(formatter, "{host}:{}", self.port),
        }
    }
}

impl Endpoint {
    /// Reads what `command` was asked about.
    ///
    /// # Errors
    /// If it is not one host, with what to ask instead.
    pub(crate) fn read(text: &str, default_port: u16, command: &str) -> Result<Self> {
        let (host, port) = split(text);
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                CommandError::usage(format!("`{port}` is not a port: a number from 1 to 65535"))
            })?,
            None => default_port,
        };
        if let Ok(address) = host.parse() {
            return Ok(Self { host: Host::Address(address), port });
        }
        let pattern = host.parse().map_err(|error: NotAHost| {
            let refusal = CommandError::usage(format!("{}: {}", error.sentence(command), error.label()));
            match (error.host(), error.port()) {
                (Some(host), Some(port)) => refusal.with_hint(format!("sbx {command} {host}:{port}")),
                (Some(host), None) => refusal.with_hint(format!("sbx {command} {host}")),
                (None, _) => error.advice().into_iter().fold(refusal, CommandError::with_hint),
            }
        })?;
        let one = match &pattern {
            HostPattern::Exact(name) => Name::new(name).ok(),
            _ => None,
        };
        let name = one.ok_or_else(|| {
            CommandError::usage(format!("`{pattern}` is many hosts")).with_hint("ask about one of them")
        })?;
        Ok(Self { host: Host::Name(name), port })
    }
}

/// Host and port. What has more colons than that is an address, or a URL about which the manifest knows what to say.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        match rest.strip_prefix(':') {
            Some(port) => return (address, Some(port)),
            None if rest.is_empty() => return (address, None),
            None => {}
        }
    }
    match text.split_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains([':', '/', '@']) && !host.contains('@') => {
            (host, Some(port))
        }
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, shown) in [
            ("gist.github.com", "gist.github.com:443"),
            ("GitHub.com.:22", "github.com:22"),
            ("10.1.2.3", "10.1.2.3:443"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("::1", "[::1]:443"),
            ("[fd00::1]", "[fd00::1]:443"),
            ("[fd00::1]:53", "[fd00::1]:53"),
        ] {
            assert_eq!(Endpoint::read(text, 443, "policy check").unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_told_what_would_be() {
        for (text, message, hint) in [
            (
                "https://gist.github.com/x",
                "`policy check` takes a host, not a URL: scheme and path are not part of a rule",
                Some("sbx policy check gist.github.com:443"),
            ),
            ("a.com:http", "`http` is not a port: a number from 1 to 65535", None),
            ("a.com:0", "`0` is not a port: a number from 1 to 65535", None),
            ("**.a.com", "`**.a.com` is many hosts", Some("ask about one of them")),
            ("10.0.0.0/8", "`10.0.0.0/8` is many hosts", Some("ask about one of them")),
        ] {
            let error = Endpoint::read(text, 443, "policy check").unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), error.hints().first().map(String::as_str)),
                (message, hint)
            );
        }
        for text in ["", ":", "[::1", "[::1]x", "a b", "user@a.com:22", "fe80::1%eth0"] {
            assert!(Endpoint::read(text, 443, "policy check").is_err(), "{text}");
        }
    }
}
