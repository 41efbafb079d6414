//! What only shows when nodes are seen together: rules that do nothing, and ports, places and names given twice.

use std::collections::HashMap;

use crate::{
    decode::{Decoder, quoted},
    model::{Action, Mount, Network, Rule, Settings, Target},
    span::{Span, Spanned},
    types::HostPattern,
};

/// With more destinations than this, nobody is told which of them are superfluous: every pair is looked at.
const MAX_COMPARED: usize = 500;

/// Checks the nodes of a manifest or of a profile against each other.
pub(crate) fn settings(decoder: &mut Decoder<'_>, settings: &Settings) {
    if let Some(network) = &settings.network {
        rules(decoder, network);
        ports(decoder, network);
        secret_hosts(decoder, settings, network);
    }
    mounts(decoder, &settings.mounts);
    names(decoder, settings);
}

/// A destination with the rule that it is in.
pub(crate) struct Destination<'r> {
    pub(crate) target: &'r Spanned<Target>,
    pub(crate) rule: &'r Rule,
}

impl<'r> Destination<'r> {
    /// Those of one rule.
    pub(crate) fn all(rule: &'r Rule) -> impl Iterator<Item = Self> {
        rule.targets.iter().map(move |target| Self { target, rule })
    }

    /// Whether every connection that `other` is about is one of these.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let hosts = match (&self.target.value, &other.target.value) {
            (Target::Host(own), Target::Host(theirs)) => own.covers(theirs),
            (Target::Registries { .. }, Target::Registries { .. }) => true,
            _ => false,
        };
        let ports = match (&self.rule.port, &other.rule.port) {
            (None, _) => true,
            (Some(own), Some(theirs)) => own.value.covers(theirs.value),
            (Some(_), None) => false,
        };
        let protocols = match (&self.rule.protocol, &other.rule.protocol) {
            (None, _) => true,
            (Some(own), Some(theirs)) => own.value == theirs.value,
            (Some(_), None) => false,
        };
        hosts && ports && protocols
    }
}

/// Finds destinations that do nothing: a `deny` wins over them, or another rule says the same or more.
fn rules(decoder: &mut Decoder<'_>, network: &Network) {
    let destinations: Vec<_> =
        network.rules.iter().flat_map(Destination::all).take(MAX_COMPARED.saturating_add(1)).collect();
    if destinations.len() > MAX_COMPARED {
        return;
    }
    for (index, dead) in destinations.iter().enumerate() {
        let denied = destinations.iter().find(|other| {
            dead.rule.action == Action::Allow && other.rule.action == Action::Deny && other.covers(dead)
        });
        if let Some(by) = denied {
            let fault = decoder
                .fault(
                    "manifest::dead-rule",
                    dead.target.span,
                    "this `allow` does nothing",
                    "refused all the same",
                )
                .and_at(by.target.span, "a `deny` wins over every `allow`")
                .with_help("remove one of them");
            decoder.report(fault.into_warning());
            continue;
        }
        // Of two that say the same, the second is superfluous.
        let said = destinations.iter().enumerate().find(|(other_index, other)| {
            *other_index != index
                && other.rule.action == dead.rule.action
                && other.covers(dead)
                && (*other_index < index || !dead.covers(other))
        });
        if let Some((_, by)) = said {
            let message = format!("this `{}` says nothing new", dead.rule.action.as_str());
            let fault = decoder
                .fault("manifest::dead-rule", dead.target.span, message, "superfluous")
                .and_at(by.target.span, "says it already")
                .with_help("remove it");
            decoder.report(fault.into_warning());
        }
    }
}

/// A port of the host can be published once.
fn ports(decoder: &mut Decoder<'_>, network: &Network) {
    let mut published: HashMap<u16, Span> = HashMap::new();
    for publish in network.published.iter().filter(|publish| publish.effective_host_port() != 0) {
        let port = publish.effective_host_port();
        let Some(earlier) = published.insert(port, publish.span) else { continue };
        let guest = publish.port.value;
        let free = (port..=u16::MAX).skip(1).find(|free| !published.contains_key(free)).unwrap_or(port);
        let fault = decoder
            .fault(
                "manifest::twice",
                publish.span,
                format!("port {port} of the host is published twice"),
                "the second",
            )
            .and_at(earlier, "the first")
            .with_help(format!("publish {guest} as={free}"));
        decoder.report(fault);
    }
    let mut services: HashMap<u16, Span> = HashMap::new();
    for service in &network.host_services {
        let Some(earlier) = services.insert(service.port.value, service.span) else { continue };
        let fault = decoder
            .fault("manifest::twice", service.span, "this host-service is given twice", "the second")
            .and_at(earlier, "the first")
            .with_help("remove one of them");
        decoder.report(fault.into_warning());
    }
}

