//! `agent` and `mcp`.

use super::{Decoder, structure::closest, value::not_empty};
use crate::{
    model::{Agent, AgentKind, Install, McpServer, PackageManager},
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

const MANAGERS: [PackageManager; 4] =
    [PackageManager::Apt, PackageManager::Npm, PackageManager::Pip, PackageManager::Cargo];

impl Decoder<'_> {
    pub(super) fn agent(&mut self, node: &Node) -> Option<Agent> {
        let version = self.text_property(node, "version");
        let (mut args, mut command, mut install) = (Vec::new(), Vec::new(), None);
        for child in node.children() {
            match child.name.value.as_str() {
                "args" => args = self.text_or_empty_arguments(child),
                "command" => command = self.text_arguments(child),
                "install" => install = self.install(child),
                _ => {}
            }
        }
        let name = self.checked_argument(node, agent_name)?;
        let described = node.children().iter().any(|child| child.name.value == "command");
        let kind = match AgentKind::known(&name.value) {
            Some(kind) => {
                self.known_agent(node, &name);
                kind
            }
            None if described => AgentKind::Own,
            None => {
                self.unknown_agent(&name);
                return None;
            }
        };
        Some(Agent { span: node.header, name, kind, version, args, install, command })
    }

    /// `install` and `command` describe agents that sbx does not know.
    fn known_agent(&mut self, node: &Node, name: &Spanned<String>) {
        for child in
            node.children().iter().filter(|child| matches!(child.name.value.as_str(), "install" | "command"))
        {
            let word = &child.name.value;
            let message = format!(
                "sbx knows how to {} `{}`",
                if word == "install" { "install" } else { "start" },
                name.value
            );
            let fault = self
                .fault("manifest::known-agent", child.header, message, "only for agents of your own")
                .with_help("remove it, or give the agent a name of your own: agent \"my-agent\" { … }");
            self.report(fault);
        }
    }

    fn unknown_agent(&mut self, name: &Spanned<String>) {
        let known = AgentKind::NAMES.iter().copied();
        let fault = self.fault(
            "manifest::unknown-agent",
            name.span,
            format!("sbx knows no agent `{}`", shorten(&name.value)),
            "not known, and no `command` says how to start it",
        );
        let synonym = SYNONYMS.iter().find(|(other, _)| *other == name.value).map(|(_, ours)| *ours);
        self.report(match synonym.or_else(|| closest(&name.value, known.clone())) {
            Some(close) => fault.with_help(format!("agent \"{close}\"")),
            None => fault.with_help(format!(
                "known are {}; describe another one: agent \"{}\" {{ install npm=\"{}\"; command \"{}\"; }}",
                known.collect::<Vec<_>>().join(", "),
                name.value,
                name.value,
                name.value
            )),
        });
    }

    fn install(&mut self, node: &Node) -> Option<Install> {
        let mut found = None;
        for manager in MANAGERS {
            let Some(package) = self.text_property(node, manager.as_str()) else { continue };
            if found.is_some() {
                let fault = self
                    .fault(
                        "manifest::twice",
                        package.span,
                        "an agent is installed by one package manager",
                        "the second",
                    )
                    .with_help("keep one of them");
                self.report(fault);
            } else {
                found = Some(Install { span: node.header, manager, package });
            }
        }
        if found.is_none() && node.properties.is_empty() {
            let fault = self
                .fault(
                    "manifest::missing",
                    node.header,
                    "`install` needs a package",
                    "does not say what to install",
                )
                .with_help(r#"install npm="@acme/agent""#);
            self.report(fault);
        }
        found
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
