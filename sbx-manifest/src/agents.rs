//! What each known agent cannot do without: the hosts that it talks to, and the secret that it is known by.
//!
//! From the agents' own documentation of API keys and of what a firewall must let through. A repository that uses an
//! agent otherwise (another provider, a gateway) says so with `allow` and `secret`, which come on top.

use crate::model::AgentKind;

/// What an agent implies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Implied {
    /// Hosts, on port 443.
    pub(crate) hosts: &'static [&'static str],
    /// Environment variable, host, and header (none for a bearer token).
    pub(crate) secret: Option<(&'static str, &'static str, Option<&'static str>)>,
}

/// What `kind` implies.
pub(crate) const fn implied(kind: AgentKind) -> Implied {
    match kind {
        AgentKind::Claude => Implied {
            hosts: &["api.anthropic.com", "claude.ai", "platform.claude.com"],
            secret: Some(("ANTHROPIC_API_KEY", "api.anthropic.com", Some("x-api-key"))),
        },
        AgentKind::Codex => Implied {
            hosts: &["api.openai.com", "auth.openai.com", "chatgpt.com"],
            secret: Some(("OPENAI_API_KEY", "api.openai.com", None)),
        },
        AgentKind::Copilot => Implied {
            hosts: &["api.github.com", "**.githubcopilot.com"],
            secret: Some(("COPILOT_GITHUB_TOKEN", "api.github.com", None)),
        },
        AgentKind::Gemini => Implied {
            hosts: &[
                "generativelanguage.googleapis.com",
                "cloudcode-pa.googleapis.com",
                "oauth2.googleapis.com",
            ],
            secret: Some(("GEMINI_API_KEY", "generativelanguage.googleapis.com", Some("x-goog-api-key"))),
        },
        AgentKind::Kiro => Implied {
            hosts: &["q.us-east-1.amazonaws.com", "oidc.us-east-1.amazonaws.com", "**.kiro.dev"],
            secret: None,
        },
        AgentKind::Opencode => Implied { hosts: &["models.dev", "opencode.ai"], secret: None },
        AgentKind::Qwen => Implied {
            hosts: &["dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "chat.qwen.ai"],
            secret: Some(("DASHSCOPE_API_KEY", "dashscope-intl.aliyuncs.com", None)),
        },
        AgentKind::Shell | AgentKind::Own => Implied { hosts: &[], secret: None },
    }
}
