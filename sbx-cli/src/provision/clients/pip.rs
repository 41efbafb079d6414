//! pip: packages of Python, into the system's own.
//!
//! Wheels only: their installation runs nothing of theirs, and makes the same files every time.

use std::collections::BTreeMap;

use sbx_manifest::{
    lock::{Installer, Pin},
    model::PackageManager,
};
use serde::Deserialize;

use crate::provision::{
    client::{Client, ClientError, Script, in_order},
    hash::Hash,
};

/// Wheels that pip downloads in one run: of a run that fails it keeps nothing, and each run takes it half a second to begin.
const WHEELS_AT_A_TIME: usize = 16;

/// Asks pip for packages.
#[derive(Debug)]
pub(in crate::provision) struct Pip;

impl Client for Pip {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Pip)
    }

    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let files = vec![("pip-held.txt".to_owned(), requirements(held, |_| String::new()))];
        // What follows `--` is no option, whatever it looks like.
        let arguments = ["--".to_owned()].into_iter().chain(wanted.iter().map(|wanted| requirement(wanted)));
        Script { files, ..Script::new(include_str!("pip/resolve.sh"), arguments) }
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let malformed = |_| ClientError::malformed(output, "pip's report");
        let report: Report = serde_json::from_slice(output).map_err(malformed)?;
        in_order(report.install.iter().map(Installed::pin).collect::<Result<_, _>>()?)
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        // The host checks the hashes. Those that are known let pip choose among a version's wheels, and pip wants all or none.
        let all = pins.iter().all(|pin| sha256(pin).is_some());
        let hash = |pin: &Pin| sha256(pin).filter(|_| all).map(option).unwrap_or_default();
        let lists = pins.chunks(WHEELS_AT_A_TIME).enumerate();
        let files =
            lists.map(|(number, some)| (format!("pip-wheels-{number}.txt"), requirements(some, hash)));
        let files: Vec<_> = files.collect();
        let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        Script { files, ..Script::new(include_str!("pip/fetch.sh"), names) }
    }

    /// As the wheel is called ("File name convention" of the specification of wheels), with the name as it is compared.
    fn file_name(&self, pin: &Pin) -> String {
        let version: String = pin.version.chars().filter(|character| is_of_version(*character)).collect();
        let tags = pin.architecture.as_deref().unwrap_or("py3-none-any");
        let tags: String = tags.chars().filter(|character| is_of_tags(*character)).collect();
        format!("{}-{version}-{tags}.whl", normal(&pin.name))
    }

    fn version(&self, wanted: &[String], pins: &[Pin]) -> Option<String> {
        let wanted = requirement(wanted.first()?);
        let name = wanted.split(['[', '=', '<', '>', '!', '~']).next().map(normal)?;
        pins.iter().find(|pin| normal(&pin.name) == name).map(|pin| pin.version.clone())
    }

    fn install(&self, _wanted: &[String], pins: &[Pin]) -> Script {
        let files = vec![(
            "pip-pinned.txt".to_owned(),
            requirements(pins, |pin| sha256(pin).map(option).unwrap_or_default()),
        )];
        Script { files, ..Script::new(include_str!("pip/install.sh"), [] as [&str; 0]) }
    }
}

/// "Installation Report" of pip's documentation, as far as it is of use here.
#[derive(Deserialize)]
struct Report {
    install: Vec<Installed>,
}

