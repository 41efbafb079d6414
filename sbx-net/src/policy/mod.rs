//! What the guest may reach: a pure function of rules and the facts of a flow, which says why.
//!
//! ```text
//! name asked for ──▶ Policy::resolve ──▶ Decision          (then each answer: Policy::answer)
//! flow, pinned names, claimed name ──▶ Policy::connect ──▶ Decision { Allow | Inspect | Refuse, rule, reason }
//! ```
//!
//! Denials go before allowances, wherever they are written. A rule about addresses decides at once. A rule about a
//! name is about the addresses to which the gateway resolved that name; on the ports of TLS and HTTP the guest has to
//! say the name, too, because many hosts share an address. Addresses that are not of the internet need a rule about
//! addresses that means them, whatever the default is, so that no answer of a name server opens the private network.

use std::net::IpAddr;

mod address;
mod decision;
mod index;
mod rule;
#[cfg(test)]
pub(crate) mod tests;

use self::index::{Entry, Index};
use crate::name::Name;

pub use self::address::AddressKind;
pub(crate) use self::address::STAND_INS;
pub use self::decision::{Advice, Decision, Reason, Verdict};
pub use self::rule::{Action, Origin, PortRange, Protocol, Rule, Target};

/// Port of TLS, where the name is told by SNI, and of QUIC, where it is hidden.
const HTTPS: u16 = 443;

/// Port of HTTP, where the name is told by the header `Host`.
const HTTP: u16 = 80;

/// The rules of a sandbox.
#[derive(Debug)]
pub struct Policy {
    default: Action,
    index: Index,
}

/// What is known of a connection, or of datagrams to one place, that the guest wants to have.
#[derive(Clone, Debug)]
pub struct Flow<'f> {
    /// What carries it.
    pub protocol: Protocol,
    /// Where to.
    pub address: IpAddr,
    /// To which port there.
    pub port: u16,
    /// The names that were resolved to this address, as long as they are pinned.
    pub names: &'f [Name],
    /// Whom the guest says that it speaks to.
    pub claim: Claim,
}

/// The host that the guest names in what it sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It has not sent enough yet.
    Unknown,
    /// This one, by SNI or `Host`.
    Name(Name),
    /// None, since the protocol names no host (SSH and others).
    None,
    /// None, although the protocol could: TLS without SNI, HTTP without `Host`, or with an address there.
    Nameless,
}

impl Flow<'_> {
    /// Whether on this port the guest tells the name of the host.
    #[must_use]
    pub fn tells_name(&self) -> bool {
        self.protocol == Protocol::Tcp && matches!(self.port, HTTPS | HTTP)
    }

    /// Whether the address only stands for a name, which a proxy of the host is asked for. An address of an answer that is like
    /// these has a rule about addresses, or it would not be pinned.
    fn stands_for_name(&self) -> bool {
        self.protocol == Protocol::Tcp && !self.names.is_empty() && address::stands_in(self.address)
    }

    /// Whether the name is hidden from us.
    fn is_quic(&self) -> bool {
        self.protocol == Protocol::Udp && self.port == HTTPS
    }

    /// A rule that allows exactly this address.
    fn address_advice(&self) -> Advice {
        let advice = Advice::address(self.address).on(self.port);
        if self.protocol == Protocol::Udp { advice.by(Protocol::Udp) } else { advice }
    }

    /// A rule that allows this host here; the usual ports need not be said.
    fn name_advice(&self, name: &Name) -> Advice {
        match self.protocol {
            Protocol::Tcp if self.tells_name() => Advice::name(name),
            Protocol::Tcp => Advice::name(name).on(self.port),
            Protocol::Udp => Advice::name(name).on(self.port).by(Protocol::Udp),
        }
    }
}

impl Policy {
    /// The policy of these rules; `default` is for what none of them is about.
    #[must_use]
    pub fn new(default: Action, rules: Vec<Rule>) -> Self {
        Self { default, index: Index::new(rules) }
    }

    /// Whether an address is one that only a rule about addresses that means it can open, or none.
    #[must_use]
    pub fn is_special(address: IpAddr) -> bool {
        AddressKind::of(address.to_canonical()) != AddressKind::Public
    }

    /// Whether this name may be asked for.
    ///
    /// A denial of some ports only does not hide the name, and an allowance of some ports shows it.
    pub fn resolve(&self, name: &Name) -> Decision {
        if let Some(entry) = self.index.by_name(Action::Deny, name, Rule::is_unrestricted) {
            return Decision::by(entry);
        }
        match self.index.by_name(Action::Allow, name, |_| true) {
            Some(entry) => Decision::by(entry),
            None if self.default == Action::Allow => Decision::not_denied(),
            None => Decision::refuse(Reason::NoRule, Advice::name(name)),
        }
    }

    /// Whether an allowance has this very name, so that asking for it tells nothing.
    #[must_use]
    pub fn spells_out(&self, name: &Name) -> bool {
        let is_exact = |rule: &Rule| matches!(rule.target, Target::Exact(_));
        self.index.by_name(Action::Allow, name, is_exact).is_some()
    }

    /// Whether the guest may be told that this name has this address.
    pub fn answer(&self, name: &Name, address: IpAddr) -> Decision {
        let resolved = self.resolve(name);
        if resolved.is_refused() {
            return resolved;
        }
        let address = address.to_canonical();
        let kind = AddressKind::of(address);
        if kind.is_never() {
            return Decision::refuse(Reason::Never(kind), None);
        }
        if let Some(entry) = self.index.denies_address(address, Rule::is_unrestricted) {
            return Decision::by(entry);
        }
        if kind == AddressKind::Public || self.index.allows_address(address, |_| true).is_some() {
            return resolved;
        }
        Decision::refuse(Reason::Special(kind), Advice::address(address))
    }

