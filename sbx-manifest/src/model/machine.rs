//! The machine and what it sees of the host: `resources`, `workspace`, `mount`, `env`.

use serde::Serialize;

use crate::span::{Span, Spanned};

/// Size of the machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Resources {
    /// `cpus`: number of vCPUs, 1 to 255. Default: the host's.
    pub cpus: Option<Spanned<u8>>,
    /// `memory` in bytes, a whole number of MiB.
    pub memory_bytes: Option<Spanned<u64>>,
    /// `disk` in bytes, a whole number of MiB.
    pub disk_bytes: Option<Spanned<u64>>,
}

/// What of the repository is mounted.
#[derive(Clone, Debug, Serialize)]
pub struct Workspace {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// A directory, relative to the manifest.
    pub path: Spanned<String>,
    /// `mode`. Default: direct.
    pub mode: Option<Spanned<WorkspaceMode>>,
}

/// How changes in the sandbox reach the repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceMode {
    /// At once.
    #[default]
    Direct,
    /// By `sbx diff` and `sbx apply`; the sandbox has a copy.
    Clone,
}

/// A directory of the host besides the workspace.
#[derive(Clone, Debug, Serialize)]
pub struct Mount {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// On the host: absolute, relative to the manifest, or beginning with `~/`.
    pub path: Spanned<String>,
    /// `at`: absolute path in the sandbox. Default: the same as on the host.
    pub at: Option<Spanned<String>>,
    /// `readonly`: whether the sandbox may not change it.
    pub readonly: bool,
}

/// An environment variable.
#[derive(Clone, Debug, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Spanned<String>,
}
