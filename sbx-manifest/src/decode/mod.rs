//! From KDL's nodes to the model. Faults are gathered; whatever is wrong is left out, and the rest is read on.

mod agent;
mod build;
mod definition;
mod machine;
mod network;
mod secret;
mod structure;
mod value;

use kdl::KdlDocument;

pub(crate) use structure::closest;
pub(crate) use value::quoted;

use crate::{
    agents::Catalogue,
    fault::Fault,
    model::{Definition, DefinitionOrigin, Image, Manifest, Profile, Settings},
    shape::{AGENT_FILE, Children, MANIFEST, Shape},
    source::Source,
    span::{Span, Spanned},
    tree::Node,
    types::{Refusal, check_repository, sandbox_name, shorten},
    validate,
};

/// As many faults as anybody reads; a file with more of them is not a manifest.
const MAX_FAULTS: usize = 100;

/// Reads a manifest from KDL's `document`.
///
/// The manifest is there whenever it has an image, the faults in the order of the text.
pub(crate) fn manifest(
    document: &KdlDocument,
    source: &Source,
    catalogue: &Catalogue,
) -> (Option<Manifest>, Vec<Fault>) {
    let mut decoder = Decoder { source, catalogue, faults: Vec::new() };
    let nodes = Node::all(document, source);
    decoder.check_children(&nodes, MANIFEST, None);
    let (mut name, mut share) = (None, None);
    let mut profiles: Vec<Profile> = Vec::new();
    for node in &nodes {
        match node.name.value.as_str() {
            "sandbox" => name = name.or_else(|| decoder.checked_argument(node, sandbox_name)),
            "share" => share = share.or_else(|| decoder.checked_argument(node, check_repository)),
            "profile" => profiles.extend(decoder.profile(node)),
            _ => {}
        }
    }
    let (image, settings) = decoder.settings(&nodes);
    decoder.profile_names(&profiles);
    validate::settings(&mut decoder, &settings);
    for profile in &profiles {
        validate::settings(&mut decoder, &profile.settings);
    }
    let image = decoder.image(image, &nodes);
    let manifest =
        image.map(|image| Manifest { source: source.clone(), name, image, share, settings, profiles });
    (manifest, decoder.into_faults())
}

/// Reads the file of the agent `name` from KDL's `document`.
pub(crate) fn definition(
    document: &KdlDocument,
    source: &Source,
    name: &str,
    origin: DefinitionOrigin,
) -> (Option<Definition>, Vec<Fault>) {
    // A file about one agent does not name others.
    let catalogue = Catalogue::default();
    let mut decoder = Decoder { source, catalogue: &catalogue, faults: Vec::new() };
    let nodes = Node::all(document, source);
    decoder.check_children(&nodes, AGENT_FILE, None);
    let node = nodes.iter().find(|node| node.name.value == "agent");
    let definition = node.map(|node| decoder.named_definition(node, name, origin));
    if definition.is_none() {
        let at = nodes.first().map_or_else(Span::default, |node| node.name.span);
        let fault = decoder
            .fault("manifest::missing", at, "this file describes no agent", "no `agent` in this file")
            .with_help(format!("agent {} {{ command {}; }}", quoted(name), quoted(name)));
        decoder.report(fault);
    }
    (definition, decoder.into_faults())
}

/// The state of reading: the text and what was found wrong so far.
pub(crate) struct Decoder<'s> {
    pub(crate) source: &'s Source,
    catalogue: &'s Catalogue,
    faults: Vec<Fault>,
}

