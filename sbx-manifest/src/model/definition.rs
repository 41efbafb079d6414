//! What an agent is: how it gets into the snapshot, how it is started, and what it cannot do without.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{PackageManager, Secret, Variable};
use crate::{
    source::Source,
    span::{Span, Spanned},
    types::HostPattern,
};

/// What an agent is. All places are in [`Self::source`].
#[derive(Clone, Debug, Serialize)]
pub struct Definition {
    /// What `agent` calls it.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Who says all this.
    pub origin: DefinitionOrigin,
    /// The text that says it.
    #[serde(skip)]
    pub source: Source,
    /// `install`: how it gets into the snapshot; nothing if the image has it.
    pub install: Option<Install>,
    /// `node`: the oldest Node.js that it runs on.
    pub node: Option<Spanned<NodeVersion>>,
    /// `command`: how it is started, unattended; empty for the image's own shell.
    pub command: Vec<Spanned<String>>,
    /// `version-command`: prints its version.
    pub version_command: Vec<Spanned<String>>,
    /// `allow`: hosts that it talks to, on port 443.
    pub hosts: Vec<Spanned<HostPattern>>,
    /// `secret`: credentials that it is known by.
    pub secrets: Vec<Secret>,
    /// `env`: variables that it is started with, unless the manifest says otherwise.
    pub env: Vec<Variable>,
    /// `config`: files and directories of the home in which it keeps its configuration.
    pub config: Vec<Spanned<String>>,
    /// `file`: what is in the home before it starts for the first time.
    pub files: Vec<HomeFile>,
}

impl Definition {
    /// Whether there is anything to start but what the user says.
    #[must_use]
    pub const fn is_shell(&self) -> bool {
        self.command.is_empty()
    }
}

/// Who says what an agent is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DefinitionOrigin {
    /// sbx itself.
    Sbx,
    /// A file of the user's.
    User,
    /// The manifest, between the braces of `agent`.
    Manifest,
}

/// How an agent gets into the snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Install {
    /// The node.
    #[serde(skip)]
    pub span: Span,
    /// Where it is from.
    #[serde(flatten)]
    pub from: InstallFrom,
}

/// Where an agent is from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstallFrom {
    /// A package.
    Package {
        /// Who installs it.
        manager: PackageManager,
        /// Its name.
        package: Spanned<String>,
    },
    /// A file from its vendor.
    Download(Download),
}

/// A file that an agent's vendor publishes.
#[derive(Clone, Debug, Serialize)]
pub struct Download {
    /// `url`: with `{version}` in it, and `{architecture}` and `{musl}` where there is a file for each.
    pub url: Spanned<String>,
    /// `latest`: tells the newest version, as text alone or as `version` of a JSON object.
    pub latest: Option<Spanned<String>>,
    /// `archive`: what the file is.
    pub archive: Archive,
    /// `program`: what is taken out of it.
    pub programs: Vec<Program>,
}

impl Download {
    /// Where the file of this version is. `architecture` is the kernel's word, such as `x86_64`; `musl` whether the image's C
    /// library is musl.
    #[must_use]
    pub fn location(&self, version: &str, architecture: &str, musl: bool) -> String {
        self.url
            .value
            .replace("{version}", version)
            .replace("{architecture}", architecture)
            .replace("{musl}", if musl { "-musl" } else { "" })
    }
}

/// What a downloaded file is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub enum Archive {
    /// The program itself.
    #[default]
    #[serde(rename = "none")]
    None,
    /// A tar, compressed with gzip.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// A ZIP archive.
    #[serde(rename = "zip")]
    Zip,
}

impl Archive {
    /// All of them, as `archive` takes them.
    pub(crate) const WORDS: [(&'static str, Self); 3] =
        [("tar.gz", Self::TarGz), ("zip", Self::Zip), ("none", Self::None)];
}

/// A program in a downloaded file.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// What it is called in the sandbox.
    pub name: Spanned<String>,
    /// `path`: where it is in the archive; the file itself if it is none.
    pub path: Option<Spanned<String>>,
}

/// A file in the home, placed where there is none yet.
#[derive(Clone, Debug, Serialize)]
pub struct HomeFile {
    /// Relative to the home.
    pub path: Spanned<String>,
    /// `content`, with `{workspace}` in it.
    pub content: Spanned<String>,
}

impl HomeFile {
    /// The content for a workspace: JSON, or TOML, whose strings both are escaped in this way.
    #[must_use]
    pub fn content_for(&self, workspace: &str) -> String {
        let mut escaped = String::new();
        for character in workspace.chars() {
            match character {
                '"' | '\\' => escaped.extend(['\\', character]),
                character if character.is_control() => {
                    escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
                }
                character => escaped.push(character),
            }
        }
        let mut content = self.content.value.replace("{workspace}", &escaped);
        if !content.ends_with('\n') {
            content.push('\n');
        }
        content
    }
}

/// A version of Node.js.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NodeVersion {
    /// Major, minor and patch.
    pub parts: [u32; 3],
}

impl NodeVersion {
    /// Reads `22`, `22.1`, `22.1.0`, or the last with the `v` that `node --version` prints before it.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts = [0; 3];
        let mut words = text.split('.');
        for (index, part) in parts.iter_mut().enumerate() {
            match words.next() {
                Some(word) if word.bytes().all(|byte| byte.is_ascii_digit()) => *part = word.parse().ok()?,
                None if index > 0 => break,
                _ => return None,
            }
        }
        words.next().is_none().then_some(Self { parts })
    }
}

impl fmt::Display for NodeVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.parts;
        match (minor, patch) {
            (0, 0) => write!(formatter, "{major}"),
            (minor, 0) => write!(formatter, "{major}.{minor}"),
            _ => write!(formatter, "{major}.{minor}.{patch}"),
        }
    }
}

impl Serialize for NodeVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_are_compared_by_their_numbers() {
        let version = |text| NodeVersion::read(text).unwrap();
        assert!(version("v22.0.0") >= version("22"));
        assert!(version("v9.11.2") < version("20"));
        assert!(version("20.19.4") < version("20.20"));
        assert_eq!(version("22.1").to_string(), "22.1");
        for text in ["", "v", "22.", "22.x", ">=22", "22.1.0.0", "99999999999", "22.1.0-rc1"] {
            assert_eq!(NodeVersion::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_workspace_cannot_break_out_of_its_string() {
        let spanned = |text: &str| Spanned::new(text.to_owned(), Span::default());
        let file = HomeFile { path: spanned("x"), content: spanned("{\"{workspace}\": 1}") };
        assert_eq!(file.content_for("/srv/a\"b\\c\n"), "{\"/srv/a\\\"b\\\\c\\u000a\": 1}\n");
    }
}
