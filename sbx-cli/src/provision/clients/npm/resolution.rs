//! What npm resolved: its lock file and the platform, read strictly, without the packages that are for other platforms.
//!
//! npm's lock file is for all platforms: packages that are optional because they are for one are all in it. Which of them fit is
//! decided as npm decides when it installs: by `os`, `cpu` and `libc`, and what only they need goes with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::IgnoredAny};

use crate::provision::{client::ClientError, hash::Hash};

/// How deep packages may lie in each other.
const MAX_DEPTH: usize = 32;

/// A package and its place in the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Placed {
    /// `node_modules/a/node_modules/b`.
    pub(super) place: String,
    /// Version, or `npm:NAME@VERSION` where the place has another name than the package.
    pub(super) version: String,
    /// Integrity, `sha512-` and base64.
    pub(super) integrity: String,
}

/// What `lock.js` prints.
#[derive(Deserialize)]
struct Answer {
    platform: Platform,
    packages: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    cpu: String,
    libc: String,
}

/// A package of a lock file (npm's documentation, "package-lock.json").
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    name: Option<String>,
    version: Option<String>,
    integrity: Option<String>,
    optional: bool,
    in_bundle: bool,
    link: bool,
    os: Option<Words>,
    cpu: Option<Words>,
    libc: Option<Words>,
    dependencies: BTreeMap<String, IgnoredAny>,
    optional_dependencies: BTreeMap<String, IgnoredAny>,
    peer_dependencies: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

/// Reads what `resolve.sh` printed: the packages that fit its platform, by place.
///
/// # Errors
/// If it is not what the script prints, or nothing that can be pinned.
pub(super) fn read(output: &[u8]) -> Result<Vec<Placed>, ClientError> {
    let malformed = |_| ClientError::malformed(output, "npm's lock file");
    let answer: Answer = serde_json::from_slice(output).map_err(malformed)?;
    if answer.packages.len() > ClientError::MAX_PINS {
        return Err(ClientError::TooMany { limit: ClientError::MAX_PINS });
    }
    if let Some(place) = answer.packages.keys().find(|place| !place.is_empty() && !is_place(place)) {
        return Err(ClientError::malformed(place.as_bytes(), "a place in node_modules"));
    }
    let unfit = unfit(&answer)?;
    let mut placed = Vec::new();
    for place in reachable(&answer.packages, &unfit) {
        // What came inside an archive is checked with it.
        if let Some(entry) = answer.packages.get(place).filter(|entry| !entry.in_bundle) {
            placed.push(pinned(place, entry)?);
        }
    }
    Ok(placed)
}

/// Whether this is an integrity that says enough.
pub(super) fn is_sha512(integrity: &str) -> bool {
    matches!(Hash::parse(integrity), Some(Hash::Sha512(_)))
}

/// A name of a package, which becomes part of a path and of an argument.
pub(super) fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let fits = match text.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| part(scope) && part(name)),
        None => part(text),
    };
    fits && text.len() <= 214 && text != "node_modules"
}

/// The name at the end of a place.
pub(super) fn name_at(place: &str) -> &str {
    let end = "node_modules/";
    place.rfind(end).and_then(|at| place.get(at + end.len()..)).unwrap_or(place)
}

/// Whether this is `node_modules/NAME`, once or several times.
pub(super) fn is_place(place: &str) -> bool {
    let Some(rest) = place.strip_prefix("node_modules/") else { return false };
    let mut names = rest.split("/node_modules/");
    names.clone().count() <= MAX_DEPTH && names.all(is_name)
}

/// Whether this is a version without what a range or a tag could have.
pub(super) fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.len() <= 256
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
}

fn pinned(place: &str, entry: &Entry) -> Result<Placed, ClientError> {
    let name = name_at(place);
    let version = entry.version.as_deref().unwrap_or_default();
    let real = entry.name.as_deref().unwrap_or(name);
    if !is_version(version) || !is_name(real) {
        let said = format!("{real}@{version}");
        return Err(ClientError::malformed(said.as_bytes(), "a package with its version"));
    }
    let version = if real == name { version.to_owned() } else { format!("npm:{real}@{version}") };
    // What is from git, from a directory or from an address has none, or is not in the registry.
    let mut hashes = entry.integrity.as_deref().unwrap_or_default().split_ascii_whitespace();
    match hashes.find(|hash| is_sha512(hash)) {
        Some(integrity) if !entry.link => {
            Ok(Placed { place: place.to_owned(), version, integrity: integrity.to_owned() })
        }
        _ => Err(ClientError::Missing { what: format!("the SHA-512 of {name}, which a registry knows") }),
    }
}

