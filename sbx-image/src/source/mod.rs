//! Where images come from: a registry, an OCI layout on disk, or an archive file.
//!
//! Written as one text in a manifest or on the command line:
//!
//! ```text
//! debian:12   ghcr.io/owner/image@sha256:…   localhost:5000/image:tag      a registry (Docker's rules for short names)
//! oci-layout:DIR   oci-layout:DIR:TAG   oci-layout:DIR@sha256:…            a directory in OCI image layout
//! oci-archive:FILE   oci-archive:FILE:TAG                                  a tar of such a directory
//! docker-archive:FILE   docker-archive:FILE:NAME:TAG                       what `docker save` writes
//! ```

mod docker_archive;
mod files;
mod layout;
mod origin;

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci_distribution::Reference;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;

pub use files::FilesError;
pub use layout::LayoutError;
pub(crate) use origin::{LayerContent, Origin};

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a registry.
    Registry(Reference),
    /// In a directory in OCI image layout.
    OciLayout {
        /// The directory.
        directory: PathBuf,
        /// Which of its images; none when there is only one.
        selector: Option<Selector>,
    },
    /// In a tar file of such a directory.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// Which of its images; none when there is only one.
        selector: Option<Selector>,
    },
    /// In a tar file made by `docker save` or `podman save`.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// Name and tag of the image; none when there is only one.
        name: Option<String>,
    },
}

/// One of the images of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By the name in its annotation `org.opencontainers.image.ref.name`.
    Tag(String),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// Why a text is not an image source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Not a name that a registry could have.
    #[error("`{text}` is not an image name: {reason}")]
    Reference {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path is missing after the colon.
    #[error("`{text}` does not say which file; write it as {form}")]
    NoPath {
        /// The text as given.
        text: String,
        /// How it should look.
        form: &'static str,
    },
    /// A transport of other tools that we do not have.
    #[error("`{text}`: images cannot be taken from `{scheme}`; {help}")]
    Scheme {
        /// The text as given.
        text: String,
        /// The part before the colon.
        scheme: String,
        /// What to write.
        help: &'static str,
    },
}

/// Tells whether a file is still the one it was, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    bytes: u64,
    inode: u64,
    modified: i64,
    modified_nanoseconds: i64,
}

impl Source {
    /// This source with a relative path taken from `directory`, such as that of the manifest file it is written in.
    #[must_use]
    pub fn relative_to(self, directory: &Path) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference),
            Self::OciLayout { directory: path, selector } => {
                Self::OciLayout { directory: directory.join(path), selector }
            }
            Self::OciArchive { file, selector } => Self::OciArchive { file: directory.join(file), selector },
            Self::DockerArchive { file, name } => Self::DockerArchive { file: directory.join(file), name },
        }
    }

    /// The digest that the source is pinned to, if it is.
    pub fn pinned_digest(&self) -> Option<Digest> {
        match self {
            Self::Registry(reference) => reference.digest()?.parse().ok(),
            Self::OciLayout { selector: Some(Selector::Digest(digest)), .. }
            | Self::OciArchive { selector: Some(Selector::Digest(digest)), .. } => Some(digest.clone()),
            _ => None,
        }
    }

    /// This source, but of what is there only the manifest with this digest. An archive of `docker save` has no digests: there
    /// the image has to be compared when it was read.
    #[must_use]
    pub fn pinned_to(&self, digest: &Digest) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(Reference::with_digest(
                reference.registry().to_owned(),
                reference.repository().to_owned(),
                digest.to_string(),
            )),
            Self::OciLayout { directory, .. } => Self::OciLayout {
                directory: directory.clone(),
                selector: Some(Selector::Digest(digest.clone())),
            },
            Self::OciArchive { file, .. } => {
                Self::OciArchive { file: file.clone(), selector: Some(Selector::Digest(digest.clone())) }
            }
            Self::DockerArchive { .. } => self.clone(),
        }
    }

    /// The identity of the file that the image is in; `None` for registries, or when there is no such file.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let path = match self {
            Self::Registry(_) => return None,
            Self::OciLayout { directory, .. } => directory.join("index.json"),
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => file.clone(),
        };
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            bytes: metadata.len(),
            inode: metadata.ino(),
            modified: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
        })
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let missing = |form| SourceError::NoPath { text: text.to_owned(), form };
        if let Some(rest) = text.strip_prefix("oci-layout:") {
            let (directory, selector) =
                layout_path(rest).ok_or_else(|| missing("oci-layout:DIR or oci-layout:DIR:TAG"))?;
            return Ok(Self::OciLayout { directory, selector });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, selector) =
                layout_path(rest).ok_or_else(|| missing("oci-archive:FILE or oci-archive:FILE:TAG"))?;
            return Ok(Self::OciArchive { file, selector });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, name) = split_path(rest, ':').ok_or_else(|| missing("docker-archive:FILE"))?;
            return Ok(Self::DockerArchive { file, name });
        }
        registry_reference(text).map(Self::Registry)
    }
}

