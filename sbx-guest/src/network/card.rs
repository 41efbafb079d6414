//! Setting up the network card as the host describes it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use sbx_proto::Network;

use super::rtnetlink::Rtnetlink;

/// Where the kernel lists its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Where it has the settings of IPv6 for each.
const IPV6_SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Settings of the interface: it is told what it needs to know, and asks nobody. Otherwise the kernel would solicit
/// routers, believe what they say, and wait a second to see whether somebody else has its addresses.
const SETTINGS: [(&str, &str); 4] =
    [("accept_ra", "0"), ("autoconf", "0"), ("router_solicitations", "0"), ("accept_dad", "0")];

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    /// The card is not there.
    #[error("there is no network card with the address {mac}")]
    Missing {
        /// Its Ethernet address.
        mac: String,
    },
    /// The kernel refused.
    #[error("cannot {what}")]
    Refused {
        /// What was to be done.
        what: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

/// An interface of the kernel's.
#[derive(Debug, Eq, PartialEq)]
struct Interface {
    name: String,
    index: u32,
}

/// Sets the card of `network` up: packet size, addresses, routes.
///
/// # Errors
/// If it is not there, or the kernel refuses something. What comes after that is not done.
pub(crate) fn set_up(network: &Network) -> Result<(), CardError> {
    let mac = format_mac(network.mac);
    let refused = |what: String| move |source| CardError::Refused { what, source };
    let Some(card) = find(Path::new(INTERFACES), &mac) else { return Err(CardError::Missing { mac }) };
    let kernel = Rtnetlink::open().map_err(refused("talk to the kernel about it".to_owned()))?;
    for (setting, value) in SETTINGS {
        // A kernel without IPv6 has none of these, and needs none.
        let _ = fs::write(Path::new(IPV6_SETTINGS).join(&card.name).join(setting), value);
    }
    kernel.bring_up(card.index, network.mtu).map_err(refused(format!("bring {} up", card.name)))?;
    for (address, prefix) in &network.addresses {
        let added = kernel.add_address(card.index, *address, *prefix);
        added.map_err(refused(format!("add the address {address}/{prefix}")))?;
    }
    for gateway in &network.gateways {
        let added = kernel.add_default_route(card.index, *gateway);
        added.map_err(refused(format!("route over {gateway}")))?;
    }
    Ok(())
}

/// The interface with this Ethernet address. Others may have it only later: bridges and the like take theirs from the card.
fn find(interfaces: &Path, mac: &str) -> Option<Interface> {
    let entries = fs::read_dir(interfaces).ok()?;
    entries.flatten().find_map(|entry| {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        let index = read("ifindex")?.trim().parse().ok()?;
        let name = entry.file_name().into_string().ok()?;
        (read("address")?.trim() == mac).then_some(Interface { name, index })
    })
}

/// As the kernel writes it.
fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `/etc/resolv.conf` for the servers and domains of `network`.
pub(super) fn resolver(name_servers: &[IpAddr], search: &[String]) -> String {
    let mut lines: Vec<String> = name_servers.iter().map(|server| format!("nameserver {server}")).collect();
    if !search.is_empty() {
        lines.push(format!("search {}", search.join(" ")));
    }
    // Answers of more than 512 bytes without a second question over TCP.
    lines.push("options edns0\n".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_by_its_address() {
        let directory = tempfile::tempdir().unwrap();
        for (name, address, index) in [("lo", "00:00:00:00:00:00", 1), ("eth1", "02:00:00:00:0a:ff", 4)] {
            let interface = directory.path().join(name);
            fs::create_dir(&interface).unwrap();
            fs::write(interface.join("address"), format!("{address}\n")).unwrap();
            fs::write(interface.join("ifindex"), format!("{index}\n")).unwrap();
        }
        fs::write(directory.path().join("bonding_masters"), "").unwrap();
        let found = find(directory.path(), &format_mac([2, 0, 0, 0, 10, 255]));
        assert_eq!(found, Some(Interface { name: "eth1".to_owned(), index: 4 }));
        assert_eq!(find(directory.path(), &format_mac([2, 0, 0, 0, 10, 254])), None);
        assert_eq!(find(Path::new("/nowhere"), ""), None);
    }

    #[test]
    fn the_kernels_own_interfaces_are_read() {
        let loopback = find(Path::new(INTERFACES), "00:00:00:00:00:00").unwrap();
        assert_eq!(loopback.name, "lo");
    }

    #[test]
    fn a_card_that_is_not_there_is_named() {
        let network = Network {
            mac: [2, 255, 255, 255, 255, 254],
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
            name_servers: Vec::new(),
            search: Vec::new(),
            hosts: Vec::new(),
        };
        let error = set_up(&network).unwrap_err();
        assert_eq!(error.to_string(), "there is no network card with the address 02:ff:ff:ff:ff:fe");
    }

    #[test]
    fn the_resolver_is_told_servers_and_domains() {
        let servers = ["10.0.2.3".parse().unwrap(), "fd00::3".parse().unwrap()];
        let search = ["corp.example".to_owned(), "example".to_owned()];
        assert_eq!(
            resolver(&servers, &search),
            "nameserver 10.0.2.3\nnameserver fd00::3\nsearch corp.example example\noptions edns0\n"
        );
        assert_eq!(resolver(&[], &[]), "options edns0\n");
    }
}
