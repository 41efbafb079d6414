//! The policy as a specification: rules, what the guest does, and what comes of it.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// A rule as in `sandbox.kdl`, without the quotes: `allow db.internal port=5432 protocol=tcp`.
pub(crate) fn rule(text: &str) -> Rule {
    let mut words = text.split(' ');
    let action = match words.next().unwrap() {
        "allow" => Action::Allow,
        "deny" => Action::Deny,
        other => panic!("{other}"),
    };
    let target = target(words.next().unwrap());
    let (mut ports, mut protocol) = (None, None);
    for word in words {
        match word.split_once('=').unwrap() {
            ("port", port) => {
                let (first, last) = port.split_once('-').unwrap_or((port, port));
                ports = Some(PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() });
            }
            ("protocol", "tcp") => protocol = Some(Protocol::Tcp),
            ("protocol", "udp") => protocol = Some(Protocol::Udp),
            other => panic!("{other:?}"),
        }
    }
    let origin = Origin { place: "sandbox.kdl:7".to_owned(), text: text.to_owned() };
    Rule { action, target, ports, protocol, origin }
}

fn target(text: &str) -> Target {
    let name = |text| Name::new(text).unwrap();
    if let Some(suffix) = text.strip_prefix("**.") {
        return Target::AnyDepth(name(suffix));
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return Target::OneLabel(name(suffix));
    }
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    match address.parse::<IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            Target::Network { address, prefix: prefix.parse().unwrap_or(bits) }
        }
        Err(_) => Target::Exact(name(text)),
    }
}

/// The policy of rules written so, one a line.
pub(crate) fn policy(default: Action, rules: &str) -> Policy {
    let lines = rules.lines().map(str::trim).filter(|line| !line.is_empty());
    Policy::new(default, lines.map(rule).collect())
}