#[derive(Deserialize)]
struct Installed {
    download_info: DownloadInfo,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct DownloadInfo {
    url: String,
    #[serde(default)]
    archive_info: ArchiveInfo,
}

#[derive(Default, Deserialize)]
struct ArchiveInfo {
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

impl Installed {
    fn pin(&self) -> Result<Pin, ClientError> {
        let malformed =
            || ClientError::malformed(self.download_info.url.as_bytes(), "the address of a wheel");
        let path = self.download_info.url.split(['#', '?']).next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        // What a URL quotes and a version has.
        let file = file.replace("%2B", "+").replace("%2b", "+").replace("%21", "!");
        let stem = file.strip_suffix(".whl").ok_or_else(malformed)?;
        let (named, rest) = stem.split_once('-').ok_or_else(malformed)?;
        let (version, tags) = rest.split_once('-').ok_or_else(malformed)?;
        // Python, ABI and platform, and before them perhaps the number of a build.
        let fits = is_name(&self.metadata.name)
            && normal(named) == normal(&self.metadata.name)
            && is_version(version)
            && matches!(tags.split('-').count(), 3 | 4)
            && tags.split('-').all(|tag| !tag.is_empty())
            && tags.chars().all(is_of_tags);
        if !fits {
            return Err(malformed());
        }
        let hash = self.download_info.archive_info.hashes.get("sha256");
        let hash = hash.map(|digits| format!("sha256:{digits}")).filter(|hash| Hash::parse(hash).is_some());
        Ok(Pin {
            manager: Installer::Package(PackageManager::Pip),
            owner: None,
            name: self.metadata.name.clone(),
            version: version.to_owned(),
            architecture: Some(tags.to_owned()),
            hash: hash.unwrap_or_default(),
            url: None,
        })
    }
}

/// What is wanted in pip's own words: of an agent it is `NAME@VERSION`.
fn requirement(wanted: &str) -> String {
    wanted.split_once('@').map_or_else(|| wanted.to_owned(), |(name, version)| format!("{name}=={version}"))
}

/// A requirements file for exactly these pins, each with what `more` says of it.
fn requirements(pins: &[Pin], more: impl Fn(&Pin) -> String) -> Vec<u8> {
    let pins = pins.iter().filter(|pin| is_name(&pin.name) && is_version(&pin.version));
    let lines = pins.map(|pin| format!("{}=={}{}\n", pin.name, pin.version, more(pin)));
    lines.collect::<String>().into_bytes()
}

fn option(digits: String) -> String {
    format!(" --hash=sha256:{digits}")
}

/// In hexadecimal digits.
fn sha256(pin: &Pin) -> Option<String> {
    let hash = Hash::parse(&pin.hash)?.to_string();
    hash.strip_prefix("sha256:").map(str::to_owned)
}

/// The name of a project as it is compared (PEP 503), with the underscores of file names.
fn normal(name: &str) -> String {
    let mut normal = String::new();
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if !normal.ends_with('_') => normal.push('_'),
            character if character.is_ascii_alphanumeric() => normal.push(character.to_ascii_lowercase()),
            _ => {}
        }
    }
    normal
}

/// PEP 508.
fn is_name(text: &str) -> bool {
    let ends = |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    text.len() <= 200
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.'))
}

/// PEP 440.
fn is_version(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(is_of_version)
}

fn is_of_version(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '+' | '!' | '_')
}

