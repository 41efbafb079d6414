//! apk: Alpine, and what descends from it.
//!
//! The index has no SHA-256, so that packages are fetched when they are resolved. apk checks their signatures in the machine
//! that fetches them, and the host hashes what came: from then on it is the hash that counts. What apk 3.0 does is tried in
//! the tests; what 2.14 does otherwise is from its source.

use sbx_manifest::{
    lock::{Installer, Pin},
    model::PackageManager,
};

use crate::provision::client::{Client, ClientError, Script, in_order, whole};

/// Asks apk for packages.
#[derive(Debug)]
pub(in crate::provision) struct Apk;

/// The first line of what `resolve.sh` prints: `sbx-architecture x86_64`.
const ARCHITECTURE: &str = "sbx-architecture ";

impl Client for Apk {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Apk)
    }

    /// Of what is held, the wanted packages keep their versions while there are these versions; what they depend on follows
    /// the index.
    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let held = held.iter().filter(|pin| is_name(&pin.name) && is_version(&pin.version));
        let held = held.filter(|pin| wanted.contains(&pin.name));
        let held = held.fold(String::new(), |list, pin| format!("{list}{} {}\n", pin.name, pin.version));
        let files = vec![("apk-held".to_owned(), held.into_bytes())];
        Script { files, ..Script::new(include_str!("apk/resolve.sh"), wanted) }
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let lines = whole(output)?;
        let first = lines.first().copied().unwrap_or_default();
        let architecture = std::str::from_utf8(first).ok().and_then(|line| line.strip_prefix(ARCHITECTURE));
        let architecture = architecture.filter(|word| is_architecture(word));
        let architecture =
            architecture.ok_or_else(|| ClientError::malformed(first, "the architecture of the image"))?;
        let actions = lines.into_iter().filter(|line| line.starts_with(b"("));
        let actions = actions.map(action).collect::<Result<Vec<_>, _>>()?;
        let pins = actions.into_iter().flatten().map(|(name, version)| Pin {
            manager: Installer::Package(PackageManager::Apk),
            owner: None,
            name,
            version,
            architecture: Some(architecture.to_owned()),
            hash: String::new(),
            url: None,
        });
        in_order(pins.collect())
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let arguments = pins.iter().map(|pin| format!("{}={}", pin.name, pin.version));
        Script::new(include_str!("apk/fetch.sh"), arguments)
    }

    fn file_name(&self, pin: &Pin) -> String {
        format!("{}-{}.apk", pin.name, pin.version).replace('/', "%2f")
    }

    fn install(&self, wanted: &[String], pins: &[Pin]) -> Script {
        let list = pins.iter().fold(String::new(), |list, pin| format!("{list}{}\n", self.file_name(pin)));
        let files = vec![("apk-files".to_owned(), list.into_bytes())];
        // apk notes what it is to keep by name alone: the version is the lock's business.
        let names = wanted.iter().map(|wanted| PackageManager::Apk.package_name(wanted));
        Script { files, ..Script::new(include_str!("apk/install.sh"), names) }
    }
}

/// `(3/12) Installing busybox (1.36.1-r29)`, or `Upgrading`, `Downgrading`, `Reinstalling` and `Replacing`, maybe with
/// `(OLD -> NEW)`; a name may have the tag of its repository behind it. What is purged is no package that is needed, and what
/// only gets another tag is there.
fn action(line: &[u8]) -> Result<Option<(String, String)>, ClientError> {
    let malformed = || ClientError::malformed(line, "what apk does to a package");
    let text = std::str::from_utf8(line).map_err(|_| malformed())?;
    // Version 3 puts blanks before the first number, as in `( 3/12)`.
    let (_, text) = text.split_once(')').ok_or_else(malformed)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (verb, name, version) = match words.as_slice() {
        ["Purging", _, _] | ["Updating", "pinning", _, _] => return Ok(None),
        [verb, name, version] => (*verb, *name, version.trim_start_matches('(')),
        [verb, name, _, "->", version] => (*verb, *name, *version),
        _ => return Err(malformed()),
    };
    let name = name.split('@').next().unwrap_or_default();
    let version = version.strip_suffix(')').ok_or_else(malformed)?;
    let known = ["Installing", "Upgrading", "Downgrading", "Reinstalling", "Replacing"].contains(&verb);
    if !known || !is_name(name) || !is_version(version) {
        return Err(malformed());
    }
    Ok(Some((name.to_owned(), version.to_owned())))
}

