//! What a manifest says, as plain data.
//!
//! ```text
//! Manifest ── name, image, profiles
//!    └─ the rest, each optional:  agent · packages · setup · start · resources · workspace · mounts · network
//!                                 secrets · env · docker · mcp
//! Profile  ── Settings: the same nodes, image included; what is there replaces the manifest's
//! ```
//!
//! Nothing here is resolved: paths are as written, and what is absent is `None` or empty. The effective values, with
//! defaults and with what the agent implies, are in [`crate::explain`].

mod agent;
mod build;
mod machine;
mod network;
mod secret;

use serde::Serialize;

pub use agent::{Agent, AgentKind, Install, McpServer};
pub use build::{Image, PackageManager, PackageSet, Packages, Setup, Start};
pub use machine::{Mount, Resources, Variable, Workspace, WorkspaceMode};
pub use network::{Action, HostService, Network, Publish, Rule, Target};
pub use secret::{Placement, Secret, SecretSource};

use crate::{
    source::Source,
    span::{Span, Spanned},
};

/// A `sandbox.kdl` without errors.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// The text that this was read from.
    #[serde(skip)]
    pub source: Source,
    /// `sandbox`: name of the sandbox, a DNS label. Default: the directory's.
    pub name: Option<Spanned<String>>,
    /// `agent`: what `sbx up` starts. Default: a login shell.
    pub agent: Option<Agent>,
    /// `image`: the base image.
    pub image: Image,
    /// `packages`: what is installed into the snapshot.
    pub packages: Option<Packages>,
    /// `setup`: commands that make the snapshot, in order.
    pub setup: Vec<Setup>,
    /// `start`: commands of every boot, in order.
    pub start: Vec<Start>,
    /// `resources`: size of the machine.
    pub resources: Resources,
    /// `workspace`: what of the repository is mounted, and how.
    pub workspace: Option<Workspace>,
    /// `mount`: further directories of the host.
    pub mounts: Vec<Mount>,
    /// `network`: what may be reached.
    pub network: Option<Network>,
    /// `secret`: credentials that the network adds to requests.
    pub secrets: Vec<Secret>,
    /// `env`: variables of every command in the sandbox, in the order of the file.
    pub env: Vec<Variable>,
    /// `docker`: whether there is a container engine inside.
    pub docker: Option<Spanned<bool>>,
    /// `mcp`: MCP servers that the agent may use.
    pub mcp: Vec<McpServer>,
    /// `profile`: named changes of the above.
    pub profiles: Vec<Profile>,
}

/// A set of nodes that replace the manifest's.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// What `sbx up --profile` calls it.
    pub name: Spanned<String>,
    /// What it replaces.
    pub settings: Settings,
}

/// The nodes that a manifest and a profile have in common, all of them optional.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// As in [`Manifest`].
    pub agent: Option<Agent>,
    /// As in [`Manifest`].
    pub image: Option<Image>,
    /// As in [`Manifest`].
    pub packages: Option<Packages>,
    /// As in [`Manifest`].
    pub setup: Vec<Setup>,
    /// As in [`Manifest`].
    pub start: Vec<Start>,
    /// As in [`Manifest`]; each property by itself.
    pub resources: Resources,
    /// As in [`Manifest`].
    pub workspace: Option<Workspace>,
    /// As in [`Manifest`].
    pub mounts: Vec<Mount>,
    /// As in [`Manifest`].
    pub network: Option<Network>,
    /// As in [`Manifest`].
    pub secrets: Vec<Secret>,
    /// As in [`Manifest`]; each variable by itself.
    pub env: Vec<Variable>,
    /// As in [`Manifest`].
    pub docker: Option<Spanned<bool>>,
    /// As in [`Manifest`].
    pub mcp: Vec<McpServer>,
}

impl Manifest {
    pub(crate) fn new(
        source: Source,
        name: Option<Spanned<String>>,
        image: Image,
        settings: Settings,
        profiles: Vec<Profile>,
    ) -> Self {
        Self {
            source,
            name,
            image,
            agent: settings.agent,
            packages: settings.packages,
            setup: settings.setup,
            start: settings.start,
            resources: settings.resources,
            workspace: settings.workspace,
            mounts: settings.mounts,
            network: settings.network,
            secrets: settings.secrets,
            env: settings.env,
            docker: settings.docker,
            mcp: settings.mcp,
            profiles,
        }
    }

    /// Names and values of the variables in `env`.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.env.iter().map(|variable| (variable.name.value.clone(), variable.value.value.clone())).collect()
    }
}
