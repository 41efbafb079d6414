//! Checks nodes against their [`Shape`]s: unknown, missing, superfluous, twice.

use super::{Decoder, value::quoted};
use crate::{
    fault::Fault,
    shape::{Arguments, Children, MANIFEST, Occurs, Shape},
    span::Span,
    tree::Node,
    types::shorten,
};

/// From this similarity (Jaro-Winkler) on, a name is taken for a misspelling.
const MIN_SIMILARITY: f64 = 0.75;

/// Names that other tools, or people, have for our nodes and properties.
const SYNONYMS: &[(&str, &str)] = &[
    ("base", "image"),
    ("from", "image"),
    ("container", "image"),
    ("cpu", "cpus"),
    ("cores", "cpus"),
    ("vcpus", "cpus"),
    ("ram", "memory"),
    ("mem", "memory"),
    ("storage", "disk"),
    ("volume", "mount"),
    ("volumes", "mount"),
    ("mounts", "mount"),
    ("environment", "env"),
    ("variables", "env"),
    ("install", "packages"),
    ("dependencies", "packages"),
    ("ports", "publish"),
    ("expose", "publish"),
    ("forward", "publish"),
    ("run", "setup"),
    ("build", "setup"),
    ("boot", "start"),
    ("read-only", "readonly"),
    ("ro", "readonly"),
    ("target", "at"),
    ("name", "sandbox"),
    ("block", "deny"),
    ("firewall", "network"),
    ("token", "secret"),
    ("credential", "secret"),
    ("node", "npm"),
    ("python", "pip"),
    ("yum", "dnf"),
    ("arguments", "args"),
    ("source", "from"),
];

/// Package managers that sbx cannot pin, and how they install without a question.
const UNPINNED: &[(&str, &str)] = &[
    ("microdnf", "microdnf install --assumeyes"),
    ("zypper", "zypper --non-interactive install"),
    ("pacman", "pacman --sync --noconfirm"),
];

