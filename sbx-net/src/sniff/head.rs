//! The head of an HTTP/1 request, read strictly: whatever two servers could read differently is refused.

use std::net::IpAddr;

use crate::name::Name;

/// Most bytes of a head; servers take 8 to 16 KiB.
pub(super) const MAX_HEAD_BYTES: usize = 32 << 10;

/// Most header fields.
const MAX_FIELDS: usize = 128;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HttpFault {
    /// The head is longer than 32 KiB or has more than 128 fields.
    #[error("the head of the request is too long")]
    TooLong,
    /// It does not follow the grammar of HTTP/1.
    #[error("the request is not well-formed HTTP/1")]
    Malformed,
    /// No `Host`, several, or none that is a name.
    #[error("the request does not name one host")]
    Nameless,
    /// The target names another host than `Host` does.
    #[error("the target and the header Host name different hosts")]
    TwoHosts,
    /// `CONNECT` would make the rest of the stream opaque.
    #[error("the request asks for a tunnel")]
    Connect,
    /// Where the body ends depends on who reads it.
    #[error("the length of the request is ambiguous")]
    AmbiguousLength,
}

/// What matters of a head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its bytes, with the empty line.
    pub bytes: usize,
    /// The host that it is for.
    pub host: Name,
    /// What follows it.
    pub body: Body,
    /// Whether it asks to go on with another protocol that is not HTTP.
    pub upgrades: bool,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its size.
    Chunked,
}

impl Head {
    /// Reads a head; `None` if its end is not there yet.
    ///
    /// # Errors
    /// If it is not one that every server reads in the same way.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HttpFault> {
        let looked_at = bytes.get(..MAX_HEAD_BYTES).unwrap_or(bytes);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(looked_at) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if looked_at.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(HttpFault::TooLong);
            }
            Err(_) => return Err(HttpFault::Malformed),
        };
        if !looked_at.get(..length).is_some_and(has_whole_line_ends) {
            return Err(HttpFault::Malformed);
        }
        let method = request.method.ok_or(HttpFault::Malformed)?;
        if method.eq_ignore_ascii_case("CONNECT") {
            return Err(HttpFault::Connect);
        }
        let fields = &*request.headers;
        let host = host(fields)?;
        target(method, request.path.ok_or(HttpFault::Malformed)?, &host)?;
        let body = body(fields, request.version)?;
        Ok(Some(Self { bytes: length, host, body, upgrades: upgrades(fields) }))
    }
}

/// Whether every line ends with CR LF: some readers end it at either alone, some do not.
fn has_whole_line_ends(head: &[u8]) -> bool {
    let mut before = 0;
    for &byte in head {
        if (byte == b'\n') != (before == b'\r') {
            return false;
        }
        before = byte;
    }
    before == b'\n'
}

/// The values of a field.
fn values<'f>(fields: &'f [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'f [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn host(fields: &[httparse::Header<'_>]) -> Result<Name, HttpFault> {
    let mut hosts = values(fields, "host");
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HttpFault::Nameless);
    };
    authority(std::str::from_utf8(host).map_err(|_| HttpFault::Nameless)?)
}

/// The name in `name[:port]`.
fn authority(text: &str) -> Result<Name, HttpFault> {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || host.parse::<IpAddr>().is_ok() {
        return Err(HttpFault::Nameless);
    }
    Name::new(host).map_err(|_| HttpFault::Nameless)
}

/// Refuses a target that is for another host than the header says (RFC 9112, 3.2).
fn target(method: &str, target: &str, host: &Name) -> Result<(), HttpFault> {
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(());
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let named = rest.ok_or(HttpFault::Malformed)?.split(['/', '?', '#']).next().unwrap_or_default();
    if authority(named).as_ref() == Ok(host) { Ok(()) } else { Err(HttpFault::TwoHosts) }
}

/// What follows the head (RFC 9112, 6.3), as long as there is no doubt.
fn body(fields: &[httparse::Header<'_>], version: Option<u8>) -> Result<Body, HttpFault> {
    let mut lengths = values(fields, "content-length");
    let mut codings = values(fields, "transfer-encoding");
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, None, None, None) => Ok(Body::Length(0)),
        (None, None, Some(coding), None) if version == Some(1) && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        (Some(length), None, None, None) => {
            let digits = std::str::from_utf8(length)
                .ok()
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Body::Length).ok_or(HttpFault::AmbiguousLength)
        }
        _ => Err(HttpFault::AmbiguousLength),
    }
}

/// Whether another protocol is asked for. HTTP/2 and TLS would name hosts that we do not see, so those are not granted:
/// what comes then is read as HTTP/1, and refused.
fn upgrades(fields: &[httparse::Header<'_>]) -> bool {
    let mut protocols = values(fields, "upgrade").flat_map(|value| value.split(|byte| *byte == b','));
    let is_opaque = |protocol: &[u8]| {
        let protocol = protocol.trim_ascii().to_ascii_lowercase();
        ![&b"h2"[..], b"http", b"tls"].iter().any(|start| protocol.starts_with(start))
    };
    let first = protocols.next();
    first.is_some_and(is_opaque) && protocols.all(is_opaque)
}