/// The places of what is for other platforms, and of what cannot be without it.
fn unfit(answer: &Answer) -> Result<BTreeSet<&str>, ClientError> {
    let Platform { os, cpu, libc } = &answer.platform;
    let fits = |entry: &Entry| {
        let listed = |words: &Option<Words>, value| words.as_ref().is_none_or(|words| words.admit(value));
        listed(&entry.os, os) && listed(&entry.cpu, cpu) && listed(&entry.libc, libc)
    };
    let packages = || answer.packages.iter().filter(|(place, _)| !place.is_empty());
    let mut dependents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, entry) in packages() {
        let needs = entry.dependencies.keys().filter(|name| !entry.optional_dependencies.contains_key(*name));
        for found in needs.filter_map(|name| find(&answer.packages, place, name)) {
            dependents.entry(found).or_default().push(place);
        }
    }
    let mut next: Vec<&str> =
        packages().filter(|(_, entry)| !fits(entry)).map(|(place, _)| place.as_str()).collect();
    let mut unfit = BTreeSet::new();
    while let Some(place) = next.pop() {
        if unfit.insert(place) {
            next.extend(dependents.get(place).into_iter().flatten());
        }
    }
    let needed = |place: &&str| answer.packages.get(*place).is_some_and(|entry| !entry.optional);
    match unfit.iter().copied().find(needed) {
        None => Ok(unfit),
        Some(place) => Err(ClientError::Unsuitable {
            package: name_at(place).to_owned(),
            platform: crate::ui::printable(&format!("{os} {cpu} {libc}")),
        }),
    }
}

/// What the root needs, and what that needs, by place.
fn reachable<'a>(packages: &'a BTreeMap<String, Entry>, unfit: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![""];
    while let Some(place) = next.pop() {
        let Some(entry) = packages.get(place) else { continue };
        let kinds = [&entry.dependencies, &entry.optional_dependencies, &entry.peer_dependencies];
        for name in kinds.into_iter().flat_map(BTreeMap::keys) {
            let Some(found) = find(packages, place, name) else { continue };
            if !unfit.contains(found) && reached.insert(found) {
                next.push(found);
            }
        }
    }
    reached
}

/// Where node finds `name` from `place`: the nearest directory upwards.
fn find<'a>(packages: &'a BTreeMap<String, Entry>, place: &str, name: &str) -> Option<&'a str> {
    let mut from = place;
    loop {
        let separator = if from.is_empty() { "" } else { "/" };
        let candidate = format!("{from}{separator}node_modules/{name}");
        if let Some((found, _)) = packages.get_key_value(&candidate) {
            return Some(found);
        }
        if from.is_empty() {
            return None;
        }
        from = from.rfind("/node_modules/").and_then(|end| from.get(..end)).unwrap_or_default();
    }
}

