//! What is said to a proxy until it has connected.

use std::net::SocketAddr;

use super::socks::Socks;
use super::{Proxy, ProxyKind, Refusal, http};
use crate::name::Name;

/// Bytes that a proxy may say before it has connected.
pub const MAX_HEAD_BYTES: usize = 8 << 10;

/// What is to be done next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Hear more.
    Wait,
    /// Send this.
    Send(Vec<u8>),
    /// Nothing: from here on the host is spoken to.
    Open,
    /// Give up.
    Refused(Refusal),
}

/// The dialogue for one connection.
#[derive(Debug)]
pub struct Dialogue(State);

#[derive(Debug)]
enum State {
    Http,
    Socks(Socks),
}

impl Dialogue {
    /// For a connection to `address`, which stands for `name`. With the first message.
    #[must_use]
    pub fn begin(proxy: &Proxy, address: SocketAddr, name: Option<&Name>) -> (Self, Vec<u8>) {
        let name = name.filter(|_| proxy.kind != ProxyKind::Socks);
        match proxy.kind {
            ProxyKind::Http => {
                let authority = match name {
                    Some(name) => format!("{name}:{}", address.port()),
                    None => address.to_string(),
                };
                (Self(State::Http), http::request(&authority, proxy.credentials.as_ref()))
            }
            ProxyKind::Socks | ProxyKind::SocksWithNames => {
                let (socks, greeting) = Socks::begin(proxy.credentials.clone(), address, name);
                (Self(State::Socks(socks)), greeting)
            }
        }
    }

    /// What the proxy has said and was not taken yet. Returns how much of it is taken: never what is behind the dialogue.
    pub fn receive(&mut self, bytes: &[u8]) -> (usize, Progress) {
        match &mut self.0 {
            State::Http => http::receive(bytes),
            State::Socks(socks) => socks.receive(bytes),
        }
    }
}
