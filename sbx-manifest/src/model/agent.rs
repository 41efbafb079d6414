//! What runs in the sandbox: `agent` and `mcp`.

use serde::Serialize;

use super::Definition;
use crate::span::{Span, Spanned};

/// A program that `sbx up` starts.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// Its name as written.
    pub name: Spanned<String>,
    /// `version`: which one to install. Default: the newest, pinned in the lock.
    pub version: Option<Spanned<String>>,
    /// `args`: added to the command.
    pub args: Vec<Spanned<String>>,
    /// What it is: the agent of that name, or what the manifest itself says between the braces.
    pub definition: Definition,
}

impl Agent {
    /// An agent that the manifest does not name.
    #[must_use]
    pub fn unnamed(definition: Definition) -> Self {
        let name = Spanned::new(definition.name.clone(), Span::default());
        Self { span: Span::default(), name, version: None, args: Vec::new(), definition }
    }

    /// Program and arguments that start it, with `more` behind those of the manifest; none for a login shell.
    ///
    /// The agent without a command of its own, the shell, runs what it is given: `more`, or else its `args`.
    #[must_use]
    pub fn command(&self, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let bytes = |words: &[Spanned<String>]| -> Vec<Vec<u8>> {
            words.iter().map(|word| word.value.clone().into_bytes()).collect()
        };
        if self.definition.command.is_empty() {
            return if more.is_empty() { bytes(&self.args) } else { more.to_vec() };
        }
        [bytes(&self.definition.command), bytes(&self.args), more.to_vec()].concat()
    }
}

/// An MCP server inside the sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct McpServer {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// What the agent calls it.
    pub name: Spanned<String>,
    /// The program.
    pub command: Spanned<String>,
    /// `args`: its arguments.
    pub args: Vec<Spanned<String>>,
}
