//! The server name of a TLS client's first message.

use rustls::server::Acceptor;

use crate::name::Name;

/// Most bytes of a client's first message. Real ones have 2 KiB with post-quantum keys.
const MAX_HELLO_BYTES: usize = 16 << 10;

/// Type of a record that carries a handshake (RFC 8446, 5.1).
pub(super) const HANDSHAKE: u8 = 22;

/// What the first bytes of a stream are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sniff {
    /// More are needed to say.
    NeedMore,
    /// TLS, or what a server could take for it.
    Tls {
        /// The name by SNI, if one could be read.
        server_name: Option<Name>,
    },
    /// Not TLS.
    NotTls,
}

/// Looks at the first bytes of a stream.
#[must_use]
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    match bytes {
        [] | [HANDSHAKE] => Sniff::NeedMore,
        [HANDSHAKE, 3, ..] => hello(bytes),
        // The first message in the form of SSL 2.0, which old servers take: it cannot have a name.
        [0x80..=0xff, _, 1, 0 | 2 | 3, ..] => Sniff::Tls { server_name: None },
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, 1] => Sniff::NeedMore,
        _ => Sniff::NotTls,
    }
}

/// Reads the first message. What rustls does not read, another server could.
fn hello(bytes: &[u8]) -> Sniff {
    let (mut rest, is_cut) = match bytes.split_at_checked(MAX_HELLO_BYTES) {
        Some((first, _)) => (first, true),
        None => (bytes, false),
    };
    let mut acceptor = Acceptor::default();
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(count) if count > 0 => {}
            _ => return Sniff::Tls { server_name: None },
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().and_then(|name| Name::new(name).ok());
                return Sniff::Tls { server_name };
            }
            Err(_) => return Sniff::Tls { server_name: None },
        }
    }
    if is_cut { Sniff::Tls { server_name: None } } else { Sniff::NeedMore }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What rustls sends first, as a client of this server.
    fn client_hello(server: &'static str, sni: bool, alpn: usize) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            versions.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.enable_sni = sni;
        config.alpn_protocols = vec![vec![b'x'; 200]; alpn];
        let mut client =
            ClientConnection::new(Arc::new(config), ServerName::try_from(server).unwrap()).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn named(name: &str) -> Sniff {
        Sniff::Tls { server_name: Some(Name::new(name).unwrap()) }
    }

    #[test]
    fn the_name_is_read_once_the_message_is_whole() {
        let hello = client_hello("API.Example.com", true, 0);
        for length in 0..hello.len() {
            assert_eq!(sniff(&hello[..length]), Sniff::NeedMore, "{length}");
        }
        assert_eq!(sniff(&hello), named("api.example.com"));
        assert_eq!(sniff(&[&hello[..], b"more"].concat()), named("api.example.com"));
        assert_eq!(sniff(&client_hello("example.com", false, 0)), Sniff::Tls { server_name: None });
        assert_eq!(sniff(&client_hello("1.2.3.4", true, 0)), Sniff::Tls { server_name: None });
    }

    #[test]
    fn a_message_in_small_records_is_read_too() {
        let hello = client_hello("example.com", true, 0);
        let records: Vec<u8> = hello[5..]
            .chunks(10)
            .flat_map(|part| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()], part].concat())
            .collect();
        assert_eq!(sniff(&records), named("example.com"));
        assert_eq!(sniff(&records[..records.len() - 1]), Sniff::NeedMore);
    }

    #[test]
    fn large_messages_are_read_up_to_a_bound() {
        assert_eq!(sniff(&client_hello("example.com", true, 60)), named("example.com"));
        let hello = client_hello("example.com", true, 100);
        assert!(hello.len() > MAX_HELLO_BYTES);
        assert_eq!(sniff(&hello), Sniff::Tls { server_name: None });
    }
}