/// A secret for a host that cannot be reached is never used.
fn secret_hosts(decoder: &mut Decoder<'_>, settings: &Settings, network: &Network) {
    for secret in &settings.secrets {
        let host = HostPattern::Exact(secret.host.value.clone());
        let named = |action: Action| {
            network.rules.iter().filter(move |rule| rule.action == action).find(|rule| {
                rule.targets
                    .iter()
                    .any(|target| matches!(&target.value, Target::Host(own) if own.covers(&host)))
            })
        };
        let implied = settings.implies(&host);
        let denied = named(Action::Deny).filter(|rule| rule.port.is_none());
        let fault = decoder.fault(
            "manifest::dead-secret",
            secret.host.span,
            format!("`{}` cannot be reached, so nothing gets this secret", secret.host.value),
            "not allowed by `network`",
        );
        if let Some(rule) = denied {
            decoder.report(
                fault.and_at(rule.span, "refused here").with_help("remove one of them").into_warning(),
            );
        } else if network.default.value == Action::Deny && named(Action::Allow).is_none() && !implied {
            let help = format!("allow {} port=443", quoted(&secret.host.value));
            decoder.report(fault.with_help(help).into_warning());
        }
    }
}

/// Two mounts cannot be at one place, and one inside another is seldom meant.
fn mounts(decoder: &mut Decoder<'_>, mounts: &[Mount]) {
    let place = |mount: &Mount| {
        let written = mount.at.as_ref().unwrap_or(&mount.path);
        let trimmed = written.value.trim_end_matches('/');
        Spanned::new(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }, written.span)
    };
    let mut seen: HashMap<String, Span> = HashMap::new();
    for mount in mounts {
        let place = place(mount);
        if let Some(earlier) = seen.get(&place.value) {
            let fault = decoder
                .fault(
                    "manifest::twice",
                    place.span,
                    format!("two mounts are at `{}`", place.value),
                    "the second",
                )
                .and_at(*earlier, "the first")
                .with_help(format!("at={}", quoted(&format!("{}-2", place.value))));
            decoder.report(fault);
            continue;
        }
        seen.insert(place.value, place.span);
    }
    let outer = |place: &str| {
        place
            .match_indices('/')
            .map(|(end, _)| place.get(..end).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    for (inner, span) in &seen {
        // A path of a few thousand levels is no path.
        let Some(outside) = outer(inner).iter().take(64).find_map(|outer| seen.get(outer)) else { continue };
        let fault = decoder
            .fault(
                "manifest::nested-mount",
                *span,
                format!("`{inner}` is inside another mount"),
                "hides a part of it",
            )
            .and_at(*outside, "the outer one")
            .with_help("mount it beside the other, with at=\"…\"");
        decoder.report(fault.into_warning());
    }
}

/// Agents, variables, secrets and servers are known by their names.
fn names(decoder: &mut Decoder<'_>, settings: &Settings) {
    let mut agents: HashMap<&str, Span> = HashMap::new();
    for agent in &settings.agents {
        if let Some(earlier) = agents.insert(&agent.name.value, agent.name.span) {
            twice(decoder, agent.name.span, earlier, &format!("the agent `{}`", agent.name.value));
        }
    }
    let mut variables: HashMap<&str, Span> = HashMap::new();
    for variable in &settings.env {
        let name = &variable.name;
        if let Some(earlier) = variables.insert(&name.value, name.span) {
            twice(decoder, name.span, earlier, &format!("the variable `{}`", name.value));
        }
    }
    let mut secrets: HashMap<(&str, &str), Span> = HashMap::new();
    for secret in &settings.secrets {
        let name = &secret.name;
        if let Some(earlier) = secrets.insert((&name.value, &secret.host.value), name.span) {
            twice(
                decoder,
                name.span,
                earlier,
                &format!("the secret `{}` for `{}`", name.value, secret.host.value),
            );
        }
        if let Some(variable) = variables.get(name.value.as_str()) {
            let message = format!("`{}` is a secret and a variable", name.value);
            let fault = decoder
                .fault("manifest::conflict", *variable, message, "would replace the secret's placeholder")
                .and_at(name.span, "the secret")
                .with_help("remove the variable");
            decoder.report(fault);
        }
    }
    let mut servers: HashMap<&str, Span> = HashMap::new();
    for server in &settings.mcp {
        if let Some(earlier) = servers.insert(&server.name.value, server.name.span) {
            twice(decoder, server.name.span, earlier, &format!("the MCP server `{}`", server.name.value));
        }
    }
}

fn twice(decoder: &mut Decoder<'_>, span: Span, earlier: Span, what: &str) {
    let fault = decoder
        .fault("manifest::twice", span, format!("{what} is given twice"), "the second")
        .and_at(earlier, "the first")
        .with_help("remove one of them");
    decoder.report(fault);
}