/// The names in Alpine's index (APKBUILD(5), "pkgname").
fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    text.bytes().all(is_of_name) && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// `1.2.3_rc1-r4`.
fn is_version(text: &str) -> bool {
    let is_of_version = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~');
    text.bytes().all(is_of_version) && text.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(text: &str) -> Result<Vec<String>, ClientError> {
        let pins = Apk.read(text.as_bytes())?;
        Ok(pins.iter().map(|pin| format!("{} {} {:?}", pin.name, pin.version, pin.hash)).collect())
    }

    #[test]
    fn a_simulation_becomes_pins_whose_hashes_the_host_finds() {
        let text = "sbx-architecture x86_64\n( 8/12) Installing oniguruma (6.9.9-r0)\n\
            ( 9/12) Upgrading musl (1.2.4-r2 -> 1.2.5-r0)\n(10/12) Purging old (1.0-r0)\n\
            (11/12) Installing helm@testing (3.16.1-r2)\n(12/12) Updating pinning curl@edge (8.9.0-r0)\n\
            OK: 12 MiB in 17 packages\nsbx-end\n";
        assert_eq!(
            pins(text).unwrap(),
            ["helm 3.16.1-r2 \"\"", "musl 1.2.5-r0 \"\"", "oniguruma 6.9.9-r0 \"\""]
        );
        assert!(pins("sbx-architecture x86_64\nOK: 7 MiB in 15 packages\nsbx-end\n").unwrap().is_empty());
    }

    #[test]
    fn what_apk_would_not_print_is_refused() {
        for line in [
            "(1/1) Installing ../x (1-r0)",
            "(1/1) Installing jq (1;id)",
            "(1/1) Installing jq",
            "(1/1) Exploding jq (1-r0)",
            "(1/1) Installing -jq (1-r0)",
            "(1/1) Installing @edge (1-r0)",
            "(1/1 Installing jq",
        ] {
            let text = format!("sbx-architecture x86_64\n{line}\nsbx-end\n");
            assert!(matches!(pins(&text), Err(ClientError::Malformed { .. })), "{line}");
        }
        assert!(matches!(pins("(1/1) Installing jq (1-r0)\nsbx-end\n"), Err(ClientError::Malformed { .. })));
        assert!(matches!(pins("sbx-architecture x86_64\n"), Err(ClientError::Missing { .. })));
    }

    #[test]
    fn files_and_arguments_are_those_of_apk() {
        let pin = Pin {
            manager: Installer::Package(PackageManager::Apk),
            owner: None,
            name: "jq".to_owned(),
            version: "1.7.1-r0".to_owned(),
            architecture: Some("x86_64".to_owned()),
            hash: String::new(),
            url: None,
        };
        assert_eq!(Apk.file_name(&pin), "jq-1.7.1-r0.apk");
        assert_eq!(Apk.fetch(std::slice::from_ref(&pin)).arguments, ["jq=1.7.1-r0"]);
        let wanted = ["jq".to_owned(), "git=~2".to_owned()];
        let resolve = Apk.resolve(&wanted, std::slice::from_ref(&pin));
        assert_eq!(resolve.arguments, ["jq", "git=~2"]);
        assert_eq!(resolve.files, [("apk-held".to_owned(), b"jq 1.7.1-r0\n".to_vec())]);
        let install = Apk.install(&wanted, &[pin]);
        assert_eq!(install.arguments, ["jq", "git"]);
        assert_eq!(install.files, [("apk-files".to_owned(), b"jq-1.7.1-r0.apk\n".to_vec())]);
    }
}
