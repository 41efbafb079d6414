//! Host patterns of network rules.
//!
//! ```text
//! api.github.com     that name
//! *.example.com      one label more: a.example.com, not example.com, not a.b.example.com
//! **.example.com     one or more labels more: a.example.com, a.b.example.com, not example.com
//! 10.1.2.3  ::1      that address
//! 10.1.0.0/16        addresses, in CIDR notation (RFC 4632, RFC 4291 section 2.3)
//! ```

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};

use super::{Refusal, name::shorten};

/// Longest host name in characters (RFC 1035, 2.3.4, without the final dot).
const MAX_NAME_BYTES: usize = 253;

/// Longest label of a host name in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Which hosts a rule is about. Names are lower case. Serialises as it is written.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// One name.
    Exact(String),
    /// `*.`: names with one label before this.
    OneLabel(String),
    /// `**.`: names with at least one label before this.
    AnyDepth(String),
    /// Addresses.
    Network {
        /// The first address.
        address: IpAddr,
        /// Number of leading bits that count.
        prefix: u8,
    },
}

/// A pattern, and whether it was written in another way than it is read.
pub(crate) struct Written {
    pub(crate) pattern: HostPattern,
    /// What to write instead.
    pub(crate) better: Option<Refusal>,
}

/// Why a text is not a host pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAHost(Refusal);

impl NotAHost {
    pub(crate) const fn new(refusal: Refusal) -> Self {
        Self(refusal)
    }

    /// What is wrong, in one sentence; `asked_by` is what wants a host, such as `allow`.
    #[must_use]
    pub fn sentence(&self, asked_by: &str) -> String {
        match self.0.message.as_str() {
            phrase @ ("a URL" | "a path" | "a host, not a login" | "an address with a port") => {
                let phrase = phrase.trim_start_matches("a host, not ");
                format!("`{asked_by}` takes a host, not {phrase}")
            }
            message => message.to_owned(),
        }
    }

    /// What is at the place of the text.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The host that was meant, if that can be told.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.0.instead.as_deref()
    }

    /// The port that was written with it.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.host()?;
        self.0.advice.as_deref()?.strip_prefix("port=")?.parse().ok()
    }

    /// What to do, where no host can be told.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref().filter(|_| self.0.instead.is_none())
    }
}

impl FromStr for HostPattern {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        Self::read(text).map(|written| written.pattern).map_err(NotAHost::new)
    }
}

