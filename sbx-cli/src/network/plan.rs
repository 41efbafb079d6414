//! What the manifest says about the network, as the gateway needs it.

use std::path::PathBuf;

use sbx_manifest::{AGENT_PORT, HostPattern, Implied, Manifest, model};
use sbx_net::{
    name::Name,
    policy::{Action, Origin, Policy, PortRange, Protocol, Rule, Target},
    proxy::Proxies,
};
use serde::{Deserialize, Serialize};

/// The network of a sandbox.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkPlan {
    /// What happens without a rule.
    pub(crate) default: Action,
    /// The rules.
    pub(crate) rules: Vec<Rule>,
    /// Where the registries that the image names are allowed; nowhere if none of these.
    pub(crate) registries: Vec<RegistryGrant>,
    /// Ports of the host's loopback that the guest reaches.
    pub(crate) host_services: Vec<u16>,
    /// Ports of the guest that the host has.
    pub(crate) published: Vec<Published>,
    /// What connections go through.
    pub(crate) proxies: Proxies,
    /// A file that gets every frame.
    pub(crate) capture: Option<PathBuf>,
}

/// What an `allow registries=#true` says besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegistryGrant {
    /// On which ports. All, if none.
    pub(crate) ports: Option<PortRange>,
    /// By which protocol. All, if none.
    pub(crate) protocol: Option<Protocol>,
}

/// A port of the guest on the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// The guest's.
    pub(crate) guest: u16,
    /// The host's; 0 if any will do.
    pub(crate) host: u16,
}

impl Default for NetworkPlan {
    /// Nothing may be reached.
    fn default() -> Self {
        Self {
            default: Action::Deny,
            rules: Vec::new(),
            registries: Vec::new(),
            host_services: Vec::new(),
            published: Vec::new(),
            capture: None,
            proxies: Proxies::default(),
        }
    }
}

impl NetworkPlan {
    /// Whether the same may be reached under both.
    pub(crate) fn has_same_rules(&self, other: &Self) -> bool {
        self.default == other.default && self.rules == other.rules && self.registries == other.registries
    }

    /// What `manifest` says and its agents need; none if that is no more than that nothing is allowed.
    pub(crate) fn of(manifest: &Manifest) -> Option<Self> {
        let mut plan = manifest
            .settings
            .network
            .as_ref()
            .map(|network| Self::said(manifest, network))
            .unwrap_or_default();
        plan.rules.extend(manifest.implied_hosts().iter().filter_map(implied));
        let says_nothing = plan.default == Action::Deny
            && plan.rules.is_empty()
            && plan.registries.is_empty()
            && plan.host_services.is_empty()
            && plan.published.is_empty();
        (!says_nothing).then_some(plan)
    }

    fn said(manifest: &Manifest, network: &model::Network) -> Self {
        let published = network.published.iter();
        Self {
            default: action(network.default.value),
            rules: network.rules.iter().flat_map(|rule| rules(manifest, rule)).collect(),
            registries: network.rules.iter().filter_map(registry_grant).collect(),
            host_services: network.host_services.iter().map(|service| service.port.value).collect(),
            published: published
                .map(|publish| Published { guest: publish.port.value, host: publish.effective_host_port() })
                .collect(),
            ..Self::default()
        }
    }

    /// The rules as the gateway applies them until it is known which registries the image names.
    pub(crate) fn policy(&self) -> Policy {
        Policy::new(self.default, self.rules.clone())
    }
}

fn action(action: model::Action) -> Action {
    match action {
        model::Action::Allow => Action::Allow,
        model::Action::Deny => Action::Deny,
    }
}

fn ports(rule: &model::Rule) -> Option<PortRange> {
    rule.port.as_ref().map(|port| PortRange { first: port.value.first, last: port.value.last })
}

fn protocol(rule: &model::Rule) -> Option<Protocol> {
    rule.protocol.as_ref().map(|protocol| match protocol.value {
        sbx_manifest::Protocol::Tcp => Protocol::Tcp,
        sbx_manifest::Protocol::Udp => Protocol::Udp,
    })
}

/// What the rule says of registries, if it does.
fn registry_grant(rule: &model::Rule) -> Option<RegistryGrant> {
    let of_registries = |target: &model::Target| matches!(target, model::Target::Registries { .. });
    let grants =
        rule.action == model::Action::Allow && rule.targets.iter().any(|target| of_registries(&target.value));
    grants.then(|| RegistryGrant { ports: ports(rule), protocol: protocol(rule) })
}

/// One rule for each target of the manifest's.
fn rules(manifest: &Manifest, rule: &model::Rule) -> Vec<Rule> {
    let targets = rule.targets.iter().filter_map(|spanned| {
        let model::Target::Host(pattern) = &spanned.value else { return None };
        Some(Rule {
            action: action(rule.action),
            target: target(pattern)?,
            ports: ports(rule),
            protocol: protocol(rule),
            origin: origin(manifest, rule, spanned.span),
        })
    });
    targets.collect()
}

