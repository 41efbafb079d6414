//! dnf: Fedora, RHEL, and what descends from them.
//!
//! dnf tells nobody the hashes that are in a repository's metadata, but checks files by them: so packages are downloaded when they
//! are resolved, in dnf's own test of a transaction, and what has passed is hashed. rpm installs them, which needs no dnf.

use sbx_manifest::{
    lock::{Installer, Pin},
    model::PackageManager,
};

use crate::provision::{
    client::{Client, ClientError, Script, in_order, packages_after},
    hash::is_sha256,
};

/// Asks dnf for packages.
#[derive(Debug)]
pub(in crate::provision) struct Dnf;

/// Where the packages begin in what `resolve.sh` prints.
const PACKAGES: &str = "sbx-packages";
/// A package: `sbx-package NAME VERSION ARCHITECTURE SHA256`.
const PACKAGE: &str = "sbx-package ";

impl Client for Dnf {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Dnf)
    }

    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let held: Vec<&Pin> =
            held.iter().filter(|pin| is_name(&pin.name) && is_version(&pin.version)).collect();
        let as_held = |wanted: &String| {
            let pins = held.iter().filter(|pin| pin.name == *wanted);
            let pins: Vec<String> = pins.map(|pin| package(pin)).collect();
            if pins.is_empty() { vec![specification(wanted)] } else { pins }
        };
        let first: Vec<String> = wanted.iter().flat_map(as_held).collect();
        let is_wanted = |pin: &Pin| wanted.iter().any(|wanted| pin.name == package_of(wanted));
        let others = held.iter().filter(|pin| !is_wanted(pin));
        let mut lines: Vec<String> = others
            .map(|pin| format!("{}.{} {} {}\n", pin.name, architecture(pin), pin.version, package(pin)))
            .collect();
        lines.sort_unstable();
        let files = vec![
            ("dnf-wanted".to_owned(), first.join(" ").into_bytes()),
            ("dnf-held".to_owned(), lines.concat().into_bytes()),
        ];
        let plain = wanted.iter().map(|wanted| specification(wanted));
        Script { files, ..Script::new(include_str!("dnf/resolve.sh"), plain) }
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let lines = packages_after(PACKAGES, output)?;
        in_order(lines.into_iter().map(pin).collect::<Result<_, _>>()?)
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let list = pins.iter().fold(String::new(), |list, pin| {
            let (name, version) = (&pin.name, with_epoch(&pin.version));
            format!("{list}{name} {version} {} {}\n", architecture(pin), self.file_name(pin))
        });
        let files = vec![("dnf-pins".to_owned(), list.into_bytes())];
        Script { files, ..Script::new(include_str!("dnf/fetch.sh"), [] as [&str; 0]) }
    }

    /// As `rpm -q` and `dnf list` say it, so that it is the same wherever a repository keeps it.
    fn file_name(&self, pin: &Pin) -> String {
        format!("{}-{}.{}.rpm", pin.name, pin.version, architecture(pin)).replace('/', "%2f")
    }

    fn install(&self, _wanted: &[String], pins: &[Pin]) -> Script {
        let list = pins.iter().fold(String::new(), |list, pin| format!("{list}{}\n", self.file_name(pin)));
        let files = vec![
            ("dnf-files".to_owned(), list.into_bytes()),
            ("dnf-times.py".to_owned(), include_bytes!("dnf/times.py").to_vec()),
        ];
        Script { files, ..Script::new(include_str!("dnf/install.sh"), [] as [&str; 0]) }
    }
}

/// A line of [`PACKAGE`].
fn pin(line: &[u8]) -> Result<Pin, ClientError> {
    let malformed = || ClientError::malformed(line, "a package with its version, architecture and hash");
    let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_prefix(PACKAGE));
    let words: Vec<&str> = text.ok_or_else(malformed)?.split(' ').collect();
    let [name, version, architecture, hash] = words.as_slice() else { return Err(malformed()) };
    if !is_name(name) || !is_version(version) || !is_architecture(architecture) || !is_sha256(hash) {
        return Err(malformed());
    }
    Ok(Pin {
        manager: Installer::Package(PackageManager::Dnf),
        owner: None,
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        architecture: Some((*architecture).to_owned()),
        hash: format!("sha256:{hash}"),
        url: None,
    })
}

/// How dnf is asked for exactly this package (dnf(8), "Specifying packages").
fn package(pin: &Pin) -> String {
    format!("{}-{}.{}", pin.name, with_epoch(&pin.version), architecture(pin))
}

/// How dnf is asked for what a manifest wants: `git-2.47.0` for `git=2.47.0`.
fn specification(wanted: &str) -> String {
    wanted.replacen('=', "-", 1)
}

/// The package in what a manifest wants.
fn package_of(wanted: &str) -> &str {
    PackageManager::Dnf.package_name(wanted)
}

/// A version without an epoch has epoch 0.
fn with_epoch(version: &str) -> String {
    if version.contains(':') { version.to_owned() } else { format!("0:{version}") }
}

