//! `CONNECT` (RFC 9110, 9.3.6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Credentials, MAX_HEAD_BYTES, Progress, Refusal};

/// Fields of a proxy's answer that are read.
const MAX_FIELDS: usize = 64;

/// Proxy Authentication Required (RFC 9110, 15.5.8).
const AUTHENTICATION_REQUIRED: u16 = 407;

/// The request for a way to `authority`, a host and a port.
pub(super) fn request(authority: &str, credentials: Option<&Credentials>) -> Vec<u8> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(Credentials { user, password }) = credentials {
        let both = STANDARD.encode(format!("{user}:{password}"));
        request.push_str(&format!("Proxy-Authorization: Basic {both}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Reads an answer. What a success says of content is not so, and what follows its head is the host's.
pub(super) fn receive(bytes: &[u8]) -> (usize, Progress) {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => match response.code {
            // An answer that is not the last.
            Some(100..=199) => (length, Progress::Wait),
            Some(200..=299) => (length, Progress::Open),
            Some(AUTHENTICATION_REQUIRED) => (length, Progress::Refused(Refusal::Credentials)),
            Some(status) => (length, Progress::Refused(Refusal::Status(status))),
            None => (0, Progress::Refused(Refusal::Nonsense)),
        },
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => (0, Progress::Wait),
        Ok(httparse::Status::Partial) | Err(_) => (0, Progress::Refused(Refusal::Nonsense)),
    }
}