/// The rule for a host that an agent talks to.
fn implied(host: &Implied<'_, HostPattern>) -> Option<Rule> {
    let (first, last) = (AGENT_PORT.first, AGENT_PORT.last);
    Some(Rule {
        action: Action::Allow,
        target: target(host.what)?,
        ports: Some(PortRange { first, last }),
        protocol: Some(Protocol::Tcp),
        origin: Origin {
            place: format!("agent \"{}\"", host.agent.name.value),
            text: format!("allow \"{}\" port={first}", host.what),
        },
    })
}

/// Where the target stands, and its rule as if it were the only one there.
fn origin(manifest: &Manifest, rule: &model::Rule, span: sbx_manifest::Span) -> Origin {
    let source = &manifest.source;
    let mut text = format!("{} {}", rule.action.as_str(), source.slice(span));
    if let Some(port) = &rule.port {
        text.push_str(&format!(" port={}", source.slice(port.span)));
    }
    if let Some(protocol) = &rule.protocol {
        text.push_str(&format!(" protocol={}", source.slice(protocol.span)));
    }
    Origin { place: format!("{}:{}", source.name(), source.line(span.offset)), text }
}

/// The manifest has checked every pattern, so the gateway takes each.
fn target(pattern: &HostPattern) -> Option<Target> {
    let name = |text: &str| Name::new(text).ok();
    Some(match pattern {
        HostPattern::Exact(text) => Target::Exact(name(text)?),
        HostPattern::OneLabel(text) => Target::OneLabel(name(text)?),
        HostPattern::AnyDepth(text) => Target::AnyDepth(name(text)?),
        HostPattern::Network { address, prefix } => Target::Network { address: *address, prefix: *prefix },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(network: &str) -> Option<NetworkPlan> {
        let text = format!("image \"debian:12\"\n{network}\n");
        NetworkPlan::of(&sbx_manifest::parse("sandbox.kdl", text.as_bytes()).unwrap().manifest)
    }

    #[test]
    fn a_sandbox_that_may_reach_nothing_has_no_network() {
        assert_eq!(plan(""), None);
        assert_eq!(plan("network \"deny\""), None);
        assert!(plan("network \"allow\"").is_some());
        assert!(plan("network { publish 3000; }").is_some());
    }

    #[test]
    fn what_an_agent_talks_to_is_allowed() {
        let lines = |text| -> Vec<String> {
            let rules = plan(text).map(|plan| plan.rules).unwrap_or_default();
            rules.iter().map(|rule| format!("{}  {}", rule.origin.place, rule.origin.text)).collect()
        };
        assert_eq!(
            lines("agent \"opencode\""),
            [
                "agent \"opencode\"  allow \"models.dev\" port=443",
                "agent \"opencode\"  allow \"opencode.ai\" port=443"
            ]
        );
        // What the manifest says itself is not said twice.
        assert_eq!(
            lines("agent \"opencode\"\nnetwork \"deny\" { allow \"models.dev\"; allow \"opencode.ai\"; }"),
            ["sandbox.kdl:3  allow \"models.dev\"", "sandbox.kdl:3  allow \"opencode.ai\""]
        );
        assert!(lines("agent \"shell\"").is_empty());
    }

    #[test]
    fn registries_are_allowed_as_far_as_their_rule_goes() {
        let plan = plan("network { allow registries=#true port=443; }").unwrap();
        assert!(plan.rules.is_empty());
        let ports = Some(PortRange { first: 443, last: 443 });
        assert_eq!(plan.registries, [RegistryGrant { ports, protocol: None }]);
    }

    #[test]
    fn each_target_is_a_rule_that_knows_its_line() {
        let plan = plan(
            "network {\n    allow \"api.github.com\" \"**.example.com\" port=443 protocol=\"tcp\"\n    deny \"10.0.0.0/8\"\n    host-service 5432\n    publish 80 as=8080\n}",
        )
        .unwrap();
        let origins: Vec<_> =
            plan.rules.iter().map(|rule| format!("{}  {}", rule.origin.place, rule.origin.text)).collect();
        assert_eq!(
            origins,
            [
                "sandbox.kdl:3  allow \"api.github.com\" port=443 protocol=\"tcp\"",
                "sandbox.kdl:3  allow \"**.example.com\" port=443 protocol=\"tcp\"",
                "sandbox.kdl:4  deny \"10.0.0.0/8\"",
            ]
        );
        assert_eq!(plan.rules.first().unwrap().ports, Some(PortRange { first: 443, last: 443 }));
        assert_eq!(
            (plan.host_services, plan.published),
            (vec![5432], vec![Published { guest: 80, host: 8080 }])
        );
    }
}
