//! apt: Debian, Ubuntu, and what descends from them.
//!
//! What apt would do is asked of its simulation, and what the files are of its records, which come from lists that it has
//! checked against the archive's signature.

use sbx_manifest::{
    lock::{Installer, Pin},
    model::PackageManager,
};

use crate::provision::{
    client::{Client, ClientError, Script, in_order, packages_after},
    hash::is_sha256,
};

/// Asks apt for packages.
#[derive(Debug)]
pub(in crate::provision) struct Apt;

/// Where the records begin in what `resolve.sh` prints.
const RECORDS: &str = "sbx-records";
/// Before the records of a package: `sbx-record NAME VERSION ARCHITECTURE`.
const RECORD: &str = "sbx-record ";

/// Priority of a version that is to be kept, even if that is older than an installed one (apt_preferences(5)).
const HELD_PRIORITY: u32 = 1001;

impl Client for Apt {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Apt)
    }

    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let held: String = held.iter().filter(|pin| is_name(&pin.name) && is_version(&pin.version)).fold(
            String::new(),
            |text, pin| {
                let (name, version) = (&pin.name, &pin.version);
                format!("{text}Package: {name}\nPin: version {version}\nPin-Priority: {HELD_PRIORITY}\n\n")
            },
        );
        let files = vec![("apt-held".to_owned(), held.into_bytes())];
        Script { files, ..Script::new(include_str!("apt/resolve.sh"), wanted) }
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let mut pins: Vec<Pin> = Vec::new();
        let mut record: Option<Record> = None;
        for line in packages_after(RECORDS, output)? {
            if line.starts_with(RECORD.as_bytes()) {
                pins.extend(record.take().map(Record::finish).transpose()?);
                record = Some(Record::begin(line)?);
            } else if let Some(record) = &mut record {
                record.line(line);
            }
        }
        pins.extend(record.map(Record::finish).transpose()?);
        in_order(pins)
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let argument = |pin: &Pin| match pin.architecture.as_deref() {
            None | Some("all") => format!("{}={}", pin.name, pin.version),
            Some(architecture) => format!("{}:{architecture}={}", pin.name, pin.version),
        };
        Script::new(include_str!("apt/fetch.sh"), pins.iter().map(argument))
    }

    /// As `apt-get download` names it, with the characters quoted that it quotes.
    fn file_name(&self, pin: &Pin) -> String {
        let quoted = |text: &str| text.replace(':', "%3a").replace('/', "%2f");
        let architecture = pin.architecture.as_deref().unwrap_or("all");
        format!("{}_{}_{}.deb", quoted(&pin.name), quoted(&pin.version), quoted(architecture))
    }

    fn install(&self, wanted: &[String], pins: &[Pin]) -> Script {
        let wanted: Vec<&str> = wanted.iter().map(|name| package_of(name)).collect();
        let list = pins.iter().fold(String::new(), |text, pin| {
            let mark = if wanted.contains(&pin.name.as_str()) { "manual" } else { "auto" };
            format!("{text}{} {} {mark}\n", self.file_name(pin), pin.name)
        });
        let files = vec![("apt-packages".to_owned(), list.into_bytes())];
        Script { files, ..Script::new(include_str!("apt/install.sh"), [] as [&str; 0]) }
    }
}

/// The records of one package, as far as they were read.
#[derive(Debug)]
struct Record {
    name: String,
    version: String,
    architecture: String,
    /// `Version`, `Architecture` and `SHA256` of the paragraph.
    fields: [Option<String>; 3],
    hash: Option<String>,
}

impl Record {
    fn begin(line: &[u8]) -> Result<Self, ClientError> {
        let malformed = || ClientError::malformed(line, "a package with its version and architecture");
        let text = std::str::from_utf8(line).map_err(|_| malformed())?;
        let words: Vec<&str> = text.split(' ').skip(1).collect();
        let [name, version, architecture] = words.as_slice() else { return Err(malformed()) };
        // A package of another architecture has that behind its name, too.
        let name = name.split(':').next().unwrap_or_default();
        if !is_name(name) || !is_version(version) || !is_architecture(architecture) {
            return Err(malformed());
        }
        Ok(Self {
            name: name.to_owned(),
            version: (*version).to_owned(),
            architecture: (*architecture).to_owned(),
            fields: [None, None, None],
            hash: None,
        })
    }

    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.paragraph();
        }
        let Ok(text) = std::str::from_utf8(line) else { return };
        for (field, name) in self.fields.iter_mut().zip(["Version: ", "Architecture: ", "SHA256: "]) {
            if let Some(value) = text.strip_prefix(name) {
                *field = Some(value.trim().to_owned());
            }
        }
    }

    /// The end of a paragraph: the first that is about this file counts.
    fn paragraph(&mut self) {
        let [version, architecture, hash] = std::mem::take(&mut self.fields);
        let is_it = version.is_some_and(|version| version == self.version)
            && architecture.is_some_and(|architecture| architecture == self.architecture);
        if is_it && self.hash.is_none() {
            self.hash = hash;
        }
    }

    fn finish(mut self) -> Result<Pin, ClientError> {
        self.paragraph();
        let hash = self.hash.filter(|hash| is_sha256(hash));
        let hash = hash.ok_or_else(|| ClientError::Missing {
            what: format!("the SHA-256 of {} {}", self.name, self.version),
        })?;
        Ok(Pin {
            manager: Installer::Package(PackageManager::Apt),
            owner: None,
            name: self.name,
            version: self.version,
            architecture: Some(self.architecture),
            hash: format!("sha256:{hash}"),
            url: None,
        })
    }
}