impl fmt::Display for Source {
    /// The canonical form: the same text for the same source, with absolute paths.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match self {
            Self::Registry(reference) => formatter.write_str(&reference.whole()),
            Self::OciLayout { directory, selector } => {
                write!(
                    formatter,
                    "oci-layout:{}{}",
                    absolute(directory).display(),
                    Selected(selector.as_ref())
                )
            }
            Self::OciArchive { file, selector } => {
                write!(formatter, "oci-archive:{}{}", absolute(file).display(), Selected(selector.as_ref()))
            }
            Self::DockerArchive { file, name } => {
                write!(formatter, "docker-archive:{}", absolute(file).display())?;
                name.as_ref().map_or(Ok(()), |name| write!(formatter, ":{name}"))
            }
        }
    }
}

/// A selector as it is written after a path.
struct Selected<'a>(Option<&'a Selector>);

impl fmt::Display for Selected<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(Selector::Tag(tag)) => write!(formatter, ":{tag}"),
            Some(Selector::Digest(digest)) => write!(formatter, "@{digest}"),
        }
    }
}

fn registry_reference(text: &str) -> Result<Reference, SourceError> {
    let other_tool = |scheme: &str, help| {
        Err(SourceError::Scheme { text: text.to_owned(), scheme: scheme.to_owned(), help })
    };
    match text.split_once(':') {
        Some((scheme @ ("docker" | "http" | "https"), rest)) if rest.starts_with("//") => {
            return other_tool(scheme, "write the name alone, as in docker.io/library/debian:12");
        }
        Some((scheme @ ("oci" | "dir"), rest)) if rest.contains('/') => {
            return other_tool(scheme, "write oci-layout:DIR for a directory in OCI layout");
        }
        Some((scheme @ ("docker-daemon" | "containers-storage"), _)) => {
            return other_tool(scheme, "save the image to a file and write docker-archive:FILE");
        }
        _ => {}
    }
    let fault = |reason: String| SourceError::Reference { text: text.chars().take(300).collect(), reason };
    let reference: Reference = text.parse().map_err(|error: oci_distribution::ParseError| {
        let has_upper = text.chars().any(|c| c.is_ascii_uppercase());
        let hint = if has_upper { " (names are lower case)" } else { "" };
        fault(format!("{error}{hint}"))
    })?;
    if let Some(digest) = reference.digest() {
        digest.parse::<Digest>().map_err(|error| fault(error.to_string()))?;
    }
    Ok(reference)
}

fn layout_path(text: &str) -> Option<(PathBuf, Option<Selector>)> {
    if let Some((path, digest)) = text.split_once('@') {
        let digest = digest.parse().ok()?;
        return (!path.is_empty()).then(|| (path.into(), Some(Selector::Digest(digest))));
    }
    let (path, tag) = split_path(text, ':')?;
    Some((path, tag.map(Selector::Tag)))
}

fn split_path(text: &str, separator: char) -> Option<(PathBuf, Option<String>)> {
    let (path, rest) = match text.split_once(separator) {
        Some((_, "")) => return None,
        Some((path, rest)) => (path, Some(rest.to_owned())),
        None => (text, None),
    };
    (!path.is_empty()).then(|| (path.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Source>().unwrap().to_string()
    }

    #[test]
    fn registry_names_are_completed() {
        assert_eq!(canonical("debian"), "docker.io/library/debian:latest");
        assert_eq!(canonical("docker.io/library/debian:12"), "docker.io/library/debian:12");
        assert_eq!(canonical("127.0.0.1:5000/a/b"), "127.0.0.1:5000/a/b:latest");
        let digest = Digest::sha256(b"x");
        let pinned: Source = format!("ghcr.io/owner/image@{digest}").parse().unwrap();
        assert_eq!(pinned.pinned_digest(), Some(digest));
    }

    #[test]
    fn files_with_and_without_a_choice() {
        assert_eq!(canonical("oci-layout:/a/b"), "oci-layout:/a/b");
        assert_eq!(canonical("oci-layout:/a/b:tag"), "oci-layout:/a/b:tag");
        let digest = Digest::sha256(b"x");
        assert_eq!(
            canonical(&format!("oci-archive:/a.tar@{digest}")),
            format!("oci-archive:/a.tar@{digest}")
        );
        assert_eq!(canonical("docker-archive:/a.tar:debian:12"), "docker-archive:/a.tar:debian:12");
        let relative: Source = "docker-archive:images/a.tar".parse().unwrap();
        assert_eq!(relative.relative_to(Path::new("/repo")).to_string(), "docker-archive:/repo/images/a.tar");
    }

    #[test]
    fn wrong_texts_are_explained() {
        let fault = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        assert!(fault("Debian").contains("names are lower case"));
        assert!(fault("docker://debian").contains("write the name alone"));
        assert!(fault("oci:./dir:tag").contains("oci-layout:DIR"));
        assert!(fault("docker-daemon:x").contains("docker-archive:FILE"));
        assert!(fault("oci-layout:").contains("oci-layout:DIR"));
        assert!(fault("debian@sha256:abc").contains("not an image name"));
        assert!(fault("").contains("not an image name"));
    }
}
