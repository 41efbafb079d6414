//! What a lock says, as plain data.

use std::collections::BTreeMap;

use super::request::Request;
use crate::model::PackageManager;

/// A `sandbox.lock`: what every input of the machine is, exactly.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lock {
    /// What the manifest without a profile is built from.
    pub base: LockedMachine,
    /// Profiles that are built from something else, each with all of its inputs.
    pub profiles: BTreeMap<String, LockedMachine>,
}

/// The inputs of one machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LockedMachine {
    /// The base image.
    pub image: Option<LockedImage>,
    /// Hash of the kernel's recipe, in hexadecimal digits; as `sbx` was compiled with it.
    pub kernel: Option<String>,
    /// Hash of the guest's initramfs, in hexadecimal digits.
    pub guest: Option<String>,
    /// The agents, in the order of their names.
    pub agents: Vec<LockedAgent>,
    /// What the manifest asks package managers for. The pins alone do not tell: a package may be in the image already, or
    /// go by another name.
    pub requests: Vec<Request>,
    /// Packages and what they depend on.
    pub pins: Vec<Pin>,
    /// What setup commands depend on, in the order in which they run.
    pub setup: Vec<LockedSetup>,
    /// Digests of the snapshots, one unless branches were merged: each says for which inputs it is.
    pub snapshots: Vec<LockedSnapshot>,
}

/// The base image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LockedImage {
    /// As the manifest names it.
    pub reference: String,
    /// `os/architecture` or `os/architecture/variant`.
    pub platform: String,
    /// Of the manifest for that platform, `sha256:` and hexadecimal digits.
    pub digest: String,
}

/// An agent.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LockedAgent {
    /// As the manifest names it.
    pub name: String,
    /// The version that the manifest asks for, if it does.
    pub wanted: Option<String>,
    /// The version of its program.
    pub version: String,
    /// BLAKE3 of its definition, in hexadecimal digits.
    pub definition: String,
}

/// One file that a package manager installs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Pin {
    /// Whose it is.
    pub manager: Installer,
    /// For whom it is there: the agent (`agent:claude`) or tool (`just`) that needs it, if it is not of the whole machine.
    pub owner: Option<String>,
    /// Its name; for npm the place in the tree, as in `node_modules/a/node_modules/b`.
    pub name: String,
    /// Its version, as the manager writes it.
    pub version: String,
    /// `amd64`, `all`, or what the manager calls it; none where it has no such thing.
    pub architecture: Option<String>,
    /// Hash of the file: `sha256:` and hexadecimal digits, or for npm its integrity (`sha512-` and base64).
    pub hash: String,
    /// Where it is from, for a download only: the URL of the agent's definition.
    pub url: Option<String>,
}

/// Who installs a [`Pin`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Installer {
    /// A package manager.
    Package(PackageManager),
    /// Nobody: the file is fetched from a vendor and unpacked.
    Download,
}

/// A setup command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LockedSetup {
    /// The command as the manifest has it.
    pub command: String,
    /// BLAKE3 over names and contents of its inputs, in hexadecimal digits.
    pub inputs: String,
}

/// What came out.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LockedSnapshot {
    /// BLAKE3 over all inputs ([`LockedMachine`]), in hexadecimal digits.
    pub inputs: String,
    /// Digest of the snapshot, `blake3:` and hexadecimal digits.
    pub digest: String,
}

impl Lock {
    /// What the machine of this profile, or of none, is built from. A profile that is built as the manifest without one has
    /// no lines of its own.
    #[must_use]
    pub fn machine(&self, profile: Option<&str>) -> &LockedMachine {
        profile.and_then(|name| self.profiles.get(name)).unwrap_or(&self.base)
    }
}

impl Installer {
    /// As a lock writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Package(manager) => manager.as_str(),
            Self::Download => "download",
        }
    }
}