    /// Whether this flow may be.
    pub fn connect(&self, flow: &Flow<'_>) -> Decision {
        let flow = &Flow { address: flow.address.to_canonical(), ..flow.clone() };
        let is_about = |rule: &Rule| rule.is_about(flow.protocol, flow.port);
        let kind = AddressKind::of(flow.address);
        if kind.is_never() {
            return Decision::refuse(Reason::Never(kind), None);
        }
        if let Some(entry) = self.denial(flow) {
            return Decision::by(entry);
        }
        if let Some(entry) = self.index.allows_address(flow.address, is_about) {
            return Decision::by(entry);
        }
        if kind != AddressKind::Public && !flow.stands_for_name() {
            return Decision::refuse(Reason::Special(kind), flow.address_advice());
        }
        if flow.is_quic() {
            return self.quic(flow);
        }
        match self.default {
            Action::Allow => self.by_default(flow),
            Action::Deny => self.by_names(flow),
        }
    }

    /// The rule that denies this flow, by its address or by what it is named.
    ///
    /// An address can have allowed and denied names. Where the guest tells the name, that one counts.
    fn denial(&self, flow: &Flow<'_>) -> Option<&Entry> {
        let is_about = |rule: &Rule| rule.is_about(flow.protocol, flow.port);
        let denies = |name: &Name| self.index.by_name(Action::Deny, name, is_about);
        if let Some(entry) = self.index.denies_address(flow.address, is_about) {
            return Some(entry);
        }
        match &flow.claim {
            Claim::Name(name) if flow.tells_name() => denies(name),
            Claim::Name(name) => denies(name).or_else(|| flow.names.iter().find_map(denies)),
            // All of the names denied: nothing that is told could help.
            Claim::Unknown if flow.tells_name() => {
                let first = flow.names.first().and_then(denies);
                first.filter(|_| flow.names.iter().all(|name| denies(name).is_some()))
            }
            Claim::Unknown | Claim::None | Claim::Nameless => flow.names.iter().find_map(denies),
        }
    }

    /// QUIC: what decides must be a rule that knows that the name is not seen.
    fn quic(&self, flow: &Flow<'_>) -> Decision {
        let knows =
            |rule: &Rule| rule.protocol == Some(Protocol::Udp) && rule.is_about(flow.protocol, flow.port);
        if let Some(entry) = flow.names.iter().find_map(|name| self.index.by_name(Action::Allow, name, knows))
        {
            return Decision::by(entry);
        }
        match (self.default, flow.names.first()) {
            // A denied name could not be told from others.
            (Action::Allow, _) if !self.index.denies_names() => Decision::not_denied(),
            (_, Some(name)) => Decision::refuse(Reason::Quic, flow.name_advice(name)),
            (Action::Allow, None) => Decision::refuse(Reason::Quic, flow.address_advice()),
            (Action::Deny, None) => Decision::refuse(Reason::UnknownAddress, flow.address_advice()),
        }
    }

    /// Nothing denies it; that suffices, once it is known what it is named.
    fn by_default(&self, flow: &Flow<'_>) -> Decision {
        if self.index.denies_names() && flow.tells_name() && flow.claim == Claim::Unknown {
            return Decision::inspect(None);
        }
        let named = match &flow.claim {
            Claim::Name(name) => std::slice::from_ref(name),
            _ => flow.names,
        };
        let is_about = |rule: &Rule| rule.is_about(flow.protocol, flow.port);
        let allows = |name| self.index.by_name(Action::Allow, name, is_about);
        named.iter().find_map(allows).map_or_else(Decision::not_denied, Decision::by)
    }

    /// Nothing denies it; a rule about a name has to allow it.
    fn by_names(&self, flow: &Flow<'_>) -> Decision {
        let is_about = |rule: &Rule| rule.is_about(flow.protocol, flow.port);
        let allows = |name| self.index.by_name(Action::Allow, name, is_about);
        let refused = |name: &Name| {
            let elsewhere = self.index.by_name(Action::Allow, name, |_| true).is_some();
            let reason = if elsewhere { Reason::OtherPort } else { Reason::NoRule };
            let advice = if elsewhere {
                Advice { port: Some(flow.port), ..flow.name_advice(name) }
            } else {
                flow.name_advice(name)
            };
            Decision::refuse(reason, advice)
        };
        let Some(first) = flow.names.first() else {
            return Decision::refuse(Reason::UnknownAddress, flow.address_advice());
        };
        let Some(pinned) = flow.names.iter().find_map(allows) else {
            return refused(first);
        };
        if !flow.tells_name() {
            return Decision::by(pinned);
        }
        match &flow.claim {
            Claim::Unknown => Decision::inspect(Some(pinned)),
            Claim::None => Decision::by(pinned),
            Claim::Nameless => Decision::refuse(Reason::Nameless, flow.address_advice()),
            Claim::Name(name) => match allows(name) {
                None => refused(name),
                Some(entry) if flow.names.contains(name) => Decision::by(entry),
                Some(_) => Decision::refuse(Reason::OtherHost, flow.address_advice()),
            },
        }
    }
}