impl Words {
    /// As npm reads such a list: none of those with a `!`, and one of the others if there are any.
    fn admit(&self, value: &str) -> bool {
        let words = match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words.as_slice(),
        };
        if matches!(words, [word] if word == "any") {
            return true;
        }
        let mut wanted = words.iter().filter(|word| !word.starts_with('!')).peekable();
        let refused = words.iter().any(|word| word.strip_prefix('!') == Some(value));
        !refused && (wanted.peek().is_none() || wanted.any(|word| word == value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An integrity, as npm writes one.
    fn integrity(byte: u8) -> String {
        Hash::Sha512([byte; 64]).to_string()
    }

    fn answer(packages: Value) -> Vec<u8> {
        let platform = json!({ "os": "linux", "cpu": "x64", "libc": "glibc" });
        json!({ "platform": platform, "packages": packages }).to_string().into_bytes()
    }

    fn places(packages: Value) -> Vec<String> {
        read(&answer(packages)).unwrap().into_iter().map(|placed| placed.place).collect()
    }

    fn fault(packages: Value) -> String {
        read(&answer(packages)).unwrap_err().to_string()
    }

    #[test]
    fn only_what_fits_the_platform_is_taken_and_what_that_needs() {
        let optional = |more: Value| {
            let mut entry = json!({ "version": "1.0.0", "integrity": integrity(1), "optional": true });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let natives = json!({ "gnu": "1", "musl": "1", "mac": "1", "wasm": "1" });
        let packages = json!({
            "": { "dependencies": { "tool": "*" } },
            "node_modules/tool": { "version": "2.0.0", "integrity": integrity(2), "optionalDependencies": natives },
            "node_modules/gnu": optional(json!({ "os": ["linux"], "cpu": ["x64"], "libc": ["glibc"] })),
            "node_modules/musl": optional(json!({ "os": ["linux"], "cpu": ["x64"], "libc": "musl" })),
            "node_modules/mac": optional(json!({ "os": ["darwin"], "dependencies": { "only-mac": "1" } })),
            "node_modules/only-mac": optional(json!({})),
            "node_modules/wasm": optional(json!({ "os": ["!win32", "!darwin"], "dependencies": { "cpu32": "1" } })),
            "node_modules/cpu32": optional(json!({ "cpu": ["wasm32"] })),
            "node_modules/nobodys": optional(json!({})),
        });
        assert_eq!(places(packages), ["node_modules/gnu", "node_modules/tool"]);
    }

    #[test]
    fn the_nearest_of_two_versions_is_the_one_that_is_needed() {
        let packages = json!({
            "": { "dependencies": { "a": "1" } },
            "node_modules/a": { "version": "1.0.0", "integrity": integrity(1), "dependencies": { "@s/b": "2" } },
            "node_modules/a/node_modules/@s/b":
                { "version": "2.0.0", "integrity": integrity(2), "dependencies": { "c": "1", "gone": "1" } },
            "node_modules/@s/b": { "version": "1.0.0", "integrity": integrity(3) },
            "node_modules/c": { "name": "real", "version": "3.0.0-rc.1", "integrity": format!("sha1-AA== {}", integrity(4)) },
            "node_modules/c/node_modules/inside": { "version": "1.0.0", "inBundle": true },
        });
        let placed = read(&answer(packages)).unwrap();
        let seen: Vec<_> = placed.iter().map(|each| (each.place.as_str(), each.version.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("node_modules/a", "1.0.0"),
                ("node_modules/a/node_modules/@s/b", "2.0.0"),
                ("node_modules/c", "npm:real@3.0.0-rc.1"),
            ]
        );
        assert_eq!(placed.last().unwrap().integrity, integrity(4));
    }

    #[test]
    fn what_cannot_be_pinned_is_an_error() {
        let one =
            |entry: Value| fault(json!({ "": { "dependencies": { "a": "1" } }, "node_modules/a": entry }));
        let missing = "it said nothing about the SHA-512 of a, which a registry knows";
        assert_eq!(
            one(json!({ "version": "1.0.0", "resolved": "git+ssh://git@example.org/a.git#0" })),
            missing
        );
        assert_eq!(
            one(json!({ "version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=" })),
            missing
        );
        assert_eq!(one(json!({ "version": "1.0.0", "integrity": integrity(1), "link": true })), missing);
        assert_eq!(
            one(json!({ "version": "1.0.0", "integrity": integrity(1), "os": ["win32"] })),
            "a is not for linux x64 glibc"
        );
        assert_eq!(
            one(json!({ "version": "1.0.0;id", "integrity": integrity(1) })),
            "`a@1.0.0;id` is not a package with its version"
        );
        assert_eq!(
            one(json!({ "name": "--global", "version": "1.0.0", "integrity": integrity(1) })),
            "`--global@1.0.0` is not a package with its version"
        );
    }

    #[test]
    fn places_outside_node_modules_are_refused() {
        for place in [
            "../node_modules/a",
            "node_modules/..",
            "node_modules/a/../b",
            "node_modules/a/node_modules/../../..",
            "node_modules/.bin",
            "node_modules/@s",
            "node_modules/@s/../a",
            "node_modules/a b",
            "node_modules/-rf",
            "packages/a",
            "/node_modules/a",
            "node_modules/",
        ] {
            assert!(fault(json!({ place: {} })).ends_with("is not a place in node_modules"), "{place}");
        }
        let deep = ["node_modules/a"; MAX_DEPTH + 1].join("/");
        assert!(fault(json!({ deep: {} })).contains("place in node_modules"));
    }

    #[test]
    fn what_is_not_json_or_has_no_end_is_refused() {
        for text in ["", "null", "[]", "{}", r#"{"packages":{}}"#, &"[".repeat(1 << 20)] {
            assert!(read(text.as_bytes()).unwrap_err().to_string().ends_with("is not npm's lock file"));
        }
        // Packages that need each other in a ring and in a chain, as many as are taken.
        let count = 5_000;
        let mut packages = serde_json::Map::new();
        packages.insert(String::new(), json!({ "dependencies": { "p0": "1" } }));
        for index in 0..count {
            let next = format!("p{}", (index + 1) % count);
            let entry =
                json!({ "version": "1.0.0", "integrity": integrity(0), "dependencies": { next: "1" } });
            packages.insert(format!("node_modules/p{index}"), entry);
        }
        assert_eq!(places(packages.into()).len(), count);
    }
}
