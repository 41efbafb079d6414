//! What a manifest says, as plain data.
//!
//! ```text
//! Manifest ── name, image, share, Settings, profiles
//! Profile  ── name, image and Settings, all of them optional; what is there replaces the manifest's
//! Settings ── agents · packages · setup · start · resources · workspace · mounts · network · secrets · env · docker · mcp
//! ```
//!
//! Nothing here is resolved: paths are as written, and what is absent is `None` or empty. The effective values, with
//! defaults and with what the agent implies, are in [`crate::explain`].

mod agent;
mod build;
mod definition;
mod machine;
mod network;
mod secret;

use serde::Serialize;

pub use agent::{Agent, McpServer};
pub use build::{Image, PackageManager, PackageSet, Packages, Setup, Start};
pub use definition::{
    Archive, Definition, DefinitionOrigin, Download, HomeFile, Install, InstallFrom, NodeVersion, Program,
};
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
    /// `image`: the base image.
    pub image: Image,
    /// `share`: the repository of a registry in which the team keeps snapshots, as written, without a tag.
    pub share: Option<Spanned<String>>,
    /// Everything else about the sandbox.
    #[serde(flatten)]
    pub settings: Settings,
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
    /// Another base image.
    pub image: Option<Image>,
    /// What else it replaces: all nodes of a name; of `resources` each property by itself, of `env` each variable.
    #[serde(flatten)]
    pub settings: Settings,
}

/// The nodes that may be absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// `agent`: what `sbx up` starts, the first unless another one is asked for. Default: a login shell.
    pub agents: Vec<Agent>,
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
}

impl Manifest {
    /// Names and values of the variables in `env`.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        self.settings
            .env
            .iter()
            .map(|variable| (variable.name.value.clone(), variable.value.value.clone()))
            .collect()
    }
}
