//! Platforms, and the choice of one manifest from a multi-platform index.
//!
//! Rules: OCI image specification, "Image Index", and the variant normalisation that container engines agree on
//! (arm64 without a variant is v8).

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Descriptor, ImageIndex, Os};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An operating system and processor that an image is for, as in `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// Operating system in Go's spelling; always `linux` for images that we can boot.
    pub os: String,
    /// Processor architecture in Go's spelling, such as `amd64`.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`, where there is one.
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a platform; write it as os/architecture, for example linux/amd64")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = Arch::default().to_string();
        let variant = default_variant(&architecture).map(str::to_owned);
        Self { os: Os::Linux.to_string(), architecture, variant }
    }

    /// True when an image that says it is for `other` can be used for this platform.
    ///
    /// An image that names no variant fits every variant.
    pub fn accepts(&self, other: &Self) -> bool {
        let variant_of = |platform: &Self| {
            platform.variant.clone().or_else(|| default_variant(&platform.architecture).map(str::to_owned))
        };
        self.os == other.os
            && self.architecture == other.architecture
            && (other.variant.is_none() || variant_of(self) == variant_of(other))
    }

    /// The entry of `index` for this platform: an exact variant first, then one that fits.
    ///
    /// Entries that are attestations (`unknown/unknown`, or marked as such by the builder) are never taken. An entry
    /// without a platform is taken when it is the only image in the index, as the tools that write such indexes mean.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Option<&'a Descriptor> {
        let images: Vec<&Descriptor> =
            index.manifests().iter().filter(|entry| !is_attestation(entry)).collect();
        let exact = images.iter().find(|entry| platform_of(entry).is_some_and(|platform| platform == *self));
        let fitting =
            images.iter().find(|entry| platform_of(entry).is_some_and(|platform| self.accepts(&platform)));
        if let Some(found) = exact.or(fitting) {
            return Some(found);
        }
        match images.as_slice() {
            [only] if only.platform().is_none() => Some(only),
            _ => None,
        }
    }

    /// The platforms that `index` offers, for an error message.
    pub fn offered(index: &ImageIndex) -> Vec<Self> {
        let mut platforms: Vec<Self> =
            index.manifests().iter().filter(|entry| !is_attestation(entry)).filter_map(platform_of).collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let fault = || PlatformError { text: text.chars().take(80).collect() };
        let mut parts = text.split('/');
        let (Some(os), Some(architecture), variant, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(fault());
        };
        let well_formed = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if ![Some(os), Some(architecture), variant].into_iter().flatten().all(well_formed) {
            return Err(fault());
        }
        let architecture = match architecture {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            known => known,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.or_else(|| default_variant(architecture)).map(str::to_owned),
        })
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

fn default_variant(architecture: &str) -> Option<&'static str> {
    (architecture == "arm64").then_some("v8")
}

fn platform_of(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    Some(Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    })
}

fn is_attestation(entry: &Descriptor) -> bool {
    let annotated = entry
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"));
    annotated || platform_of(entry).is_some_and(|platform| platform.os == "unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, Option<&str>)]) -> ImageIndex {
        let manifests: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(number, (platform, variant))| {
                let digest = format!("sha256:{number:064x}");
                let media_type = "application/vnd.oci.image.manifest.v1+json";
                let platform = match platform.split_once('/') {
                    Some((os, architecture)) => {
                        let variant = variant.map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
                        format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}"#)
                    }
                    None => String::new(),
                };
                format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":2{platform}}}"#)
            })
            .collect();
        serde_json::from_str(&format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, manifests.join(",")))
            .unwrap()
    }

    fn chosen(entries: &[(&str, Option<&str>)], platform: &str) -> Option<usize> {
        let platform: Platform = platform.parse().unwrap();
        let index = index(entries);
        let digest = platform.choose(&index)?.digest().to_string();
        (0..entries.len()).find(|number| digest == format!("sha256:{number:064x}"))
    }

    #[test]
    fn the_entry_for_the_platform_is_chosen() {
        let many = [("unknown/unknown", None), ("linux/arm64", Some("v8")), ("linux/amd64", None)];
        assert_eq!(chosen(&many, "linux/amd64"), Some(2));
        assert_eq!(chosen(&many, "linux/x86_64"), Some(2));
        assert_eq!(chosen(&many, "linux/arm64"), Some(1));
        assert_eq!(chosen(&many, "linux/s390x"), None);
    }

    #[test]
    fn variants() {
        let arm = [("linux/arm", Some("v6")), ("linux/arm", Some("v7")), ("linux/arm64", None)];
        assert_eq!(chosen(&arm, "linux/arm/v7"), Some(1));
        assert_eq!(chosen(&arm, "linux/arm/v5"), None);
        assert_eq!(chosen(&arm, "linux/arm64"), Some(2));
        // amd64/v3 wants newer processors than plain amd64 promises.
        assert_eq!(chosen(&[("linux/amd64", Some("v3")), ("linux/amd64", None)], "linux/amd64"), Some(1));
        assert_eq!(chosen(&[("linux/amd64", Some("v3"))], "linux/amd64"), None);
    }

    #[test]
    fn a_single_entry_without_platform_is_meant() {
        assert_eq!(chosen(&[("", None)], "linux/amd64"), Some(0));
        assert_eq!(chosen(&[("", None), ("unknown/unknown", None)], "linux/amd64"), Some(0));
        assert_eq!(chosen(&[("", None), ("", None)], "linux/amd64"), None);
    }

    #[test]
    fn texts() {
        assert_eq!("linux/arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "linux", "linux/", "linux/amd64/v1/x", "Linux/amd64", "linux/../etc"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
