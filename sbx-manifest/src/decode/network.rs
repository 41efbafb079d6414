//! `network`.

use kdl::KdlValue;

use super::{Decoder, value::quoted};
use crate::{
    model::{Action, HostService, Network, Publish, Rule, Target},
    span::Spanned,
    tree::{Node, Value},
    types::{HostPattern, NotAHost, PortRange, Protocol},
};

const ACTIONS: [(&str, Action); 2] = [("deny", Action::Deny), ("allow", Action::Allow)];
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

impl Decoder<'_> {
    pub(super) fn network(&mut self, node: &Node) -> Network {
        let default = match node.arguments.first() {
            Some(value) => self.word(value, "network ", "what happens without a rule", &ACTIONS),
            None => None,
        };
        let default = default.unwrap_or_else(|| Spanned::new(Action::Deny, node.name.span));
        let mut network = Network {
            span: node.header,
            default,
            rules: Vec::new(),
            host_services: Vec::new(),
            published: Vec::new(),
        };
        for child in node.children() {
            match child.name.value.as_str() {
                "allow" => network.rules.extend(self.rule(child, Action::Allow)),
                "deny" => network.rules.extend(self.rule(child, Action::Deny)),
                "host-service" => {
                    let port = child.arguments.first().and_then(|value| self.port(value, "host-service "));
                    network.host_services.extend(port.map(|port| HostService { span: child.header, port }));
                }
                "publish" => network.published.extend(self.publish(child)),
                _ => {}
            }
        }
        network
    }

    fn publish(&mut self, node: &Node) -> Option<Publish> {
        let value = node.arguments.first()?;
        if let KdlValue::String(text) = &value.data
            && let Some((host, guest)) = text.split_once(':')
        {
            let fault = self
                .fault(
                    "manifest::port",
                    value.span,
                    "the two ports are written apart",
                    "host:guest is another tool's form",
                )
                .with_help(format!("publish {guest} as={host}"));
            self.report(fault);
            return None;
        }
        let host_port = node.property("as").and_then(|value| match value.data {
            KdlValue::Integer(0) => Some(Spanned::new(0, value.span)),
            _ => self.port(value, "as="),
        });
        let port = self.port(value, "publish ")?;
        Some(Publish { span: node.header, port, host_port })
    }

    fn rule(&mut self, node: &Node, action: Action) -> Option<Rule> {
        let mut targets: Vec<Spanned<Target>> = Vec::new();
        for value in &node.arguments {
            targets.extend(self.target(value, action));
        }
        let registries = node.property("registries").and_then(|value| self.boolean(value, "registries="));
        if let Some(registries) = registries.filter(|registries| registries.value) {
            targets.push(Spanned::new(Target::Registries { registries: true }, registries.span));
        }
        let port = node.property("port").and_then(|value| self.port_range(value));
        let protocol = node
            .property("protocol")
            .and_then(|value| self.word(value, "protocol=", "a protocol", &PROTOCOLS));
        if node.arguments.is_empty() && node.property("registries").is_none() {
            let word = action.as_str();
            let help = match action {
                Action::Allow => r#"allow "api.github.com", or allow registries=#true"#.to_owned(),
                Action::Deny => r#"deny "gist.github.com""#.to_owned(),
            };
            let fault = self
                .fault("manifest::missing", node.header, format!("`{word}` names no host"), "matches nothing")
                .with_help(help);
            self.report(fault);
        }
        (!targets.is_empty()).then_some(Rule { span: node.header, action, targets, port, protocol })
    }

    pub(super) fn target(&mut self, value: &Value, action: Action) -> Option<Spanned<Target>> {
        let word = action.as_str();
        let text = self.string(value)?;
        if text.value == "registries" {
            let fault = self
                .fault(
                    "manifest::host",
                    text.span,
                    "`registries` is a property",
                    "read as a host of that name",
                )
                .with_help(format!("{word} registries=#true"));
            self.report(fault.into_warning());
        }
        match HostPattern::read(&text.value) {
            Ok(written) => {
                if let Some(better) = written.better {
                    let fault = self.fault("manifest::host", text.span, better.message, better.label);
                    let instead = quoted(better.instead.as_deref().unwrap_or_default());
                    self.report(fault.with_help(format!("{word} {instead}")).into_warning());
                }
                Some(Spanned::new(Target::Host(written.pattern), text.span))
            }
            Err(refusal) => {
                let refusal = NotAHost::new(refusal);
                let fault = self.fault("manifest::host", text.span, refusal.sentence(word), refusal.label());
                self.report(match (refusal.host(), refusal.port(), refusal.advice()) {
                    (Some(host), Some(port), _) => {
                        fault.with_help(format!("{word} {} port={port}", quoted(host)))
                    }
                    (Some(host), None, _) => fault.with_help(format!("{word} {}", quoted(host))),
                    (None, _, Some(advice)) => fault.with_help(advice),
                    (None, _, None) => fault,
                });
                None
            }
        }
    }

    fn port_range(&mut self, value: &Value) -> Option<Spanned<PortRange>> {
        let range = match &value.data {
            KdlValue::String(text) => PortRange::from_text(text),
            KdlValue::Integer(number) => PortRange::from_number(*number),
            _ => {
                self.integer(value, "port=");
                return None;
            }
        };
        match range {
            Ok(range) => Some(Spanned::new(range, value.span)),
            Err(refusal) => {
                self.refuse("manifest::port", value.span, refusal, |instead| format!("port=\"{instead}\""));
                None
            }
        }
    }
}
