//! The text of a new `sandbox.kdl` that fits a repository.
//!
//! What cannot be used yet stands there as a comment, so that the file works as it is written.

use std::{collections::BTreeSet, fmt::Write};

use kdl::KdlValue;

/// What can be seen of a repository without running anything in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RepoFacts {
    /// Name of its directory.
    pub name: String,
    /// Names of the files and directories at its root.
    pub files: Vec<String>,
    /// The text of its `devcontainer.json`, if it has one.
    pub devcontainer: Option<String>,
}

/// A kind of project, told by a file at its root.
struct Toolchain {
    file: &'static str,
    image: &'static str,
    packages: &'static str,
    setup: Option<(&'static str, &'static str)>,
}

const DEFAULT_IMAGE: &str = "docker.io/library/debian:bookworm-slim";

/// Longest image name that is taken over from a `devcontainer.json`, in bytes.
const MAX_IMAGE_BYTES: usize = 255;

/// As many forwarded ports as anybody has.
const MAX_PORTS: usize = 32;

/// The first that fits decides over the image; all that fit are named.
const TOOLCHAINS: [Toolchain; 11] = [
    Toolchain {
        file: "Cargo.toml",
        image: "docker.io/library/rust:1-bookworm",
        packages: "apt \"git\"",
        setup: Some(("cargo fetch", "Cargo.lock")),
    },
    Toolchain {
        file: "package-lock.json",
        image: "docker.io/library/node:22-bookworm",
        packages: "apt \"git\" \"ripgrep\"",
        setup: Some(("npm ci", "package-lock.json")),
    },
    Toolchain {
        file: "pnpm-lock.yaml",
        image: "docker.io/library/node:22-bookworm",
        packages: "npm \"pnpm\"",
        setup: Some(("pnpm install --frozen-lockfile", "pnpm-lock.yaml")),
    },
    Toolchain {
        file: "yarn.lock",
        image: "docker.io/library/node:22-bookworm",
        packages: "npm \"yarn\"",
        setup: Some(("yarn install --frozen-lockfile", "yarn.lock")),
    },
    Toolchain {
        file: "package.json",
        image: "docker.io/library/node:22-bookworm",
        packages: "apt \"git\" \"ripgrep\"",
        setup: Some(("npm install", "package.json")),
    },
    Toolchain {
        file: "pyproject.toml",
        image: "docker.io/library/python:3-bookworm",
        packages: "pip \"ruff\"",
        setup: Some(("pip install --editable .", "pyproject.toml")),
    },
    Toolchain {
        file: "requirements.txt",
        image: "docker.io/library/python:3-bookworm",
        packages: "pip \"ruff\"",
        setup: Some(("pip install --requirement requirements.txt", "requirements.txt")),
    },
    Toolchain {
        file: "go.mod",
        image: "docker.io/library/golang:1-bookworm",
        packages: "apt \"git\"",
        setup: Some(("go mod download", "go.sum")),
    },
    Toolchain {
        file: "Gemfile",
        image: "docker.io/library/ruby:3-bookworm",
        packages: "apt \"git\"",
        setup: Some(("bundle install", "Gemfile.lock")),
    },
    Toolchain {
        file: "pom.xml",
        image: "docker.io/library/maven:3-eclipse-temurin-21",
        packages: "apt \"git\"",
        setup: Some(("mvn --batch-mode dependency:go-offline", "pom.xml")),
    },
    Toolchain {
        file: "Makefile",
        image: "docker.io/library/gcc:14-bookworm",
        packages: "apt \"git\" \"make\"",
        setup: None,
    },
];

/// The text of a manifest for the repository, for `agent` or a login shell.
#[must_use]
pub fn template(facts: &RepoFacts, agent: Option<&str>) -> String {
    let found: Vec<_> =
        TOOLCHAINS.iter().filter(|toolchain| facts.files.iter().any(|file| file == toolchain.file)).collect();
    let devcontainer = facts.devcontainer.as_deref().and_then(image_of);
    let mut text = String::from("// The machine for this repository; `sbx up` makes and starts it.\n\n");
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{arguments}");
    };
    line(format_args!("// What `sbx up` starts: \"shell\", or a coding agent."));
    line(format_args!("agent {}", quoted(agent.unwrap_or("shell"))));
    line(format_args!(""));
    match (&devcontainer, found.first()) {
        (Some(image), _) => {
            line(format_args!("// The image that .devcontainer names."));
            line(format_args!("image {}", quoted(image)));
        }
        (None, Some(toolchain)) => {
            line(format_args!("// Chosen because of {}.", toolchain.file));
            line(format_args!("image {}", quoted(toolchain.image)));
        }
        (None, None) => line(format_args!("image {}", quoted(DEFAULT_IMAGE))),
    }
    line(format_args!(""));
    line(format_args!(
        "// Without this: the host's processors, 4GiB of memory, a disk that grows up to 40GiB."
    ));
    line(format_args!("// resources cpus=4 memory=\"8GiB\" disk=\"40GiB\""));
    line(format_args!(""));
    line(format_args!("// Directories besides this one; those outside of it are asked for once."));
    line(format_args!("// mount \"../shared\" readonly=#true"));
    line(format_args!(""));
    line(format_args!("// What later versions of sbx will do:"));
    let packages = found.first().map_or("apt \"git\"", |toolchain| toolchain.packages);
    line(format_args!("// packages {{ {packages} }}"));
    if let Some((command, inputs)) = found.first().and_then(|toolchain| toolchain.setup) {
        line(format_args!("// setup {} inputs={}", quoted(command), quoted(inputs)));
    }
    let ports = facts.devcontainer.as_deref().map(forwarded_ports).unwrap_or_default();
    let published: String = ports.iter().map(|port| format!(" publish {port};")).collect();
    line(format_args!("// network \"deny\" {{ allow registries=#true;{published} }}"));
    text
}

