//! Where a URL leads: host and port.

use std::net::IpAddr;

/// Longest name in bytes (RFC 1035, 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Ports of HTTP and HTTPS.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// A host, and the port at which it serves packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Location {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Location {
    /// Reads an `http` or `https` URL, with what clients write before it (`sparse+`, `mirror+`). None for all others, and for
    /// other ports than those of HTTP and HTTPS: on them nothing says which host is spoken to.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let scheme = scheme.rsplit('+').next()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" | "mirror" => HTTP,
            "https" => HTTPS,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let authority = authority.rsplit('@').next()?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |port| port.parse().ok())?;
        matches!(port, HTTP | HTTPS).then_some(())?;
        Some(Self { host: host_name(host)?, port })
    }

    /// A host without anything around it, by HTTPS.
    pub(super) fn https(host: &str) -> Option<Self> {
        Some(Self { host: host_name(host.trim())?, port: HTTPS })
    }
}

/// A name or an address, in lower case. Variables that nobody has replaced (`$releasever`) are neither.
fn host_name(text: &str) -> Option<String> {
    let is_name = |text: &str| {
        let is_label = |label: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.bytes().all(is_letter)
        };
        text.len() <= MAX_HOST_BYTES && text.split('.').all(is_label)
    };
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    (text.parse::<IpAddr>().is_ok() || is_name(&text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_host_and_port() {
        let table = [
            ("http://deb.example.org/debian", Some(("deb.example.org", 80))),
            ("HTTPS://User:p%40ss@Mirror.Example.ORG./a@b", Some(("mirror.example.org", 443))),
            ("sparse+https://index.example.org/", Some(("index.example.org", 443))),
            ("mirror://mirrors.example.org/list", Some(("mirrors.example.org", 80))),
            ("https://mirror.example.org:443/x", Some(("mirror.example.org", 443))),
            ("http://[2001:4860::8888]/x", Some(("2001:4860::8888", 80))),
            ("http://10.1.2.3/x", Some(("10.1.2.3", 80))),
            ("https://mirror.example.org:8443/x", None),
            ("https://$mirror.example.org/x", None),
            ("https:///x", None),
            ("ftp://example.org/x", None),
            ("cdrom:[Debian]/", None),
            ("file:///srv/repo", None),
            ("https://a b/", None),
            ("", None),
        ];
        for (url, expected) in table {
            let expected = expected.map(|(host, port)| Location { host: host.to_owned(), port });
            assert_eq!(Location::parse(url), expected, "{url}");
        }
    }
}