/// What comes of a flow written as `tcp 1.2.3.4:443 names=a.com,b.com says=a.com`.
fn connect(policy: &Policy, flow: &str) -> Decision {
    let mut words = flow.split(' ');
    let protocol = if words.next().unwrap() == "udp" { Protocol::Udp } else { Protocol::Tcp };
    let place: std::net::SocketAddr = words.next().unwrap().parse().unwrap();
    let (mut names, mut claim) = (Vec::new(), Claim::Unknown);
    for word in words {
        match word.split_once('=').unwrap() {
            ("names", list) => names = list.split(',').map(|name| Name::new(name).unwrap()).collect(),
            ("says", "ssh") => claim = Claim::None,
            ("says", "nobody") => claim = Claim::Nameless,
            ("says", name) => claim = Claim::Name(Name::new(name).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    policy.connect(&Flow { protocol, address: place.ip(), port: place.port(), names: &names, claim })
}

/// `refuse NoRule allow "x"`.
fn told(decision: &Decision) -> String {
    let advice = decision.advice().map_or_else(String::new, |advice| format!(" | {advice}"));
    format!("{:?} {:?}{advice}", decision.verdict, decision.reason)
}

fn check(policy: &Policy, table: &[(&str, &str)]) {
    for (flow, expected) in table {
        assert_eq!(told(&connect(policy, flow)), *expected, "{flow}");
    }
}

#[test]
fn names_are_resolved_as_the_rules_say() {
    let denying = policy(
        Action::Deny,
        "allow api.github.com
         allow *.one.example
         allow **.any.example
         allow db.example port=5432 protocol=tcp
         deny secret.any.example
         deny half.any.example port=22",
    );
    let allowing = policy(Action::Allow, "deny **.bad.example\n deny half.example port=25");
    let table = [
        (&denying, "api.github.com", "Allow Allowed"),
        (&denying, "github.com", "Refuse NoRule | allow \"github.com\""),
        (&denying, "x.api.github.com", "Refuse NoRule | allow \"x.api.github.com\""),
        (&denying, "a.one.example", "Allow Allowed"),
        (&denying, "one.example", "Refuse NoRule | allow \"one.example\""),
        (&denying, "a.b.one.example", "Refuse NoRule | allow \"a.b.one.example\""),
        (&denying, "a.b.any.example", "Allow Allowed"),
        (&denying, "any.example", "Refuse NoRule | allow \"any.example\""),
        (&denying, "badany.example", "Refuse NoRule | allow \"badany.example\""),
        // A rule about some ports shows the name, a denial of some ports does not hide it.
        (&denying, "db.example", "Allow Allowed"),
        (&denying, "secret.any.example", "Refuse Denied"),
        (&denying, "half.any.example", "Allow Allowed"),
        (&allowing, "anything.example", "Allow NotDenied"),
        (&allowing, "a.b.bad.example", "Refuse Denied"),
        (&allowing, "half.example", "Allow NotDenied"),
    ];
    for (policy, name, expected) in table {
        assert_eq!(told(&policy.resolve(&Name::new(name).unwrap())), expected, "{name}");
    }
}

#[test]
fn an_address_that_stands_for_a_name_is_judged_by_that_name() {
    for (default, rules) in [(Action::Deny, "allow far.example"), (Action::Allow, "deny other.example")] {
        let policy = policy(default, rules);
        let judged = |flow: &str| connect(&policy, flow).verdict;
        assert_ne!(judged("tcp 198.18.0.5:443 names=far.example"), Verdict::Refuse);
        assert_eq!(judged("tcp 198.18.0.5:443 names=far.example says=far.example"), Verdict::Allow);
        assert_eq!(judged("tcp 198.18.0.5:443 names=other.example says=other.example"), Verdict::Refuse);
        // A proxy carries no datagrams, and an address without a name is a reserved one.
        assert_eq!(judged("udp 198.18.0.5:53 names=far.example"), Verdict::Refuse);
        assert_eq!(judged("tcp 198.18.0.5:443"), Verdict::Refuse);
        assert_eq!(
            judged("tcp 198.20.0.0:443 names=far.example says=far.example"),
            Verdict::Allow,
            "no stand-in"
        );
        assert_eq!(judged("tcp 10.0.0.1:443 names=far.example says=far.example"), Verdict::Refuse);
    }
}

#[test]
fn answers_do_not_lead_into_private_networks() {
    let rules = "allow app.example
         allow intranet.example
         allow 10.1.0.0/16
         allow 127.0.0.0/8
         allow 169.254.0.0/16
         allow 0.0.0.0/0
         deny 198.51.99.0/24";
    let table = [
        ("93.184.216.34", "Allow"),
        ("2606:4700::1111", "Allow"),
        ("::ffff:93.184.216.34", "Allow"),
        ("10.1.2.3", "Allow"),
        ("::ffff:10.1.2.3", "Allow"),
        // Everything does not mean the private networks, nor the link the metadata service.
        ("10.2.2.3", "Refuse Special(Private) | allow \"10.2.2.3\""),
        ("::ffff:10.2.2.3", "Refuse Special(Private) | allow \"10.2.2.3\""),
        ("64:ff9b::10.1.2.3", "Refuse Special(Private) | allow \"64:ff9b::a01:203\""),
        ("192.168.0.1", "Refuse Special(Private) | allow \"192.168.0.1\""),
        ("169.254.3.4", "Allow"),
        ("169.254.169.254", "Refuse Special(Metadata) | allow \"169.254.169.254\""),
        ("fd00:ec2::254", "Refuse Special(Metadata) | allow \"fd00:ec2::254\""),
        ("100.64.1.1", "Refuse Special(Shared) | allow \"100.64.1.1\""),
        ("fe80::1", "Refuse Special(LinkLocal) | allow \"fe80::1\""),
        ("127.0.0.1", "Refuse Never(Loopback)"),
        ("::1", "Refuse Never(Loopback)"),
        ("::ffff:127.0.0.1", "Refuse Never(Loopback)"),
        ("0.0.0.0", "Refuse Never(Unspecified)"),
        ("224.0.0.1", "Refuse Never(Multicast)"),
        ("255.255.255.255", "Refuse Never(Broadcast)"),
        ("198.51.99.7", "Refuse Denied"),
        ("64:ff9b::198.51.99.7", "Refuse Denied"),
    ];
    let name = Name::new("app.example").unwrap();
    for (default, allowed) in [(Action::Deny, "Allow Allowed"), (Action::Allow, "Allow Allowed")] {
        let policy = policy(default, rules);
        for (address, expected) in table {
            let expected = if expected == "Allow" { allowed } else { expected };
            assert_eq!(told(&policy.answer(&name, address.parse().unwrap())), expected, "{address}");
        }
    }
    let unknown = policy(Action::Deny, rules).answer(&Name::new("x.example").unwrap(), [10, 1, 2, 3].into());
    assert_eq!(told(&unknown), "Refuse NoRule | allow \"x.example\"");
}

#[test]
fn under_deny_a_flow_needs_a_rule_and_a_pin() {
    let policy = policy(
        Action::Deny,
        "allow a.com
         allow b.com port=443
         allow db.com port=5432 protocol=tcp
         allow quic.com port=443 protocol=udp
         allow 20.0.0.0/8 port=1000-1010
         allow 10.1.0.0/16
         deny 20.0.0.13
         deny a.com port=23",
    );
    check(
        &policy,
        &[
            // An address that was not resolved, or whose pin is gone.
            ("tcp 1.2.3.4:443", "Refuse UnknownAddress | allow \"1.2.3.4\" port=443"),
            ("tcp 1.2.3.4:443 says=a.com", "Refuse UnknownAddress | allow \"1.2.3.4\" port=443"),
            ("udp 1.2.3.4:53", "Refuse UnknownAddress | allow \"1.2.3.4\" port=53 protocol=\"udp\""),
            ("tcp [2606:4700::1]:22", "Refuse UnknownAddress | allow \"2606:4700::1\" port=22"),
            // TLS and HTTP: the name that was resolved must be the one that is told.
            ("tcp 1.2.3.4:443 names=a.com", "Inspect NotToldYet"),
            ("tcp 1.2.3.4:443 names=a.com says=a.com", "Allow Allowed"),
            ("tcp 1.2.3.4:80 names=a.com says=a.com", "Allow Allowed"),
            ("tcp 1.2.3.4:443 names=a.com says=evil.com", "Refuse NoRule | allow \"evil.com\""),
            ("tcp 1.2.3.4:443 names=a.com says=b.com", "Refuse OtherHost | allow \"1.2.3.4\" port=443"),
            ("tcp 1.2.3.4:443 names=a.com,b.com says=b.com", "Allow Allowed"),
            ("tcp 1.2.3.4:443 names=a.com says=nobody", "Refuse Nameless | allow \"1.2.3.4\" port=443"),
            ("tcp 1.2.3.4:443 names=a.com says=ssh", "Allow Allowed"),
            ("tcp 1.2.3.4:80 names=b.com", "Refuse OtherPort | allow \"b.com\" port=80"),
            ("tcp 1.2.3.4:80 names=a.com says=b.com", "Refuse OtherPort | allow \"b.com\" port=80"),
            // Other ports: the pin decides.
            ("tcp 1.2.3.4:22 names=a.com", "Allow Allowed"),
            ("udp 1.2.3.4:123 names=a.com", "Allow Allowed"),
            ("tcp 1.2.3.4:5432 names=db.com", "Allow Allowed"),
            (
                "udp 1.2.3.4:5432 names=db.com",
                "Refuse OtherPort | allow \"db.com\" port=5432 protocol=\"udp\"",
            ),
            ("tcp 1.2.3.4:22 names=db.com", "Refuse OtherPort | allow \"db.com\" port=22"),
            ("tcp 1.2.3.4:22 names=gone.com", "Refuse NoRule | allow \"gone.com\" port=22"),
            // QUIC hides the name.
            ("udp 1.2.3.4:443 names=a.com", "Refuse Quic | allow \"a.com\" port=443 protocol=\"udp\""),
            ("udp 1.2.3.4:443 names=quic.com", "Allow Allowed"),
            // Rules about addresses need neither pin nor name.
            ("tcp 20.0.0.1:1000", "Allow Allowed"),
            ("tcp 20.0.0.1:1011", "Refuse UnknownAddress | allow \"20.0.0.1\" port=1011"),
            ("tcp 10.1.9.9:443", "Allow Allowed"),
            ("tcp 10.1.9.9:443 says=nobody", "Allow Allowed"),
            ("udp 10.1.9.9:443", "Allow Allowed"),
            ("tcp [::ffff:10.1.9.9]:443", "Allow Allowed"),
            // A pin does not open the private network.
            ("tcp 10.2.0.1:22 names=a.com", "Refuse Special(Private) | allow \"10.2.0.1\" port=22"),
            ("tcp 127.0.0.1:22 names=a.com", "Refuse Never(Loopback)"),
            // Denials.
            ("tcp 20.0.0.13:1000", "Refuse Denied"),
            ("tcp [64:ff9b::20.0.0.13]:22 names=a.com", "Refuse Denied"),
            ("tcp 1.2.3.4:23 names=b.com,a.com", "Refuse Denied"),
        ],
    );
}

#[test]
fn under_allow_a_flow_needs_no_rule_unless_it_is_denied_or_special() {
    check(
        &policy(Action::Allow, "deny 30.0.0.0/8\n allow fd12::/16"),
        &[
            ("tcp 1.2.3.4:443", "Allow NotDenied"),
            ("udp 1.2.3.4:443", "Allow NotDenied"),
            ("tcp 30.0.0.1:443", "Refuse Denied"),
            ("tcp [2002:1e00:1::1]:443", "Refuse Denied"),
            ("tcp 192.168.1.1:80", "Refuse Special(Private) | allow \"192.168.1.1\" port=80"),
            ("tcp 169.254.169.254:80", "Refuse Special(Metadata) | allow \"169.254.169.254\" port=80"),
            ("tcp [fd12::1]:80", "Allow Allowed"),
            ("tcp [fd13::1]:80", "Refuse Special(Private) | allow \"fd13::1\" port=80"),
            ("tcp [::1]:80", "Refuse Never(Loopback)"),
        ],
    );
    check(
        &policy(Action::Allow, "deny **.bad.com\n allow q.com protocol=udp"),
        &[
            ("tcp 1.2.3.4:443", "Inspect NotToldYet"),
            ("tcp 1.2.3.4:443 says=x.bad.com", "Refuse Denied"),
            ("tcp 1.2.3.4:80 names=good.com says=x.bad.com", "Refuse Denied"),
            ("tcp 1.2.3.4:443 says=good.com", "Allow NotDenied"),
            ("tcp 1.2.3.4:443 says=nobody", "Allow NotDenied"),
            ("tcp 1.2.3.4:443 says=ssh", "Allow NotDenied"),
            ("tcp 1.2.3.4:22", "Allow NotDenied"),
            ("tcp 1.2.3.4:22 names=x.bad.com", "Refuse Denied"),
            ("tcp 1.2.3.4:443 names=x.bad.com", "Refuse Denied"),
            ("tcp 1.2.3.4:443 names=x.bad.com,good.com", "Inspect NotToldYet"),
            // QUIC could be to a denied name.
            ("udp 1.2.3.4:443", "Refuse Quic | allow \"1.2.3.4\" port=443 protocol=\"udp\""),
            ("udp 1.2.3.4:443 names=q.com", "Allow Allowed"),
            ("udp 1.2.3.4:53", "Allow NotDenied"),
        ],
    );
}

#[test]
fn a_decision_tells_the_rule_and_the_line_to_add() {
    let policy = policy(Action::Deny, "allow *.com\n deny x.com\n deny x.com");
    let denied = policy.resolve(&Name::new("x.com").unwrap());
    assert_eq!(denied.to_string(), "a rule denies it: deny x.com (sandbox.kdl:7)");
    let refused = policy.resolve(&Name::new("x.org").unwrap());
    assert_eq!(refused.to_string(), "no rule allows this host");
    let special = policy.answer(&Name::new("y.com").unwrap(), [10, 0, 0, 1].into());
    assert_eq!(special.to_string(), "it is a private address, which needs a rule about addresses");
}

#[test]
fn a_thousand_rules_do_not_make_ten_thousand_flows_slow() {
    let names = (0..500).map(|n| format!("allow host{n}.example.com\n allow *.zone{n}.example.com"));
    let networks = (0..500).map(|n| format!("deny 20.{}.{}.0/24", n / 256, n % 256));
    let policy = policy(Action::Deny, &names.chain(networks).collect::<Vec<_>>().join("\n"));
    let pinned = [Name::new("a.zone499.example.com").unwrap()];
    let flow = Flow {
        protocol: Protocol::Tcp,
        address: [1, 2, 3, 4].into(),
        port: 22,
        names: &pinned,
        claim: Claim::None,
    };
    let started = std::time::Instant::now();
    for _ in 0..10_000 {
        assert!(policy.connect(&flow).is_allowed());
    }
    // Far more than it takes without optimisation on a busy machine, and far less than looking at a name's every rule.
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

const NAMES: [&str; 5] = ["a.com", "b.com", "x.a.com", "y.x.a.com", "c.org"];
const TARGETS: [&str; 9] =
    ["a.com", "*.a.com", "**.a.com", "b.com", "**.com", "1.2.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "2000::/3"];

fn any_rule() -> impl Strategy<Value = Rule> {
    let ports = prop::sample::select(vec!["", " port=443", " port=80-443", " port=22"]);
    let protocols = prop::sample::select(vec!["", " protocol=tcp", " protocol=udp"]);
    let actions = prop::sample::select(vec!["allow", "deny"]);
    (actions, prop::sample::select(TARGETS.to_vec()), ports, protocols)
        .prop_map(|(action, target, ports, protocol)| rule(&format!("{action} {target}{ports}{protocol}")))
}

fn any_default() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Allow, Action::Deny])
}

#[derive(Clone, Debug)]
struct AnyFlow {
    protocol: Protocol,
    address: Ipv4Addr,
    port: u16,
    names: Vec<Name>,
    claim: Claim,
}

impl AnyFlow {
    fn at(&self, address: IpAddr) -> Flow<'_> {
        let Self { protocol, port, names, claim, .. } = self;
        Flow { protocol: *protocol, address, port: *port, names, claim: claim.clone() }
    }

    fn flow(&self) -> Flow<'_> {
        self.at(self.address.into())
    }
}