fn architecture(pin: &Pin) -> &str {
    pin.architecture.as_deref().unwrap_or("noarch")
}

/// The characters that rpm allows (rpm-spec(5), "Name").
fn is_name(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    text.bytes().all(is_of_name) && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// `[EPOCH:]VERSION-RELEASE` (rpm-spec(5), "Version").
fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let is_of_version = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~^".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_of_version);
    !epoch.is_empty()
        && epoch.bytes().all(|byte| byte.is_ascii_digit())
        && rest.split_once('-').is_some_and(|(version, release)| is_part(version) && is_part(release))
}

fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "5d6cd2d1ba2c3a2a1f1b0a1d1e1f1a1b1c1d1e1f1a1b1c1d1e1f1a1b1c1d1e1f";

    fn pin(name: &str, version: &str, architecture: &str) -> Pin {
        Pin {
            manager: Installer::Package(PackageManager::Dnf),
            owner: None,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: Some(architecture.to_owned()),
            hash: format!("sha256:{HASH}"),
            url: None,
        }
    }

    fn file(script: &Script, name: &str) -> String {
        let (_, content) = script.files.iter().find(|(own, _)| own == name).unwrap();
        String::from_utf8(content.clone()).unwrap()
    }

    #[test]
    fn packages_become_pins_in_order() {
        let text = format!(
            "sbx-packages\nsbx-package vim-minimal 2:9.1.785^1-1.fc41 x86_64 {HASH}\n\
             sbx-package gcc-c++ 14.2.1~rc1-3.fc41 x86_64 {HASH}\nsbx-end\n"
        );
        let expected = [
            pin("gcc-c++", "14.2.1~rc1-3.fc41", "x86_64"),
            pin("vim-minimal", "2:9.1.785^1-1.fc41", "x86_64"),
        ];
        assert_eq!(Dnf.read(text.as_bytes()).unwrap(), expected);
        assert!(Dnf.read(b"sbx-packages\nsbx-end\n").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_a_package_is_refused() {
        for line in [
            format!("sbx-package ../x 1-1 noarch {HASH}"),
            format!("sbx-package -x 1-1 noarch {HASH}"),
            format!("sbx-package x 1;id-1 noarch {HASH}"),
            format!("sbx-package x 1 noarch {HASH}"),
            format!("sbx-package x 1-1-1 noarch {HASH}"),
            format!("sbx-package x :1-1 noarch {HASH}"),
            format!("sbx-package x 1-1 no/arch {HASH}"),
            format!("sbx-package x 1-1 {HASH}"),
            "sbx-package x 1-1 noarch 0123".to_owned(),
            "warning: x".to_owned(),
        ] {
            let error = Dnf.read(format!("sbx-packages\n{line}\nsbx-end\n").as_bytes()).unwrap_err();
            assert!(matches!(error, ClientError::Malformed { .. }), "{line}: {error}");
        }
        for broken in ["", "sbx-end\n", "sbx-packages\n"] {
            assert!(Dnf.read(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_is_held_is_asked_for_first() {
        let held =
            [pin("zlib", "1.3-1", "x86_64"), pin("git", "2.47-1", "x86_64"), pin("git", "2.47-1", "i686")];
        let script = Dnf.resolve(&["git".to_owned(), "jq=1.7".to_owned()], &held);
        assert_eq!(script.arguments, ["git", "jq-1.7"]);
        assert_eq!(file(&script, "dnf-wanted"), "git-0:2.47-1.x86_64 git-0:2.47-1.i686 jq-1.7");
        assert_eq!(file(&script, "dnf-held"), "zlib.x86_64 1.3-1 zlib-0:1.3-1.x86_64\n");
        // From a lock that somebody wrote by hand.
        let script = Dnf.resolve(&[], &[pin("x$(id)", "1-1", "noarch"), pin("x", "1 2-1", "noarch")]);
        assert_eq!(file(&script, "dnf-held"), "");
    }

    #[test]
    fn files_are_named_by_what_is_in_them() {
        let vim = pin("vim-minimal", "2:9.1-1", "x86_64");
        assert_eq!(Dnf.file_name(&vim), "vim-minimal-2:9.1-1.x86_64.rpm");
        let fetch = Dnf.fetch(&[vim.clone(), pin("jq", "1.7-1", "noarch")]);
        assert_eq!(
            file(&fetch, "dnf-pins"),
            "vim-minimal 2:9.1-1 x86_64 vim-minimal-2:9.1-1.x86_64.rpm\njq 0:1.7-1 noarch jq-1.7-1.noarch.rpm\n"
        );
        assert_eq!(file(&Dnf.install(&[], &[vim]), "dnf-files"), "vim-minimal-2:9.1-1.x86_64.rpm\n");
        assert!(!Dnf.file_name(&pin("../../x", "1/..", "noarch")).contains('/'));
    }
}