impl Decoder<'_> {
    /// Checks the nodes between the braces of `parent`, or those of the file.
    pub(crate) fn check_children(&mut self, nodes: &[Node], shapes: &'static [Shape], parent: Option<&Node>) {
        for (index, node) in nodes.iter().enumerate() {
            let Some(shape) = shapes.iter().find(|shape| shape.name == node.name.value) else {
                self.unknown_node(node, shapes, parent);
                continue;
            };
            if shape.occurs == Occurs::Once {
                let earlier = nodes.iter().take(index).find(|earlier| earlier.name.value == node.name.value);
                if let Some(earlier) = earlier {
                    self.given_twice(node, earlier);
                }
            }
            self.check_node(node, shape);
        }
    }

    fn check_node(&mut self, node: &Node, shape: &'static Shape) {
        for annotation in &node.annotations {
            let fault = self.fault(
                "manifest::annotation",
                *annotation,
                "type annotations mean nothing here",
                "remove it",
            );
            self.report(fault);
        }
        self.check_arguments(node, shape);
        self.check_properties(node, shape);
        match (shape.children, &node.children) {
            (Children::None, Some(_)) => {
                let message = format!("`{}` has no braces", shape.name);
                let fault = self.fault("manifest::braces", node.header, message, "followed by `{`");
                self.report(fault.with_help(shape.example));
            }
            (Children::Known(shapes), Some(children)) => self.check_children(children, shapes, Some(node)),
            _ => {}
        }
    }

    fn check_arguments(&mut self, node: &Node, shape: &Shape) {
        let count = node.arguments.len();
        let (missing, most) = match shape.arguments {
            Arguments::None => (false, 0),
            Arguments::One => (count == 0, 1),
            Arguments::AtMostOne => (false, 1),
            Arguments::OneOrMore => (count == 0, usize::MAX),
            Arguments::Any => (false, usize::MAX),
        };
        if missing {
            let message = format!("`{}` needs an argument", shape.name);
            let fault = self.fault("manifest::missing", node.header, message, "nothing after it");
            self.report(fault.with_help(shape.example));
        }
        if let Some(superfluous) = node.arguments.get(most) {
            let message = match most {
                0 => format!("`{}` has no arguments", shape.name),
                _ => format!("`{}` has one argument", shape.name),
            };
            let fault = self.fault("manifest::superfluous", superfluous.span, message, "one too many");
            let written = self.source.slice(superfluous.span);
            let property =
                shape.properties.iter().find(|property| written.trim_matches('"').starts_with(**property));
            self.report(match property {
                Some(property) => fault.with_help(format!("properties are written with `=`: {property}=…")),
                None => fault.with_help(shape.example),
            });
        }
    }

    fn check_properties(&mut self, node: &Node, shape: &Shape) {
        for (index, property) in node.properties.iter().enumerate() {
            let name = &property.name;
            if !shape.properties.contains(&name.value.as_str()) {
                let message = format!("`{}` has no property `{}`", shape.name, shorten(&name.value));
                let fault = self.fault("manifest::unknown-property", name.span, message, "not known");
                let help = self.property_help(node, shape, &name.value, property.span);
                self.report(fault.with_help(help));
                continue;
            }
            let earlier = node.properties.iter().take(index).find(|earlier| earlier.name.value == name.value);
            if let Some(earlier) = earlier {
                let message = format!("`{}` is given twice", name.value);
                let fault = self
                    .fault("manifest::twice", property.span, message, "the second")
                    .and_at(earlier.span, "the first")
                    .with_help("keep one of them");
                self.report(fault);
            }
        }
    }

    fn property_help(&self, node: &Node, shape: &Shape, name: &str, whole: Span) -> String {
        let known = shape.properties.iter().copied();
        if let Some(close) = closest(name, known) {
            let value = self.source.slice(whole).split_once('=').map_or("…", |(_, value)| value);
            return format!("{close}={value}");
        }
        // `env FOO="bar"` and `agent "x" args="…"` put into properties what belongs between braces.
        if shape.name == "env" {
            let value = node.property(name).map_or("…", |value| self.source.slice(value.span));
            return format!("env {{ {name} {value}; }}");
        }
        match shape.properties {
            [] => format!("`{}` has no properties: {}", shape.name, shape.example),
            _ => format!("it has {}: {}", listed(shape.properties), shape.example),
        }
    }

    fn given_twice(&mut self, node: &Node, earlier: &Node) {
        let name = &node.name.value;
        let fault = self
            .fault("manifest::twice", node.header, format!("`{name}` is given twice"), "the second")
            .and_at(earlier.header, "the first")
            .with_help(format!("keep one `{name}`; a profile can replace it"));
        self.report(fault);
    }

    fn unknown_node(&mut self, node: &Node, shapes: &[Shape], parent: Option<&Node>) {
        let name = node.name.value.as_str();
        if parent.is_some_and(|parent| parent.name.value == "packages")
            && let Some((_, install)) = UNPINNED.iter().find(|(manager, _)| *manager == name)
        {
            return self.unpinned(node, install);
        }
        let place = parent.map_or_else(String::new, |parent| format!(" in `{}`", parent.name.value));
        let fault = self.fault(
            "manifest::unknown-node",
            node.name.span,
            format!("there is no `{}`{place}", shorten(name)),
            "not known",
        );
        let help = self.node_help(node, shapes, parent);
        self.report(fault.with_help(help));
    }

    fn unpinned(&mut self, node: &Node, install: &str) {
        let name = &node.name;
        let message = format!("sbx cannot pin packages of `{}`", name.value);
        let fault = self.fault("manifest::unpinned", name.span, message, "not one of those it can");
        let words = node.arguments.iter().filter_map(|value| value.data.as_string());
        let command = words.fold(format!("sudo {install}"), |command, word| format!("{command} {word}"));
        self.report(fault.with_help(format!("install them with setup {}", quoted(&shorten(&command)))));
    }

    fn node_help(&self, node: &Node, shapes: &[Shape], parent: Option<&Node>) -> String {
        let name = node.name.value.as_str();
        let rest = self.source.slice(Span::between(node.name.span.end(), node.header.end()));
        if let Some(close) = closest(name, shapes.iter().map(|shape| shape.name)) {
            return format!("{close}{rest}");
        }
        let elsewhere = |outer: &'static Shape| {
            super::known_children(outer)
                .is_some_and(|children| children.iter().any(|child| child.name == name))
                // Seldom is an agent described, and often something is to be allowed.
                && !(outer.name == "agent" && name == "allow")
        };
        if parent.is_none()
            && let Some(outer) = MANIFEST.iter().find(|outer| outer.name != "profile" && elsewhere(outer))
        {
            return match outer.name {
                "network" => format!(r#"network "deny" {{ {name}{rest}; }}"#),
                outer => format!("{outer} {{ {name}{rest}; }}"),
            };
        }
        if MANIFEST.iter().any(|shape| shape.name == name) {
            return format!("`{name}` stands at the top of the file, outside of all braces");
        }
        format!("known here: {}", listed(&shapes.iter().map(|shape| shape.name).collect::<Vec<_>>()))
    }
}

/// Which of `known` was meant by `name`.
pub(crate) fn closest<'k>(name: &str, known: impl Iterator<Item = &'k str> + Clone) -> Option<&'k str> {
    const MAX_BYTES: usize = 40;
    if name.len() > MAX_BYTES {
        return None;
    }
    let lower = name.to_lowercase();
    let synonym = SYNONYMS
        .iter()
        .filter(|(other, _)| *other == lower)
        .find_map(|(_, ours)| known.clone().find(|candidate| candidate == ours));
    synonym.or_else(|| {
        known
            .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
            .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
            .max_by(|left, right| left.0.total_cmp(&right.0))
            .map(|(_, candidate)| candidate)
    })
}

/// `a, b and c`, each in backticks.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

impl Decoder<'_> {
    /// The fault for a word that is none of `known`.
    pub(crate) fn not_one_of(&self, span: Span, what: &str, word: &str, known: &[&str]) -> Fault {
        let message = format!("`{}` is not {what}", shorten(word));
        let label = format!("must be {}", listed(known).replace(" and ", " or "));
        self.fault("manifest::unknown-value", span, message, label)
    }
}
