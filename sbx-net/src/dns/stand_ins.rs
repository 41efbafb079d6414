//! Addresses for names that only a proxy can resolve, as in company networks whose name servers do not know the internet.
//!
//! A program in the guest wants an address before it connects. It gets one that nobody has, the flow to it is judged by the name that
//! is pinned to it, and the proxy is asked for the name. Nothing is ever connected to such an address itself.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::name::Name;
use crate::policy;
use crate::proxy::Proxies;

/// Most names that have one; the one that was given first goes first.
const MAX_NAMES: usize = 4096;

/// Ports that names are looked up for most of the time; a proxy for one of them will do.
const PORTS: [u16; 2] = [443, 80];

/// The addresses that were given.
#[derive(Debug, Default)]
pub(super) struct StandIns {
    proxies: Proxies,
    names: HashMap<Name, Ipv4Addr>,
    order: VecDeque<Name>,
    next: u32,
}

impl StandIns {
    /// For names that these proxies would be asked for.
    pub(super) fn new(proxies: Proxies) -> Self {
        Self { proxies, ..Self::default() }
    }

    /// The address for `name`; none if no proxy would be asked for it.
    pub(super) fn give(&mut self, name: &Name) -> Option<Ipv4Addr> {
        if let Some(address) = self.names.get(name) {
            return Some(*address);
        }
        let (first, count) = policy::STAND_INS;
        let address = Ipv4Addr::from_bits(first.to_bits().checked_add(self.next.checked_rem(count)?)?);
        let has_proxy =
            |port| self.proxies.choose(SocketAddr::new(address.into(), port), Some(name)).is_some();
        if !PORTS.into_iter().any(has_proxy) {
            return None;
        }
        self.next = self.next.wrapping_add(1).checked_rem(count)?;
        if self.order.len() >= MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        self.order.push_back(name.clone());
        self.names.insert(name.clone(), address);
        Some(address)
    }

    /// Whether a name has this address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.names.values().any(|given| address.to_canonical() == IpAddr::V4(*given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_no_two_share_one() {
        let proxy = "http://proxy.example:3128".parse().unwrap();
        let exempt = crate::proxy::Exempt::parse("corp.example");
        let mut stand_ins = StandIns::new(Proxies { https: Some(proxy), exempt, ..Proxies::default() });
        assert_eq!(stand_ins.give(&name("git.corp.example")), None, "what needs no proxy has real addresses");
        let first = stand_ins.give(&name("a.com")).unwrap();
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 0));
        assert_eq!(stand_ins.give(&name("a.com")), Some(first));
        assert_eq!(stand_ins.give(&name("b.com")), Some(Ipv4Addr::new(198, 18, 0, 1)));
        assert!(stand_ins.contains(first.into()));
        assert!(!stand_ins.contains(Ipv4Addr::new(198, 18, 0, 2).into()));
        for number in 0..MAX_NAMES {
            stand_ins.give(&name(&format!("n{number}.com"))).unwrap();
        }
        assert_eq!(stand_ins.names.len(), MAX_NAMES);
        assert!(!stand_ins.contains(first.into()), "the oldest has gone");
        assert_eq!(StandIns::default().give(&name("a.com")), None);
    }
}
