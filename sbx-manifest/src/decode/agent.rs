//! `agent` and `mcp`.

use super::{Decoder, structure::closest, value::not_empty};
use crate::{
    fault::Faults,
    model::{Agent, Definition, DefinitionOrigin, McpServer},
    span::Spanned,
    tree::Node,
    types::{Refusal, sandbox_name, shorten},
};

/// Names that people have for the agents besides ours.
const SYNONYMS: [(&str, &str); 8] = [
    ("claude-code", "claude"),
    ("codex-cli", "codex"),
    ("github-copilot", "copilot"),
    ("gemini-cli", "gemini"),
    ("qwen-code", "qwen"),
    ("bash", "shell"),
    ("sh", "shell"),
    ("none", "shell"),
];

impl Decoder<'_> {
    pub(super) fn agent(&mut self, node: &Node) -> Option<Agent> {
        let version = self.text_property(node, "version");
        let args = node.children().iter().find(|child| child.name.value == "args");
        let args = args.map(|args| self.text_or_empty_arguments(args)).unwrap_or_default();
        let name = self.checked_argument(node, agent_name)?;
        let definition = self.definition_of(node, &name)?;
        if let Some(version) = version.as_ref().filter(|_| definition.is_shell()) {
            let fault = self
                .fault(
                    "manifest::known-agent",
                    version.span,
                    format!("`{}` is the image's, and so is its version", name.value),
                    "chooses nothing",
                )
                .with_help("remove it");
            self.report(fault);
        }
        Some(Agent { span: node.header, name, version, args, definition })
    }

    /// What the agent of that name is, if anybody says.
    fn definition_of(&mut self, node: &Node, name: &Spanned<String>) -> Option<Definition> {
        let described = node.children().iter().any(|child| child.name.value == "command");
        match self.catalogue.get(&name.value) {
            Some(Ok(definition)) => {
                self.known_agent(node, name);
                Some(definition)
            }
            Some(Err(faults)) => {
                self.broken_agent(name, &faults);
                None
            }
            None if described || self.catalogue.knows_anything() => {
                Some(self.define(node, &name.value, DefinitionOrigin::Manifest))
            }
            None => {
                self.unknown_agent(name);
                None
            }
        }
    }

    /// Only agents that nobody else describes are described in the manifest.
    fn known_agent(&mut self, node: &Node, name: &Spanned<String>) {
        for child in node.children().iter().filter(|child| child.name.value != "args") {
            let message = match child.name.value.as_str() {
                "install" => format!("sbx knows how to install `{}`", name.value),
                "command" => format!("sbx knows how to start `{}`", name.value),
                word => format!("sbx knows the `{}` of `{}`", shorten(word), name.value),
            };
            let fault = self
                .fault("manifest::known-agent", child.header, message, "only for agents of your own")
                .with_help("remove it, or give the agent a name of your own: agent \"my-agent\" { … }");
            self.report(fault);
        }
    }

    /// The file that says what the agent is has faults, which are reported with their own places.
    fn broken_agent(&mut self, name: &Spanned<String>, faults: &Faults) {
        let message = format!("what `{}` is cannot be read", name.value);
        let fault = self.fault("manifest::broken-agent", name.span, message, faults.to_string());
        self.report(fault);
        for fault in faults {
            self.report(fault.clone());
        }
    }

    fn unknown_agent(&mut self, name: &Spanned<String>) {
        let known = self.catalogue.names();
        let fault = self.fault(
            "manifest::unknown-agent",
            name.span,
            format!("sbx knows no agent `{}`", shorten(&name.value)),
            "not known, and no `command` says how to start it",
        );
        let synonym = SYNONYMS.iter().find(|(other, _)| *other == name.value).map(|(_, ours)| *ours);
        self.report(match synonym.or_else(|| closest(&name.value, known.iter().copied())) {
            Some(close) => fault.with_help(format!("agent \"{close}\"")),
            None => fault.with_help(format!(
                "known are {}; describe another one: agent \"{}\" {{ install npm=\"{}\"; command \"{}\"; }}",
                known.join(", "),
                name.value,
                name.value,
                name.value
            )),
        });
    }

    pub(super) fn mcp(&mut self, node: &Node) -> Option<McpServer> {
        let args = node.children().iter().find(|child| child.name.value == "args");
        let args = args.map(|args| self.text_or_empty_arguments(args)).unwrap_or_default();
        let command = self.text_property(node, "command");
        let name = self.text_argument(node)?;
        if node.property("command").is_none() {
            let fault = self
                .fault(
                    "manifest::missing",
                    node.header,
                    "an MCP server needs a command",
                    "does not say what to run",
                )
                .with_help(format!("mcp \"{}\" command=\"{}-mcp\"", name.value, name.value));
            self.report(fault);
        }
        Some(McpServer { span: node.header, name, command: command?, args })
    }

    /// Arguments of a program, which may be empty strings.
    fn text_or_empty_arguments(&mut self, node: &Node) -> Vec<Spanned<String>> {
        node.arguments.iter().filter_map(|value| self.checked(value, "", no_nul)).collect()
    }
}

/// A program's argument ends at the first NUL (execve(2)).
pub(super) fn no_nul(text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(Refusal::new("there is a NUL in the string", "cannot be handed to a program"));
    }
    Ok(())
}

fn agent_name(text: &str) -> Result<(), Refusal> {
    not_empty(text)?;
    sandbox_name(text)
}