impl Decoder<'_> {
    /// Starts an error at `span`; [`Self::report`] adds it to the others.
    pub(crate) fn fault(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Fault {
        Fault::error(self.source, code, span, message, label)
    }

    /// Adds a fault.
    pub(crate) fn report(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// All faults, in the order of the text.
    fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.span().offset, fault.span().length));
        self.faults
    }

    /// What the only node of an agent's file says. The file's name is the agent's.
    fn named_definition(&mut self, node: &Node, name: &str, origin: DefinitionOrigin) -> Definition {
        if let Some(written) = self.text_argument(node)
            && written.value != name
        {
            let fault = self
                .fault(
                    "manifest::agent-name",
                    written.span,
                    format!("this file describes the agent `{}`", shorten(name)),
                    "another name than the file's",
                )
                .with_help(format!("agent {}", quoted(name)));
            self.report(fault);
        }
        self.define(node, name, origin)
    }

    /// Adds a fault for a value that is not what it should be. `line` makes the text to paste from the right value.
    pub(crate) fn refuse(
        &mut self,
        code: &'static str,
        span: Span,
        refusal: Refusal,
        line: impl Fn(&str) -> String,
    ) {
        let fault = self.fault(code, span, refusal.message, refusal.label);
        self.report(match (refusal.instead, refusal.advice) {
            (Some(instead), _) => fault.with_help(line(&instead)),
            (None, Some(advice)) => fault.with_help(advice),
            (None, None) => fault,
        });
    }

    /// The nodes that a manifest and a profile have in common.
    fn settings(&mut self, nodes: &[Node]) -> (Option<Image>, Settings) {
        let (mut image, mut settings) = (None, Settings::default());
        for node in nodes {
            let settings = &mut settings;
            match node.name.value.as_str() {
                "agent" => settings.agents.extend(self.agent(node)),
                "image" => keep_first(&mut image, || self.base_image(node)),
                "packages" => keep_first(&mut settings.packages, || Some(self.packages(node))),
                "setup" => settings.setup.extend(self.setup(node)),
                "start" => settings.start.extend(self.start(node)),
                "resources" => settings.resources = self.resources(node),
                "workspace" => keep_first(&mut settings.workspace, || self.workspace(node)),
                "mount" => settings.mounts.extend(self.mount(node)),
                "network" => keep_first(&mut settings.network, || Some(self.network(node))),
                "secret" => settings.secrets.extend(self.secret(node)),
                "env" => settings.env.extend(self.env(node)),
                "docker" => keep_first(&mut settings.docker, || self.docker(node)),
                "mcp" => settings.mcp.extend(self.mcp(node)),
                _ => {}
            }
        }
        (image, settings)
    }

    fn profile(&mut self, node: &Node) -> Option<Profile> {
        let (image, settings) = self.settings(node.children());
        let name = self.checked_argument(node, sandbox_name)?;
        if node.children().is_empty() {
            let fault = self.fault(
                "manifest::empty",
                node.header,
                format!("the profile `{}` changes nothing", name.value),
                "nothing between its braces",
            );
            let line = format!(r#"profile "{}" {{ agent "shell"; }}"#, name.value);
            self.report(fault.with_help(line).into_warning());
        }
        Some(Profile { span: node.header, name, image, settings })
    }

    fn profile_names(&mut self, profiles: &[Profile]) {
        let mut seen: Vec<&Spanned<String>> = Vec::new();
        for profile in profiles {
            match seen.iter().find(|earlier| earlier.value == profile.name.value) {
                Some(earlier) => {
                    let message = format!("there are two profiles `{}`", profile.name.value);
                    let fault = self.fault("manifest::twice", profile.name.span, message, "the second");
                    self.report(
                        fault.and_at(earlier.span, "the first").with_help("give one of them another name"),
                    );
                }
                None => seen.push(&profile.name),
            }
        }
    }

    /// Every manifest has an image.
    fn image(&mut self, image: Option<Image>, nodes: &[Node]) -> Option<Image> {
        // One that is there and wrong, or misspelt, was reported as such.
        let shapes = MANIFEST.iter().map(|shape| shape.name);
        let meant = |node: &Node| {
            let name = node.name.value.as_str();
            name == "image"
                || (!shapes.clone().any(|shape| shape == name)
                    && closest(name, shapes.clone()) == Some("image"))
        };
        if image.is_none() && !nodes.iter().any(meant) {
            let at = nodes.first().map_or_else(Span::default, |node| node.name.span);
            let label = if nodes.is_empty() { "nothing here" } else { "no `image` in this file" };
            let fault = self
                .fault("manifest::no-image", at, "the manifest names no image", label)
                .with_help(r#"image "docker.io/library/debian:bookworm-slim""#);
            self.report(fault);
        }
        image
    }
}

/// Reads a node that may be there once. That there are more is reported elsewhere; they are still read for their own
/// faults.
fn keep_first<T>(slot: &mut Option<T>, read: impl FnOnce() -> Option<T>) {
    let read = read();
    if slot.is_none() {
        *slot = read;
    }
}

/// What stands between the braces of a node of this shape.
pub(crate) const fn known_children(shape: &Shape) -> Option<&'static [Shape]> {
    match shape.children {
        Children::Known(shapes) => Some(shapes),
        Children::None | Children::Free => None,
    }
}
