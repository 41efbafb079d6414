//! The rules in force: those of the manifest, and those for the registries that the image names.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use sbx_net::{
    driver::Controller,
    name::Name,
    policy::{Action, Origin, Policy, PortRange, Protocol, Rule, Target},
};
use sbx_proto::Registry;

use super::plan::{NetworkPlan, RegistryGrant};
use crate::ui::printable;

/// Registries that are taken; a guest is not trusted to know when to stop.
const MAX_REGISTRIES: usize = 256;

/// Characters of what names a registry that are kept.
const MAX_SOURCE_CHARACTERS: usize = 200;

/// Ports at which a registry may be. On them the guest says whom it speaks to.
const PORTS: [u16; 2] = [80, 443];

/// Puts rules into force.
#[derive(Debug)]
pub(crate) struct Rulebook {
    controller: Controller,
    rules: Mutex<Rules>,
}

/// What the rules are made of.
#[derive(Debug)]
struct Rules {
    default: Action,
    own: Vec<Rule>,
    grants: Vec<RegistryGrant>,
    registries: Vec<Registry>,
}

impl Rulebook {
    /// The rules that the gateway of `plan` began with.
    pub(crate) fn new(plan: &NetworkPlan, controller: Controller) -> Self {
        let (own, grants) = (plan.rules.clone(), plan.registries.clone());
        let rules = Rules { default: plan.default, own, grants, registries: Vec::new() };
        Self { controller, rules: Mutex::new(rules) }
    }

    /// The way to the gateway.
    pub(crate) const fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The manifest has other rules.
    pub(crate) fn set_rules(&self, default: Action, own: Vec<Rule>, grants: Vec<RegistryGrant>) {
        self.change(|rules| {
            (rules.default, rules.own, rules.grants) = (default, own, grants);
        });
    }

    /// The image names these registries.
    pub(crate) fn set_registries(&self, registries: Vec<Registry>) {
        self.change(|rules| rules.registries = registries);
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        // Held until the rules are on their way, so that of two changes the later one stays in force.
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut rules);
        self.controller.set_policy(Policy::new(rules.default, rules.all()));
    }
}

impl Rules {
    /// The manifest's own first, so that they are named as the reason where both apply.
    fn all(&self) -> Vec<Rule> {
        let registries = self.registries.iter().take(MAX_REGISTRIES);
        let registries = registries.filter_map(|registry| registry_rule(registry, &self.grants));
        self.own.iter().cloned().chain(registries).collect()
    }
}

/// The rule for a registry, if it is allowed there.
fn registry_rule(registry: &Registry, grants: &[RegistryGrant]) -> Option<Rule> {
    let port = registry.port;
    let grants_it = |grant: &RegistryGrant| {
        grant.protocol.is_none_or(|protocol| protocol == Protocol::Tcp)
            && grant.ports.is_none_or(|ports| ports.contains(port))
    };
    if !PORTS.contains(&port) || !grants.iter().any(grants_it) {
        return None;
    }
    let target = match registry.host.parse::<IpAddr>() {
        // A special address is not meant by an image: that takes a rule of its own.
        Ok(address) if Policy::is_special(address) => return None,
        Ok(address) => Target::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } },
        Err(_) => Target::Exact(Name::new(&registry.host).ok()?),
    };
    let source: String = registry.source.chars().take(MAX_SOURCE_CHARACTERS).collect();
    let client: String = registry.client.chars().take(MAX_SOURCE_CHARACTERS).collect();
    let origin = Origin {
        place: format!("registries: {}, {}", printable(&client), printable(&source)),
        text: format!("allow \"{}\" port={port}", registry.host),
    };
    Some(Rule {
        action: Action::Allow,
        target,
        ports: Some(PortRange { first: port, last: port }),
        protocol: Some(Protocol::Tcp),
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYWHERE: RegistryGrant = RegistryGrant { ports: None, protocol: None };

    fn registry(host: &str, port: u16) -> Registry {
        let source = "/etc/apt/sources.list".to_owned();
        Registry { client: "apt".to_owned(), source, host: host.to_owned(), port }
    }

    fn rule(host: &str, port: u16, grant: RegistryGrant) -> Option<String> {
        let rule = registry_rule(&registry(host, port), &[grant])?;
        Some(format!("{} ({})", rule.origin.text, rule.origin.place))
    }

    #[test]
    fn a_registry_is_a_rule_that_tells_where_it_is_from() {
        assert_eq!(
            rule("deb.example.org", 80, EVERYWHERE).unwrap(),
            "allow \"deb.example.org\" port=80 (registries: apt, /etc/apt/sources.list)"
        );
        assert!(rule("93.184.216.34", 443, EVERYWHERE).is_some());
    }

    #[test]
    fn what_no_image_should_name_is_no_rule() {
        let hosts =
            ["10.0.0.1", "169.254.169.254", "127.0.0.1", "::ffff:10.0.0.1", "fd00::1", "a b", "", "*.org"];
        for host in hosts {
            assert_eq!(rule(host, 443, EVERYWHERE), None, "{host}");
        }
        assert_eq!(rule("deb.example.org", 22, EVERYWHERE), None);
        assert_eq!(registry_rule(&registry("deb.example.org", 80), &[]), None);
    }

    #[test]
    fn the_manifest_may_allow_fewer_ports() {
        let tls = RegistryGrant { ports: Some(PortRange { first: 443, last: 443 }), protocol: None };
        assert_eq!(rule("deb.example.org", 80, tls), None);
        assert!(rule("deb.example.org", 443, tls).is_some());
        let datagrams = RegistryGrant { ports: None, protocol: Some(Protocol::Udp) };
        assert_eq!(rule("deb.example.org", 443, datagrams), None);
    }

    #[test]
    fn there_is_an_end_to_registries() {
        let registries = (0..1000).map(|number| registry(&format!("h{number}.example.org"), 443)).collect();
        let rules = Rules { default: Action::Deny, own: Vec::new(), grants: vec![EVERYWHERE], registries };
        assert_eq!(rules.all().len(), MAX_REGISTRIES);
    }
}
