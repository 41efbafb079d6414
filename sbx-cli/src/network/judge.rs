//! What the rules say about a host, without a network.
//!
//! A name is taken to have a public address, and whoever connects to say the name, as programs do. What a name really
//! resolves to is only known in the sandbox; there a private address is refused, whatever its name is.

use std::net::{IpAddr, Ipv4Addr};

use sbx_manifest::Manifest;
use sbx_net::policy::{Action, Claim, Decision, Flow, Origin, Policy, Protocol, Reason};
use serde::Serialize;

use super::{
    NetworkPlan,
    endpoint::{Endpoint, Host},
};

/// A public address that no rule is about, unless it is about whole parts of the internet: nobody was given it (IANA).
const SOME_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 1, 1));

/// The host, as the guest names it.
const HOST_NAME: &str = "host.sbx.internal";

/// What was found. Serialises to what `sbx policy check --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Judgement {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// `allow` or `refuse`.
    pub(crate) verdict: &'static str,
    /// Why, for programs: `denied`, `no-rule` and others.
    pub(crate) reason: String,
    /// Why, in words.
    pub(crate) message: String,
    /// The rule that decided.
    pub(crate) rule: Option<Origin>,
    /// The line that would allow what is refused.
    pub(crate) advice: Option<String>,
    /// The same as arguments of `sbx allow`.
    #[serde(skip)]
    pub(crate) arguments: Option<String>,
}

impl Judgement {
    /// Whether it may be reached.
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict == "allow"
    }
}

/// Judges a connection from the sandbox of `manifest`.
pub(crate) fn judge(manifest: &Manifest, endpoint: &Endpoint, protocol: Protocol) -> Judgement {
    let judgement = Judgement {
        host: endpoint.host.to_string(),
        port: endpoint.port,
        protocol,
        verdict: "refuse",
        reason: String::new(),
        message: String::new(),
        rule: None,
        advice: None,
        arguments: None,
    };
    if matches!(&endpoint.host, Host::Name(name) if name.as_str() == HOST_NAME) {
        return host_service(manifest, judgement);
    }
    // Without a network nothing is allowed.
    let policy =
        NetworkPlan::of(manifest).map_or_else(|| Policy::new(Action::Deny, Vec::new()), |plan| plan.policy());
    let decision = decide(&policy, endpoint, protocol);
    let advice = decision.advice();
    Judgement {
        verdict: if decision.is_allowed() { "allow" } else { "refuse" },
        reason: code(decision.reason),
        message: match decision.reason {
            Reason::NoRule | Reason::UnknownAddress => "no rule allows it".to_owned(),
            reason => reason.to_string(),
        },
        rule: decision.rule.as_deref().cloned(),
        advice: advice.map(ToString::to_string),
        arguments: advice.map(|advice| {
            let port = advice.port.map(|port| format!(" --port {port}")).unwrap_or_default();
            let protocol =
                advice.protocol.map(|protocol| format!(" --protocol {protocol}")).unwrap_or_default();
            format!("{}{port}{protocol}", advice.host)
        }),
        ..judgement
    }
}

/// As the gateway does it: the name first, then the connection.
fn decide(policy: &Policy, endpoint: &Endpoint, protocol: Protocol) -> Decision {
    let (address, names) = match &endpoint.host {
        Host::Name(name) => (SOME_ADDRESS, std::slice::from_ref(name)),
        Host::Address(address) => (*address, &[][..]),
    };
    let mut flow = Flow { protocol, address, port: endpoint.port, names, claim: Claim::None };
    if flow.tells_name() {
        flow.claim = names.first().map_or(Claim::Nameless, |name| Claim::Name(name.clone()));
    }
    let connected = policy.connect(&flow);
    match names.first().map(|name| policy.resolve(name)) {
        // A rule about all addresses is of no use to a name that is not resolved.
        Some(resolved) if connected.is_allowed() && resolved.is_refused() => resolved,
        _ => connected,
    }
}

