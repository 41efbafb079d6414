//! SOCKS version 5 (RFC 1928), with user name and password (RFC 1929).

use std::net::{IpAddr, SocketAddr};

use super::{Credentials, Progress, Refusal};
use crate::name::Name;

/// First byte of every message but those of authentication.
const VERSION: u8 = 5;

/// Ways of authentication.
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;

/// First byte of messages of authentication.
const AUTHENTICATION_VERSION: u8 = 1;

/// The command to connect.
const CONNECT: u8 = 1;

/// Kinds of addresses.
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    Method,
    Authentication,
    Reply,
}

/// A dialogue.
#[derive(Debug)]
pub(super) struct Socks {
    stage: Stage,
    credentials: Option<Credentials>,
    request: Vec<u8>,
}

impl Socks {
    /// To `address`, or to `name` there. With the first message.
    pub(super) fn begin(
        credentials: Option<Credentials>,
        address: SocketAddr,
        name: Option<&Name>,
    ) -> (Self, Vec<u8>) {
        let greeting = match credentials {
            Some(_) => vec![VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
            None => vec![VERSION, 1, NO_AUTHENTICATION],
        };
        (Self { stage: Stage::Method, credentials, request: request(address, name) }, greeting)
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> (usize, Progress) {
        match self.stage {
            Stage::Method => self.method(bytes),
            Stage::Authentication => self.authentication(bytes),
            Stage::Reply => reply(bytes),
        }
    }

    fn method(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let Some([version, method]) = bytes.first_chunk() else { return (0, Progress::Wait) };
        if *version != VERSION {
            return (0, Progress::Refused(Refusal::Nonsense));
        }
        match (*method, &self.credentials) {
            (NO_AUTHENTICATION, _) => (2, self.ask()),
            (USER_AND_PASSWORD, Some(credentials)) => {
                let Some(message) = authentication(credentials) else {
                    return (2, Progress::Refused(Refusal::Credentials));
                };
                self.stage = Stage::Authentication;
                (2, Progress::Send(message))
            }
            _ => (2, Progress::Refused(Refusal::Credentials)),
        }
    }

    fn authentication(&mut self, bytes: &[u8]) -> (usize, Progress) {
        match bytes.first_chunk() {
            None => (0, Progress::Wait),
            Some([_, 0]) => (2, self.ask()),
            Some(_) => (2, Progress::Refused(Refusal::Credentials)),
        }
    }

    fn ask(&mut self) -> Progress {
        self.stage = Stage::Reply;
        Progress::Send(std::mem::take(&mut self.request))
    }
}

fn request(address: SocketAddr, name: Option<&Name>) -> Vec<u8> {
    let mut request = vec![VERSION, CONNECT, 0];
    let name = name.map(Name::as_str).and_then(|name| Some((u8::try_from(name.len()).ok()?, name)));
    match (name, address.ip()) {
        (Some((length, name)), _) => {
            request.extend([DOMAIN, length]);
            request.extend_from_slice(name.as_bytes());
        }
        (None, IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        (None, IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
    }
    request.extend(address.port().to_be_bytes());
    request
}

fn authentication(Credentials { user, password }: &Credentials) -> Option<Vec<u8>> {
    let mut message = vec![AUTHENTICATION_VERSION];
    for text in [user, password] {
        message.push(u8::try_from(text.len()).ok()?);
        message.extend_from_slice(text.as_bytes());
    }
    Some(message)
}

/// `version, reply, 0, kind, address, port`: of use is only the reply.
fn reply(bytes: &[u8]) -> (usize, Progress) {
    let Some([version, reply, _, kind, first]) = bytes.first_chunk() else { return (0, Progress::Wait) };
    let length = match *kind {
        IPV4 => 10,
        IPV6 => 22,
        DOMAIN => usize::from(*first).saturating_add(7),
        _ => 0,
    };
    if *version != VERSION || length == 0 {
        return (0, Progress::Refused(Refusal::Nonsense));
    }
    if *reply != 0 {
        return (0, Progress::Refused(Refusal::Reply(*reply)));
    }
    if bytes.len() < length { (0, Progress::Wait) } else { (length, Progress::Open) }
}