fn is_of_tags(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// As pip 23.0.1 prints it, shortened.
    fn report(name: &str, file: &str, hashes: &str) -> Vec<u8> {
        format!(
            r#"{{"version": "1", "pip_version": "23.0.1", "install": [{{
                "download_info": {{"url": "https://files.example.org/packages/3f/{file}", "archive_info": {{
                    "hash": "sha256={DIGITS}", "hashes": {{{hashes}}}}}}},
                "is_direct": false, "requested": true,
                "metadata": {{"metadata_version": "2.1", "name": "{name}", "version": "1.0"}}}}],
              "environment": {{"python_version": "3.11"}}}}"#
        )
        .into_bytes()
    }

    fn known() -> String {
        format!(r#""sha256": "{DIGITS}""#)
    }

    fn pin() -> Pin {
        let file = "PyYAML-6.0.4-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl";
        Pip.read(&report("PyYAML", file, &known())).unwrap().remove(0)
    }

    #[test]
    fn wheels_become_pins() {
        let pin = pin();
        assert_eq!((pin.name.as_str(), pin.version.as_str()), ("PyYAML", "6.0.4"));
        let tags = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64";
        assert_eq!(pin.architecture.as_deref(), Some(tags));
        assert_eq!(pin.hash, format!("sha256:{DIGITS}"));
        assert_eq!(Pip.file_name(&pin), format!("pyyaml-6.0.4-{tags}.whl"));

        let built =
            Pip.read(&report("a.b-c", "a_b.c-1.0%2Blocal-1build-py3-none-any.whl", &known())).unwrap();
        let [built] = built.as_slice() else { panic!("{built:?}") };
        assert_eq!(Pip.file_name(built), "a_b_c-1.0+local-1build-py3-none-any.whl");
        assert!(Pip.read(br#"{"version": "1", "install": []}"#).unwrap().is_empty());
    }

    #[test]
    fn a_hash_that_the_index_does_not_know_is_left_to_the_host() {
        let pins = Pip.read(&report("a", "a-1.0-py3-none-any.whl", r#""md5": "00""#)).unwrap();
        assert_eq!(pins.first().unwrap().hash, "");
        let (_, wheels) = Pip.fetch(&[pins[0].clone(), pin()]).files.remove(0);
        assert_eq!(String::from_utf8_lossy(&wheels), "a==1.0\nPyYAML==6.0.4\n");
        let many = Pip.fetch(&vec![pin(); WHEELS_AT_A_TIME + 1]);
        assert_eq!(many.arguments, ["pip-wheels-0.txt", "pip-wheels-1.txt"]);
    }

    #[test]
    fn what_pip_would_not_print_is_refused() {
        for (name, file) in [
            ("a", "a-1.0.tar.gz"),
            ("a", "a-1.0-py3-none.whl"),
            ("a", "a-1.0-1-2-py3-none-any.whl"),
            ("a", "b-1.0-py3-none-any.whl"),
            ("--index-url", "__index_url-1.0-py3-none-any.whl"),
            ("a", "a-1.0;id-py3-none-any.whl"),
            ("a", "a-..-py3-none-any.whl"),
            ("a", "a-1.0-py3-none-any%2f.whl"),
            ("a", "a-1.0-py3--any.whl"),
        ] {
            let error = Pip.read(&report(name, file, &known())).unwrap_err();
            assert!(error.to_string().ends_with("is not the address of a wheel"), "{file}: {error}");
        }
        for text in ["", "[]", "{}", r#"{"install": [{}]}"#] {
            assert!(Pip.read(text.as_bytes()).unwrap_err().to_string().ends_with("is not pip's report"));
        }
    }

    #[test]
    fn an_agent_is_asked_for_as_pip_asks() {
        let wanted = ["Py.YAML@6.0.4".to_owned()];
        assert_eq!(Pip.resolve(&wanted, &[]).arguments, ["--", "Py.YAML==6.0.4"]);
        assert_eq!(Pip.version(&["pyyaml[x]>=6,<7".to_owned()], &[pin()]).as_deref(), Some("6.0.4"));
        assert_eq!(Pip.version(&["other".to_owned()], &[pin()]), None);
    }

    #[test]
    fn only_pins_reach_a_requirements_file() {
        let option = Pin { name: "--extra-index-url".to_owned(), ..pin() };
        let path = Pin { version: "1.0 @ file:///etc".to_owned(), ..pin() };
        let pins = [pin(), option, path];
        let (_, pinned) = Pip.install(&[], &pins).files.remove(0);
        assert_eq!(String::from_utf8_lossy(&pinned), format!("PyYAML==6.0.4 --hash=sha256:{DIGITS}\n"));
        let (_, held) = Pip.resolve(&[], &pins).files.remove(0);
        assert_eq!(held, b"PyYAML==6.0.4\n");
        let name = Pip.file_name(&Pin {
            name: "../../x".to_owned(),
            version: "/1/..".to_owned(),
            architecture: Some("/../x".to_owned()),
            ..pin()
        });
        assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
    }
}