impl HostPattern {
    /// Whether every host of `other` is one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(own), Self::Exact(theirs)) => own == theirs,
            (Self::OneLabel(own), Self::OneLabel(theirs)) => own == theirs,
            (Self::OneLabel(own), Self::Exact(name)) => {
                below(name, own).is_some_and(|label| !label.contains('.'))
            }
            (Self::AnyDepth(own), Self::Exact(name)) => below(name, own).is_some(),
            (Self::AnyDepth(own), Self::OneLabel(theirs) | Self::AnyDepth(theirs)) => {
                own == theirs || below(theirs, own).is_some()
            }
            (Self::Network { address, prefix }, Self::Network { address: other, prefix: longer }) => {
                prefix <= longer
                    && address.is_ipv4() == other.is_ipv4()
                    && masked(*other, *prefix) == *address
            }
            _ => false,
        }
    }

    /// Reads a pattern as a rule has it.
    pub(crate) fn read(text: &str) -> Result<Written, Refusal> {
        if let Some(refusal) = not_a_host(text) {
            return Err(refusal);
        }
        let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = unbracketed.parse::<IpAddr>() {
            let pattern = Self::Network { address, prefix: bits(address) };
            let better = (unbracketed != text).then(|| {
                Refusal::new("an address needs no brackets here", "read without").instead(unbracketed)
            });
            return Ok(Written { pattern, better });
        }
        match text.split_once('/') {
            Some((address, prefix)) => network(text, address, prefix),
            None => named(text),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::OneLabel(name) => write!(formatter, "*.{name}"),
            Self::AnyDepth(name) => write!(formatter, "**.{name}"),
            Self::Network { address, prefix } if *prefix == bits(*address) => write!(formatter, "{address}"),
            Self::Network { address, prefix } => write!(formatter, "{address}/{prefix}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The labels of `name` before `.suffix`.
fn below<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    name.strip_suffix(suffix)?.strip_suffix('.').filter(|label| !label.is_empty())
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `address` with all bits after the first `prefix` cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// Recognises what people paste that is more than a host.
fn not_a_host(text: &str) -> Option<Refusal> {
    if text.is_empty() {
        return Some(Refusal::new("a host is empty", "matches nothing"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let (host, port) = authority(rest);
        let port = port.or(match scheme {
            "https" | "wss" => Some(443),
            "http" | "ws" => Some(80),
            "ssh" | "sftp" => Some(22),
            "git" => Some(9418),
            "postgres" | "postgresql" => Some(5432),
            "redis" => Some(6379),
            "mysql" => Some(3306),
            _ => None,
        });
        return Some(with_port(Refusal::new("a URL", "scheme and path are not part of a rule"), host, port));
    }
    if text.contains('@') {
        let (host, port) = authority(text);
        return Some(with_port(
            Refusal::new("a host, not a login", "user names are not part of a rule"),
            host,
            port,
        ));
    }
    if matches!(text, "*" | "**") {
        return Some(
            Refusal::new(format!("`{text}` alone matches every host"), "every host")
                .advice("what happens without a rule is the argument of network: network \"allow\""),
        );
    }
    let plain_port = text.split_once(':').filter(|(host, port)| !host.contains('[') && !port.contains(':'));
    if let Some((host, port)) = plain_port {
        let refusal = Refusal::new(format!("`{}` has a port in it", shorten(text)), "the port is a property");
        return Some(with_port(refusal, host, port.split('/').next().and_then(|port| port.parse().ok())));
    }
    if text.starts_with('[') && !text.ends_with(']') {
        let (host, port) = authority(text);
        return Some(with_port(Refusal::new("an address with a port", "the port is a property"), host, port));
    }
    None
}

/// Host and port of the authority at the beginning of `text`, whatever comes before and after them.
fn authority(text: &str) -> (&str, Option<u16>) {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match host.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (host, None),
    }
}

/// Puts `host` and `port` into the help, if the host would be accepted.
fn with_port(refusal: Refusal, host: &str, port: Option<u16>) -> Refusal {
    let pattern = match host.parse::<IpAddr>() {
        Ok(address) => HostPattern::Network { address, prefix: bits(address) },
        Err(_) => match named(host) {
            Ok(written) => written.pattern,
            Err(_) => return refusal,
        },
    };
    let mut refusal = refusal.instead(pattern.to_string());
    if let Some(port) = port.filter(|port| *port != 0) {
        // The line is put together by whoever knows the node.
        refusal.advice = Some(format!("port={port}"));
    }
    refusal
}

fn network(text: &str, address: &str, prefix: &str) -> Result<Written, Refusal> {
    let Ok(parsed) = address.parse::<IpAddr>() else {
        if prefix.bytes().all(|byte| byte.is_ascii_digit())
            && address.bytes().all(|byte| b"0123456789.:".contains(&byte))
        {
            return Err(Refusal::new(
                format!("`{}` is not a network", shorten(text)),
                "not an address before the `/`",
            )
            .advice("for example \"10.1.0.0/16\" or \"fd00::/8\""));
        }
        let refusal = Refusal::new("a path", "paths are not part of a rule");
        return Err(with_port(refusal, address, None));
    };
    let prefix = prefix.parse::<u8>().ok().filter(|prefix| *prefix <= bits(parsed)).ok_or_else(|| {
        Refusal::new(
            format!("`{}` is not a network", shorten(text)),
            format!("the part after `/` is from 0 to {}", bits(parsed)),
        )
    })?;
    let first = masked(parsed, prefix);
    if first != parsed {
        return Err(Refusal::new(
            format!("`{text}` has bits set after the first {prefix}"),
            "an address in the network, not the network",
        )
        .instead(format!("{first}/{prefix}")));
    }
    Ok(Written { pattern: HostPattern::Network { address: parsed, prefix }, better: None })
}

fn named(text: &str) -> Result<Written, Refusal> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    let (wildcard, host) = if let Some(host) = name.strip_prefix("**.") {
        ("**.", host)
    } else if let Some(host) = name.strip_prefix("*.") {
        ("*.", host)
    } else {
        ("", name)
    };
    check_name(text, wildcard, host)?;
    let pattern = match wildcard {
        "**." => HostPattern::AnyDepth(host.to_owned()),
        "*." => HostPattern::OneLabel(host.to_owned()),
        _ => HostPattern::Exact(host.to_owned()),
    };
    let better = (name != text).then(|| {
        let label = if name == lower { "read in lower case" } else { "read without the dot at the end" };
        Refusal::new(format!("`{}` is not how host names are written", shorten(text)), label).instead(name)
    });
    Ok(Written { pattern, better })
}

fn check_name(text: &str, wildcard: &str, host: &str) -> Result<(), Refusal> {
    let refuse = |label: &str| Refusal::new(format!("`{}` matches no host", shorten(text)), label);
    if host.contains('*') {
        let rest = host
            .rsplit_once('*')
            .map_or("", |(_, rest)| rest)
            .trim_start_matches(|character| character != '.');
        let refusal = refuse("`*.` or `**.` can only be at the beginning, for whole labels");
        let fitting = rest.trim_start_matches('.');
        return Err(if fitting.contains('.') && check_name(fitting, "", fitting).is_ok() {
            refusal.instead(format!("**.{fitting}"))
        } else {
            refusal
        });
    }
    if let Some(rest) = host.strip_prefix('.').filter(|_| wildcard.is_empty()) {
        let refusal = refuse("begins with a dot");
        return Err(if check_name(rest, "", rest).is_ok() {
            refusal.instead(format!("**.{rest}"))
        } else {
            refusal
        });
    }
    if host.len() > MAX_NAME_BYTES {
        return Err(refuse("longer than 253 characters"));
    }
    if !host.is_ascii() {
        return Err(refuse("not ASCII").advice("write the name in its ASCII form, which begins with xn--"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    for label in host.split('.') {
        if label.is_empty() {
            return Err(refuse("two dots with nothing between them"));
        }
        if label.len() > MAX_LABEL_BYTES {
            return Err(refuse("a label longer than 63 characters"));
        }
        if !label.bytes().all(allowed) || label.starts_with('-') || label.ends_with('-') {
            return Err(refuse("only letters, digits, `-` and dots make a host name"));
        }
    }
    // No top-level domain is a number (RFC 3696, 2), so this was meant to be an address.
    if host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(
            refuse("neither a name nor an address").advice("addresses are \"10.1.2.3\" or \"10.1.0.0/16\"")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> HostPattern {
        HostPattern::read(text)
            .map_or_else(|refusal| panic!("{text}: {refusal:?}"), |written| written.pattern)
    }

    #[test]
    fn patterns_are_names_wildcards_and_networks() {
        for text in [
            "api.github.com",
            "localhost",
            "*.example.com",
            "**.example.com",
            "10.1.0.0/16",
            "10.1.2.3",
            "::1",
            "fd00::/8",
            "0.0.0.0/0",
            "::/0",
            "_dmarc.example.com",
            "xn--mnchen-3ya.de",
            "3com.com",
            "*.com",
        ] {
            let written = HostPattern::read(text).unwrap();
            assert_eq!(written.pattern.to_string(), text);
            assert!(written.better.is_none(), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_read_and_named() {
        for (text, better) in [
            ("API.GitHub.com", "api.github.com"),
            ("example.com.", "example.com"),
            ("[::1]", "::1"),
            ("*.Example.COM.", "*.example.com"),
        ] {
            let written = HostPattern::read(text).unwrap();
            assert_eq!(written.pattern.to_string(), better);
            assert_eq!(written.better.and_then(|refusal| refusal.instead).as_deref(), Some(better));
        }
    }

    #[test]
    fn what_matches_no_host_is_refused_with_what_would() {
        for (text, instead, advice) in [
            ("https://api.github.com", Some("api.github.com"), Some("port=443")),
            ("http://user:pw@Example.com:8080/x?y#z", Some("example.com"), Some("port=8080")),
            ("ftp://example.com", Some("example.com"), None),
            ("git@github.com:owner/repo", Some("github.com"), None),
            ("db.internal:5432", Some("db.internal"), Some("port=5432")),
            ("[::1]:80", Some("::1"), Some("port=80")),
            ("example.com/path", Some("example.com"), None),
            ("10.1.2.3/16", Some("10.1.0.0/16"), None),
            ("fd00::1/8", Some("fd00::/8"), None),
            (".example.com", Some("**.example.com"), None),
            ("api.*.example.com", Some("**.example.com"), None),
            ("foo*.example.com", Some("**.example.com"), None),
            ("***.example.com", Some("**.example.com"), None),
            ("example.*", None, None),
        ] {
            let refusal = HostPattern::read(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert_eq!((refusal.instead.as_deref(), refusal.advice.as_deref()), (instead, advice), "{text}");
        }
        let long = format!("{}.com", "a".repeat(64));
        let longer = format!("{}com", "abcdefg.".repeat(40));
        for text in [
            "",
            "*",
            "**",
            "a..b",
            "..",
            "10.1.0.0/33",
            "10.1.0/16",
            "::/129",
            "300.1.1.1",
            "10.1.2",
            "münchen.de",
            "a b",
            "-a.com",
            "a-.com",
            "*.",
            "**.",
            "https://",
            "@",
            ":",
            ":80",
            "[",
            "[]",
            "[::1",
            "/",
            "/8",
            "*.*.com",
            &long,
            &longer,
        ] {
            assert!(HostPattern::read(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn covering() {
        for (wide, narrow, expected) in [
            ("a.com", "a.com", true),
            ("*.a.com", "b.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", "c.b.a.com", false),
            ("*.a.com", "xa.com", false),
            ("**.a.com", "c.b.a.com", true),
            ("**.a.com", "*.b.a.com", true),
            ("**.a.com", "*.a.com", true),
            ("*.a.com", "**.a.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::/8", true),
            ("0.0.0.0/0", "example.com", false),
        ] {
            assert_eq!(read(wide).covers(&read(narrow)), expected, "{wide} {narrow}");
        }
    }
}