/// The package in what a manifest wants: `git` of `git=1:2.39`, and of `git:amd64`.
fn package_of(wanted: &str) -> &str {
    wanted.split(['=', ':']).next().unwrap_or_default()
}

/// Debian Policy, 5.6.1.
fn is_name(text: &str) -> bool {
    let is_of_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    text.len() > 1
        && text.bytes().all(is_of_name)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Debian Policy, 5.6.12.
fn is_version(text: &str) -> bool {
    let is_of_version =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'~' | b':');
    text.bytes().all(is_of_version) && text.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

fn is_architecture(text: &str) -> bool {
    let is_of_architecture = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_of_architecture) && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "5d6cd2d1ba2c3a2a1f1b0a1d1e1f1a1b1c1d1e1f1a1b1c1d1e1f1a1b1c1d1e1f";

    /// As Debian 12's apt 2.6 prints it, shortened.
    fn output(records: &str) -> Vec<u8> {
        let plan =
            "sbx-plan\nNOTE: This is only a simulation!\nInst libjq1 (1.6-2.1 Debian:12.9/stable [amd64])\n";
        format!("{plan}sbx-records\n{records}sbx-end\n").into_bytes()
    }

    fn pin(name: &str, version: &str, architecture: &str) -> Pin {
        Pin {
            manager: Installer::Package(PackageManager::Apt),
            owner: None,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: Some(architecture.to_owned()),
            hash: format!("sha256:{HASH}"),
            url: None,
        }
    }

    #[test]
    fn records_become_pins_in_order() {
        let text = output(&format!(
            "sbx-record libjq1 1.6-2.1 amd64\nPackage: libjq1\nVersion: 1.6-2.1\nArchitecture: amd64\n\
             Description: SHA256: none\n of x\nSHA256: {HASH}\n\n\
             sbx-record git:amd64 1:2.39.5-0+deb12u2 amd64\nPackage: git\nVersion: 1:2.40\nArchitecture: amd64\n\
             SHA256: {other}\n\nPackage: git\nArchitecture: amd64\nVersion: 1:2.39.5-0+deb12u2\nSHA256: {HASH}\n\n",
            other = "0".repeat(64)
        ));
        assert_eq!(
            Apt.read(&text).unwrap(),
            [pin("git", "1:2.39.5-0+deb12u2", "amd64"), pin("libjq1", "1.6-2.1", "amd64")]
        );
        assert!(Apt.read(&output("")).unwrap().is_empty());
    }

    #[test]
    fn what_apt_would_not_print_is_refused() {
        let record = |line: &str| format!("{line}\nVersion: 1\nArchitecture: amd64\nSHA256: {HASH}\n\n");
        for line in [
            "sbx-record ../x 1 amd64",
            "sbx-record -o 1 amd64",
            "sbx-record Git 1 amd64",
            "sbx-record git 1;id amd64",
            "sbx-record git 1 am/d",
            "sbx-record git 1",
            "sbx-record git 1 amd64 more",
        ] {
            let error = Apt.read(&output(&record(line))).unwrap_err();
            assert!(matches!(error, ClientError::Malformed { .. }), "{line}: {error}");
        }
        let without = "sbx-record git 1 amd64\nVersion: 1\nArchitecture: amd64\nMD5sum: 0\n\n";
        let error = Apt.read(&output(without)).unwrap_err();
        assert_eq!(error.to_string(), "it said nothing about the SHA-256 of git 1");
        for broken in [b"".as_slice(), b"sbx-plan\n", b"sbx-records\nsbx-record git 1 amd64\nVersion: 1\n"] {
            assert!(matches!(Apt.read(broken), Err(ClientError::Missing { .. })));
        }
    }

    #[test]
    fn files_have_the_names_that_apt_gives_them() {
        let git = pin("git", "1:2.39.5-0+deb12u2", "amd64");
        assert_eq!(Apt.file_name(&git), "git_1%3a2.39.5-0+deb12u2_amd64.deb");
        assert_eq!(Apt.fetch(&[git]).arguments, ["git:amd64=1:2.39.5-0+deb12u2"]);
        assert_eq!(Apt.fetch(&[pin("tzdata", "2025b", "all")]).arguments, ["tzdata=2025b"]);
        // From a lock that somebody wrote by hand.
        assert!(!Apt.file_name(&pin("../../x", "1/..", "amd64")).contains('/'));
    }

    #[test]
    fn only_what_is_wanted_is_marked_as_such() {
        let pins = [pin("git", "1:2", "amd64"), pin("perl", "5", "amd64")];
        let script = Apt.install(&["git=1:2".to_owned()], &pins);
        let (name, list) = script.files.first().unwrap();
        assert_eq!(name, "apt-packages");
        assert_eq!(
            String::from_utf8_lossy(list),
            "git_1%3a2_amd64.deb git manual\nperl_5_amd64.deb perl auto\n"
        );
        let held = Apt.resolve(&["git".to_owned()], &pins).files;
        let (_, held) = held.first().unwrap();
        assert!(held.starts_with(b"Package: git\nPin: version 1:2\nPin-Priority: 1001\n\n"));
    }
}