/// The port numbers among `forwardPorts` of a `devcontainer.json`, each once.
fn forwarded_ports(text: &str) -> BTreeSet<u16> {
    let list = text.split_once("\"forwardPorts\"").and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let list =
        list.and_then(|rest| rest.trim_start().strip_prefix('[')).and_then(|rest| rest.split_once(']'));
    let words = list.map_or("", |(list, _)| list).split(',').take(MAX_PORTS);
    words.filter_map(|word| word.trim().parse().ok()).filter(|port| *port != 0).collect()
}

/// The `image` of a `devcontainer.json`, which is JSON with comments; not worth a parser for one member, and a guess that
/// fails costs nothing.
fn image_of(text: &str) -> Option<String> {
    let rest =
        text.split_once("\"image\"")?.1.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let (image, _) = rest.split_once('"')?;
    let plain = image.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:-_@".contains(&byte));
    let sound = plain && image.len() <= MAX_IMAGE_BYTES && {
        let text = format!("image {}\n", quoted(image));
        crate::parse("sandbox.kdl", text.as_bytes()).is_ok_and(|parsed| parsed.warnings.is_empty())
    };
    sound.then(|| image.to_owned())
}

/// A string as KDL writes it, always in quotes.
fn quoted(text: &str) -> String {
    let value = KdlValue::String(text.to_owned()).to_string();
    if value.starts_with('"') || value.starts_with('#') { value } else { format!("\"{value}\"") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse;

    fn facts(files: &[&str], devcontainer: Option<&str>) -> RepoFacts {
        RepoFacts {
            name: "demo".to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            devcontainer: devcontainer.map(str::to_owned),
        }
    }

    #[test]
    fn the_image_fits_the_repository() {
        let image = |facts: &RepoFacts| {
            parse("sandbox.kdl", template(facts, None).as_bytes()).unwrap().manifest.image.reference.value
        };
        assert_eq!(image(&facts(&[], None)), DEFAULT_IMAGE);
        assert_eq!(image(&facts(&["src", "Cargo.toml"], None)), "docker.io/library/rust:1-bookworm");
        assert_eq!(image(&facts(&["package.json"], None)), "docker.io/library/node:22-bookworm");
        let devcontainer = "{ // comment\n \"image\" : \"mcr.microsoft.com/devcontainers/rust:1\" }";
        assert_eq!(
            image(&facts(&["Cargo.toml"], Some(devcontainer))),
            "mcr.microsoft.com/devcontainers/rust:1"
        );
        assert_eq!(image(&facts(&[], Some("{\"image\": \"${evil}\\n\"}"))), DEFAULT_IMAGE);
    }

    #[test]
    fn forwarded_ports_are_proposed() {
        let text =
            template(&facts(&[], Some("{\"forwardPorts\": [3000, \"db:5432\", 8080, 3000, 99999]}")), None);
        assert!(
            text.contains("// network \"deny\" { allow registries=#true; publish 3000; publish 8080; }"),
            "{text}"
        );
    }

    #[test]
    fn the_comments_are_valid_too() {
        for toolchain in &TOOLCHAINS {
            let text = template(&facts(&[toolchain.file], None), None);
            let uncommented: String = text
                .lines()
                .map(|line| match line.strip_prefix("// ") {
                    Some(node)
                        if ["resources ", "packages ", "setup ", "network "]
                            .iter()
                            .any(|word| node.starts_with(word)) =>
                    {
                        format!("{node}\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            let parsed = parse("sandbox.kdl", uncommented.as_bytes());
            assert!(parsed.is_ok(), "{}: {parsed:?}\n{uncommented}", toolchain.file);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_there_the_file_is_valid(
            files in proptest::collection::vec(".{0,20}|Cargo.toml|package.json|go.mod", 0..5),
            devcontainer in proptest::option::of("(\\{\"image\": *\"[ -~]{0,30}\")|.{0,40}"),
            agent in prop_oneof![Just(None), Just(Some("shell")), Just(Some("claude"))],
        ) {
            let text = template(&RepoFacts { name: "x".to_owned(), files, devcontainer }, agent);
            let parsed = parse("sandbox.kdl", text.as_bytes()).unwrap();
            prop_assert!(parsed.warnings.is_empty());
        }
    }
}
