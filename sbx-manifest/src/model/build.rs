//! What the root file system is made of: `image`, `packages`, `setup`; and `start`.

use serde::Serialize;

use crate::{
    span::{Span, Spanned},
    types::package_name,
};

/// The base image.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// A registry's reference, or `oci-layout:`, `oci-archive:` or `docker-archive:` with a path; as written.
    pub reference: Spanned<String>,
    /// `os/architecture` or `os/architecture/variant`. Default: the host's.
    pub platform: Option<Spanned<String>>,
}

/// What is installed into the snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Packages {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// One for each line.
    pub sets: Vec<PackageSet>,
}

/// Packages of one manager.
#[derive(Clone, Debug, Serialize)]
pub struct PackageSet {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// Who installs them.
    pub manager: PackageManager,
    /// Names, with a version where the manager's syntax has one.
    pub names: Vec<Spanned<String>>,
}

/// A package manager that sbx can pin.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageManager {
    /// Alpine.
    Apk,
    /// Debian and Ubuntu.
    Apt,
    /// Fedora, RHEL and what descends from them.
    Dnf,
    /// Node.js.
    Npm,
    /// Python.
    Pip,
    /// Rust.
    Cargo,
}

impl PackageManager {
    /// All of them, in the order in which a machine gets their packages: some need what others install.
    pub const ALL: [Self; 6] = [Self::Apt, Self::Apk, Self::Dnf, Self::Npm, Self::Pip, Self::Cargo];

    /// The one that the manifest calls `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|manager| manager.as_str() == name)
    }

    /// The name in what a manifest asks this manager for: `@types/node` of `@types/node@^20`.
    #[must_use]
    pub fn package_name(self, wanted: &str) -> &str {
        package_name(self, wanted)
    }

    /// As the manifest writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apk => "apk",
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Cargo => "cargo",
        }
    }
}

/// A command whose effect is part of the snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// For the shell of the image.
    pub command: Spanned<String>,
    /// `inputs`: files and directories of the workspace whose change makes it run again, relative to the manifest.
    pub inputs: Vec<Spanned<String>>,
    /// `timeout` in seconds. Default: none.
    pub timeout_seconds: Option<Spanned<u64>>,
}

/// A command of every boot.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// For the shell of the image.
    pub command: Spanned<String>,
}
