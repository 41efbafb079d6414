//! Whom the guest speaks to, by the first bytes that it sends.
//!
//! What cannot be read, but could be TLS or HTTP to a server that is less strict, counts as speaking to nobody
//! ([`Claim::Nameless`], which is refused); only what is neither beyond doubt needs no name ([`Claim::None`]).

mod head;
mod http;
mod tls;

use crate::policy::Claim;

pub use self::head::{Head, HttpFault};
pub use self::http::{HttpGuard, Step};
pub use self::tls::Sniff;

/// Most bytes that are looked at; a caller need not keep more.
pub const MAX_SNIFFED_BYTES: usize = head::MAX_HEAD_BYTES;

/// What the first bytes of a stream claim: [`Claim::Unknown`] until there are enough of them.
#[must_use]
pub fn claim(bytes: &[u8]) -> Claim {
    match tls::sniff(bytes) {
        Sniff::NeedMore => Claim::Unknown,
        Sniff::Tls { server_name } => server_name.map_or(Claim::Nameless, Claim::Name),
        Sniff::NotTls => http::claim(bytes),
    }
}

/// Whether a stream that begins with these bytes is one of TLS records (RFC 8446, 5.1), well-formed or not.
#[must_use]
pub fn is_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&tls::HANDSHAKE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn a_claim_does_not_depend_on_how_much_has_come() {
        let long = format!("SSH-2.0-{}\r\n", "x".repeat(100));
        let odd = [&b"S"[..], &[b'='; 69], b"S\xb0\x2d26\r\n"].concat();
        for bytes in [odd.as_slice(), long.as_bytes(), b"==\xb0 ", b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\nrest"]
        {
            let whole = claim(bytes);
            for end in 0..bytes.len() {
                let earlier = claim(&bytes[..end]);
                assert!(earlier == Claim::Unknown || earlier == whole, "{}", bytes[..end].escape_ascii());
            }
        }
    }

    #[test]
    fn the_first_bytes_tell_the_host_or_that_there_is_none_to_tell() {
        let example = || Claim::Name(Name::new("example.com").unwrap());
        let long = vec![b'a'; 100];
        let table: [(&[u8], Claim); 19] = [
            (b"", Claim::Unknown),
            (b"GE", Claim::Unknown),
            (b"GET / HTTP/1.1\r\nHost: example.com\r\n", Claim::Unknown),
            (b"GET / HTTP/1.1\r\nHost: Example.com:80\r\n\r\n", example()),
            (b"\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\nbody", example()),
            (b"GET /\xc3\xbc HTTP/1.1\r\nHost: example.com\r\n\r\n", example()),
            (b"GET / HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n", Claim::Nameless),
            (b"GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n", Claim::Nameless),
            (b"GET / HTTP/1.0\r\n\r\n", Claim::Nameless),
            (b"GET /\r\n", Claim::Nameless),
            (b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\n\r\n", Claim::Nameless),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Claim::Nameless),
            (&long, Claim::Nameless),
            (b"SSH-2.0-OpenSSH_9.6", Claim::Unknown),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Claim::None),
            // A server could take this for a request by an unusual method.
            (b"SSH-2.0-x / HTTP/1.1\r\nHost: evil.com\r\n\r\n", Claim::Name(Name::new("evil.com").unwrap())),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Claim::None),
            (b"\x80\x2e\x01\x03\x01\x00\x15", Claim::Nameless),
            (b"\x16\x03\x01\x00\x04\xff\x00\x00\x00", Claim::Nameless),
        ];
        for (bytes, expected) in table {
            assert_eq!(claim(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
