//! A proxy as a variable names it: `socks5h://user:password@proxy.example:1080`.

use std::net::Ipv6Addr;

use super::{Credentials, Proxy, ProxyKind};
use crate::name::Name;

/// Ports when none is written: curl's for HTTP proxies, and that of SOCKS (RFC 1928, 3).
const HTTP_PORT: u16 = 1080;
const SOCKS_PORT: u16 = 1080;

/// Bytes of a user name and of a password (RFC 1929, 2).
const MAX_CREDENTIAL_BYTES: usize = 255;

/// Why a proxy cannot be used. The text itself is never told, since it may hold a password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// Another scheme.
    #[error("sbx does not speak `{scheme}` to proxies, but `http`, `socks5` and `socks5h`")]
    Scheme {
        /// Which.
        scheme: String,
    },
    /// No host, or one that cannot be.
    #[error("its host is neither a name nor an address")]
    Host,
    /// Not a port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A user name or password that cannot be sent.
    #[error("its user name or password is too long or has characters that cannot be sent")]
    Credentials,
}

impl std::str::FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (kind, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Http, HTTP_PORT),
            "socks5" => (ProxyKind::Socks, SOCKS_PORT),
            "socks5h" => (ProxyKind::SocksWithNames, SOCKS_PORT),
            other => {
                let letters = other.chars().filter(char::is_ascii_alphanumeric);
                return Err(ProxyError::Scheme { scheme: letters.take(16).collect() });
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        let credentials = user.map(credentials).transpose()?;
        Ok(Self { kind, host, port: port.unwrap_or(usual), credentials, addresses: Vec::new() })
    }
}

fn split_port(place: &str) -> Result<(String, Option<u16>), ProxyError> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(ProxyError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| ProxyError::Host)?;
        (host.to_owned(), port.strip_prefix(':'))
    } else {
        let (host, port) = match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        };
        (Name::new(host).map_err(|_| ProxyError::Host)?.to_string(), port)
    };
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or(ProxyError::Port));
    Ok((host, port.transpose()?))
}

fn credentials(text: &str) -> Result<Credentials, ProxyError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text: &str| {
        let text = percent_decoded(text).ok_or(ProxyError::Credentials)?;
        let fits = text.len() <= MAX_CREDENTIAL_BYTES && !text.chars().any(char::is_control);
        if fits { Ok(text) } else { Err(ProxyError::Credentials) }
    };
    let (user, password) = (decoded(user)?, decoded(password)?);
    // Basic authentication would take what is behind a colon for the password (RFC 7617, 2).
    if user.is_empty() || user.contains(':') {
        return Err(ProxyError::Credentials);
    }
    Ok(Credentials { user, password })
}

/// `%40` is `@` (RFC 3986, 2.1).
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = behind.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}
