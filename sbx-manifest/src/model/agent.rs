//! What runs in the sandbox: `agent` and `mcp`.

use serde::Serialize;

use crate::span::{Span, Spanned};

/// The program that `sbx up` starts.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// Its name as written.
    pub name: Spanned<String>,
    /// Which of the known ones it is.
    pub kind: AgentKind,
    /// `version`: which one to install. Default: the newest, pinned in the lock.
    pub version: Option<Spanned<String>>,
    /// `args`: added to the command.
    pub args: Vec<Spanned<String>>,
    /// `install`: how an agent of the repository's own gets into the snapshot.
    pub install: Option<Install>,
    /// `command`: how an agent of the repository's own is started; empty for the known ones.
    pub command: Vec<Spanned<String>>,
}

/// The agents that sbx knows, and those that it does not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// Claude Code.
    Claude,
    /// Codex CLI.
    Codex,
    /// Copilot CLI.
    Copilot,
    /// Gemini CLI.
    Gemini,
    /// Kiro CLI.
    Kiro,
    /// OpenCode.
    Opencode,
    /// Qwen Code.
    Qwen,
    /// A login shell, or the command that `sbx up` is given.
    Shell,
    /// One that the manifest describes with `install` and `command`.
    Own,
}

impl AgentKind {
    /// The names of the known agents, as `agent` takes them.
    pub const NAMES: [&str; 8] =
        ["claude", "codex", "copilot", "gemini", "kiro", "opencode", "qwen", "shell"];

    /// The known agent of that name.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        Some(match name {
            "claude" => Self::Claude,
            "codex" => Self::Codex,
            "copilot" => Self::Copilot,
            "gemini" => Self::Gemini,
            "kiro" => Self::Kiro,
            "opencode" => Self::Opencode,
            "qwen" => Self::Qwen,
            "shell" => Self::Shell,
            _ => return None,
        })
    }
}

/// How an agent of the repository's own gets into the snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Install {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// Which package manager installs it.
    pub manager: super::PackageManager,
    /// The package.
    pub package: Spanned<String>,
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