/// The host's own ports are not a matter of rules.
fn host_service(manifest: &Manifest, judgement: Judgement) -> Judgement {
    let services = manifest.settings.network.iter().flat_map(|network| &network.host_services);
    let service = services
        .filter(|_| judgement.protocol == Protocol::Tcp)
        .find(|service| service.port.value == judgement.port);
    let Some(service) = service else {
        let advice =
            (judgement.protocol == Protocol::Tcp).then(|| format!("host-service {}", judgement.port));
        let (reason, message) = ("no-rule".to_owned(), "no `host-service` allows it".to_owned());
        return Judgement { reason, message, advice, ..judgement };
    };
    let source = &manifest.source;
    Judgement {
        verdict: "allow",
        reason: "allowed".to_owned(),
        message: "a rule allows it".to_owned(),
        rule: Some(Origin {
            place: format!("{}:{}", source.name(), source.line(service.span.offset)),
            text: source.slice(service.span).to_owned(),
        }),
        ..judgement
    }
}

/// The reason's name as it is serialised, without the kind of address that some have.
fn code(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(network: &str, endpoint: &str, protocol: Protocol) -> String {
        let text = format!("image \"debian:12\"\n{network}\n");
        let manifest = sbx_manifest::parse("sandbox.kdl", text.as_bytes()).unwrap().manifest;
        let found = judge(&manifest, &Endpoint::read(endpoint, 443, "policy check").unwrap(), protocol);
        let why = found.rule.map_or(found.reason, |rule| rule.text);
        format!("{}: {why}; {}", found.verdict, found.advice.as_deref().unwrap_or("-"))
    }

    #[test]
    fn rules_decide_as_they_do_in_the_sandbox() {
        let rules = "network \"deny\" { allow \"**.a.com\"; deny \"gist.a.com\"; allow \"db.b.com\" port=5432; allow \"10.1.0.0/16\"; host-service 5432; allow \"0.0.0.0/0\" port=9000 }";
        for (endpoint, expected) in [
            ("api.a.com", "allow: allow \"**.a.com\"; -"),
            ("api.a.com:22", "allow: allow \"**.a.com\"; -"),
            ("gist.a.com", "refuse: deny \"gist.a.com\"; -"),
            ("a.com", "refuse: no-rule; allow \"a.com\""),
            ("c.com:22", "refuse: no-rule; allow \"c.com\" port=22"),
            ("db.b.com:5432", "allow: allow \"db.b.com\" port=5432; -"),
            ("db.b.com", "refuse: other-port; allow \"db.b.com\" port=443"),
            ("10.1.2.3:80", "allow: allow \"10.1.0.0/16\"; -"),
            ("10.2.2.3:80", "refuse: special; allow \"10.2.2.3\" port=80"),
            ("[::1]:80", "refuse: never; -"),
            ("9.9.9.9", "refuse: unknown-address; allow \"9.9.9.9\" port=443"),
            ("9.9.9.9:9000", "allow: allow \"0.0.0.0/0\" port=9000; -"),
            ("unresolved.com:9000", "refuse: no-rule; allow \"unresolved.com\""),
            ("host.sbx.internal:5432", "allow: host-service 5432; -"),
            ("host.sbx.internal:80", "refuse: no-rule; host-service 80"),
        ] {
            assert_eq!(judged(rules, endpoint, Protocol::Tcp), expected, "{endpoint}");
        }
        assert_eq!(
            judged(rules, "api.a.com", Protocol::Udp),
            "refuse: quic; allow \"api.a.com\" port=443 protocol=\"udp\""
        );
    }

    #[test]
    fn without_a_network_nothing_is_allowed_and_with_allow_nearly_everything() {
        assert_eq!(judged("", "a.com", Protocol::Tcp), "refuse: no-rule; allow \"a.com\"");
        let open = "network \"allow\" { deny \"b.com\" }";
        assert_eq!(judged(open, "a.com", Protocol::Tcp), "allow: not-denied; -");
        assert_eq!(judged(open, "9.9.9.9", Protocol::Tcp), "allow: not-denied; -");
        assert_eq!(judged(open, "b.com", Protocol::Tcp), "refuse: deny \"b.com\"; -");
        assert_eq!(
            judged(open, "169.254.169.254:80", Protocol::Tcp),
            "refuse: special; allow \"169.254.169.254\" port=80"
        );
    }
}
