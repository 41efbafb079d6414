//! A Cargo.lock, as far as it says which archives of registries a package is built of.
//!
//! cargo writes it in always the same way, one value a line, and only that is read: what a person wrote otherwise is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::provision::{client::ClientError, hash::is_sha256};

/// An archive of a registry: name, version, and sha256 in hexadecimal digits.
pub(super) type Archive = (String, String, String);

/// One `[[package]]`.
#[derive(Clone, Debug, Default)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// What `root`, the package that the lines are the Cargo.lock of, is built of, without itself.
///
/// # Errors
/// If that is not as cargo writes it, or names what is in no registry.
pub(super) fn read<'t>(
    root: &str,
    lines: impl Iterator<Item = &'t str>,
) -> Result<BTreeSet<Archive>, ClientError> {
    let mut packages: Vec<Package> = Vec::new();
    // The first format has the checksums at the end.
    let mut checksums: BTreeMap<&str, &str> = BTreeMap::new();
    for line in lines {
        if line == "[[package]]" {
            if packages.len() >= ClientError::MAX_PINS {
                return Err(ClientError::TooMany { limit: ClientError::MAX_PINS });
            }
            packages.push(Package::default());
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let Some(value) = value else { continue };
        if let Some(key) = key.strip_prefix("\"checksum ") {
            checksums.insert(key.trim_end_matches('"'), value);
        } else if let Some(package) = packages.last_mut() {
            package.set(key, value);
        }
    }
    let foreign = |package: &&Package| package.source.is_some() || package.name != root;
    packages.iter().filter(foreign).map(|package| package.archive(&checksums)).collect()
}

impl Package {
    fn set(&mut self, key: &str, value: &str) {
        match key {
            "name" => value.clone_into(&mut self.name),
            "version" => value.clone_into(&mut self.version),
            "source" => self.source = Some(value.to_owned()),
            "checksum" => self.checksum = Some(value.to_owned()),
            _ => {}
        }
    }

    fn archive(&self, checksums: &BTreeMap<&str, &str>) -> Result<Archive, ClientError> {
        let Self { name, version, source, checksum } = self;
        let source = source.as_deref().unwrap_or_default();
        if !source.starts_with("registry+") && !source.starts_with("sparse+") {
            return Err(ClientError::malformed(format!("{name} {source}").as_bytes(), "in a registry"));
        }
        if !is_name(name) || !is_version(version) {
            let said = format!("{name} {version}");
            return Err(ClientError::malformed(said.as_bytes(), "a package with its version"));
        }
        let listed = || checksums.get(format!("{name} {version} ({source})").as_str()).copied();
        let checksum = checksum.as_deref().or_else(listed).filter(|checksum| is_sha256(checksum));
        let missing = || ClientError::Missing { what: format!("the SHA-256 of {name} {version}") };
        Ok((name.clone(), version.clone(), checksum.ok_or_else(missing)?.to_owned()))
    }
}

/// A name of a package, as registries take it.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A version, as semver has it.
pub(super) fn is_version(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn archives(text: &str) -> Result<Vec<Archive>, ClientError> {
        read("tool", text.lines()).map(|archives| archives.into_iter().collect())
    }

    fn package(name: &str, version: &str, source: &str) -> String {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\nchecksum = \"{SUM}\"\n\n"
        )
    }

    #[test]
    fn both_formats_are_read() {
        let root = "version = 4\n\n[[package]]\nname = \"tool\"\nversion = \"1.0.0\"\ndependencies = [\n \"a\",\n]\n\n";
        let text = format!("{root}{}", package("a", "0.1.0+x", "registry+https://index.example.org/"));
        let expected = [("a".to_owned(), "0.1.0+x".to_owned(), SUM.to_owned())];
        assert_eq!(archives(&text).unwrap(), expected);

        let old = format!(
            "{root}[[package]]\nname = \"a\"\nversion = \"0.1.0+x\"\nsource = \"registry+https://index.example.org/\"\n\n\
             [metadata]\n\"checksum a 0.1.0+x (registry+https://index.example.org/)\" = \"{SUM}\"\n"
        );
        assert_eq!(archives(&old).unwrap(), expected);
        assert!(archives(root).unwrap().is_empty());
    }

    #[test]
    fn what_is_in_no_registry_is_refused() {
        let error = archives(&package("a", "1.0.0", "git+https://example.org/a#0123")).unwrap_err();
        assert_eq!(error.to_string(), "`a git+https://example.org/a#0123` is not in a registry");
        let path = "[[package]]\nname = \"beside\"\nversion = \"1.0.0\"\n";
        assert_eq!(archives(path).unwrap_err().to_string(), "`beside` is not in a registry");
    }

    #[test]
    fn names_and_versions_are_no_paths() {
        for (name, version) in [
            ("../a", "1.0.0"),
            ("a", "../1"),
            ("-a", "1.0.0"),
            ("a b", "1.0.0"),
            ("a", "1/0"),
            ("", "1.0.0"),
            ("a", ""),
        ] {
            let error = archives(&package(name, version, "sparse+https://index.example.org/")).unwrap_err();
            assert!(error.to_string().ends_with("is not a package with its version"), "{error}");
        }
        let without = package("a", "1.0.0", "registry+x").replace(SUM, &SUM[1..]);
        assert_eq!(
            archives(&without).unwrap_err().to_string(),
            "it said nothing about the SHA-256 of a 1.0.0"
        );
    }
}
