//! The proxies that the environment of `sbx up` names.

use std::net::ToSocketAddrs;

use sbx_net::proxy::{Exempt, Proxies, Proxy};

use crate::{
    environment,
    error::{CommandError, Result},
};

/// The variables, each in the form that goes first and in the other.
const HTTP: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
const HTTPS: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const ALL: [&str; 2] = ["all_proxy", "ALL_PROXY"];
const EXEMPT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Addresses of a proxy that are tried.
const MAX_ADDRESSES: usize = 8;

/// What the environment names.
///
/// # Errors
/// If it names a proxy that cannot be spoken to: to go past it would not be what the user wants.
pub(crate) fn of_environment() -> Result<Proxies> {
    of(|name| environment::value(name).map(|value| value.to_string_lossy().into_owned()))
}

fn of(value: impl Fn(&str) -> Option<String>) -> Result<Proxies> {
    let proxy = |names: [&str; 2]| -> Result<Option<Proxy>> {
        let Some((name, text)) = names.iter().find_map(|name| Some((name, value(name)?))) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error| {
            CommandError::usage(format!("the proxy in {name} cannot be used"))
                .with_source(error)
                .with_hint(format!("{name}=http://HOST:PORT, or `env -u {name} sbx up` to go without"))
        })
    };
    let exempt = EXEMPT.iter().find_map(|name| value(name)).unwrap_or_default();
    Ok(Proxies { http: proxy(HTTP)?, https: proxy(HTTPS)?, all: proxy(ALL)?, exempt: Exempt::parse(&exempt) })
}

/// Finds the addresses of the proxies, with all that this host knows of names. Connections through one without any fail,
/// and say so.
pub(super) fn resolve(proxies: &mut Proxies) {
    for proxy in proxies.iter_mut() {
        match (proxy.host.as_str(), proxy.port).to_socket_addrs() {
            Ok(addresses) => proxy.addresses = addresses.take(MAX_ADDRESSES).collect(),
            Err(error) => tracing::warn!(host = proxy.host, %error, "cannot find the proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_these(variables: &[(&str, &str)]) -> Result<Proxies> {
        of(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn lower_case_goes_first() {
        let proxies = of_these(&[
            ("HTTPS_PROXY", "http://upper.example:3128"),
            ("https_proxy", "http://lower.example:3128"),
            ("ALL_PROXY", "socks5h://all.example"),
            ("NO_PROXY", "*"),
        ])
        .unwrap();
        let hosts = [&proxies.http, &proxies.https, &proxies.all];
        let hosts = hosts.map(|proxy| proxy.as_ref().map(|proxy| proxy.host.as_str()));
        assert_eq!(hosts, [None, Some("lower.example"), Some("all.example")]);
        assert_eq!(proxies.choose("93.184.216.34:443".parse().unwrap(), None), None);
        assert!(of_these(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
        let error = of_these(&[("HTTP_PROXY", "https://me:secret@proxy.example")]).unwrap_err();
        let chain = error.chain().join(": ");
        assert!(chain.starts_with("the proxy in HTTP_PROXY cannot be used: "), "{chain}");
        assert!(!chain.contains("secret"), "{chain}");
    }

    #[test]
    fn addresses_of_proxies_are_found() {
        let mut proxies = of_these(&[("HTTP_PROXY", "127.0.0.1:3128")]).unwrap();
        resolve(&mut proxies);
        assert_eq!(proxies.http.unwrap().addresses, ["127.0.0.1:3128".parse().unwrap()]);
    }
}