fn any_flow() -> impl Strategy<Value = AnyFlow> {
    let name = || prop::sample::select(NAMES.to_vec()).prop_map(|name| Name::new(name).unwrap());
    let address = prop::sample::select(vec![
        Ipv4Addr::new(1, 2, 3, 4),
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(8, 8, 8, 8),
        Ipv4Addr::LOCALHOST,
    ]);
    let claim = prop_oneof![
        Just(Claim::Unknown),
        Just(Claim::None),
        Just(Claim::Nameless),
        name().prop_map(Claim::Name)
    ];
    (
        prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        address,
        prop::sample::select(vec![22, 80, 443]),
        prop::collection::vec(name(), 0..3),
        claim,
    )
        .prop_map(|(protocol, address, port, names, claim)| AnyFlow {
            protocol,
            address,
            port,
            names,
            claim,
        })
}

proptest! {
    #[test]
    fn a_denial_wins_over_everything(
        default in any_default(), rules in prop::collection::vec(any_rule(), 0..6), flow in any_flow(),
    ) {
        let denied = |target: &Target, rule: &Rule| {
            rule.action == Action::Deny && rule.target == *target && rule.is_about(flow.protocol, flow.port)
        };
        let policy = Policy::new(default, rules.clone());
        let decision = policy.connect(&flow.flow());
        let address_denied = rules.iter().any(|rule| {
            rule.action == Action::Deny
                && rule.target.covers(flow.address.into())
                && rule.is_about(flow.protocol, flow.port)
        });
        let claim_denied = matches!(&flow.claim, Claim::Name(name)
            if rules.iter().any(|rule| denied(&Target::Exact(name.clone()), rule)));
        if address_denied || claim_denied {
            prop_assert!(decision.is_refused(), "{decision:?}");
        }
    }

    #[test]
    fn an_allowance_does_not_outbid_a_denial(
        default in any_default(),
        mut rules in prop::collection::vec(any_rule(), 0..6),
        more in any_rule(),
        at in 0_usize..6,
        flow in any_flow(),
    ) {
        let before = Policy::new(default, rules.clone()).connect(&flow.flow());
        rules.insert(at.min(rules.len()), Rule { action: Action::Allow, ..more });
        let after = Policy::new(default, rules).connect(&flow.flow());
        if before.reason == Reason::Denied {
            prop_assert_eq!(after.reason, Reason::Denied);
        }
        if before.is_allowed() {
            prop_assert!(after.is_allowed(), "an allowance took something away: {:?}", after);
        }
    }

    #[test]
    fn an_address_in_ipv6_form_is_the_address(
        default in any_default(), rules in prop::collection::vec(any_rule(), 0..6), flow in any_flow(),
    ) {
        let policy = Policy::new(default, rules);
        let mapped = policy.connect(&flow.at(flow.address.to_ipv6_mapped().into()));
        prop_assert_eq!(mapped, policy.connect(&flow.flow()));
    }

    #[test]
    fn advice_helps(
        default in any_default(), rules in prop::collection::vec(any_rule(), 0..6), flow in any_flow(),
    ) {
        let decision = Policy::new(default, rules.clone()).connect(&flow.flow());
        match decision.advice() {
            Some(advice) => {
                prop_assert!(decision.is_refused());
                let line = advice.to_string().replace('"', "");
                let mut more = rules;
                more.push(rule(&line));
                let after = Policy::new(default, more).connect(&flow.flow());
                // A name that was pinned and is allowed now may still have to be told, or the wrong one is.
                let is_nearer = !after.is_refused()
                    || matches!(after.reason, Reason::OtherHost | Reason::Nameless)
                    || after.advice().is_some_and(|next| next.host != advice.host)
                    || after.reason == Reason::OtherPort;
                prop_assert!(is_nearer, "{} gave {:?}", line, after);
                prop_assert_ne!(after.advice(), Some(advice), "the same advice again");
            }
            None => {
                let nothing_helps = matches!(decision.reason, Reason::Denied | Reason::Never(_));
                prop_assert!(!decision.is_refused() || nothing_helps, "{:?}", decision);
            }
        }
    }
}
