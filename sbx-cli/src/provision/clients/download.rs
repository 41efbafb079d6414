//! Programs that their vendors publish as archives, in no package registry.

use sbx_manifest::{
    lock::{Installer, Pin},
    model::{Archive, Download as Described},
};

use super::agent_directory;
use crate::provision::client::{Client, ClientError, Script};

/// Before the processor and the C library in what `resolve.sh` prints.
const PLATFORM: &str = "sbx-platform ";

/// Downloads the file of an agent.
#[derive(Debug)]
pub(in crate::provision) struct Download {
    agent: String,
    described: Described,
    /// The version that is wanted; without it the newest.
    version: Option<String>,
}

impl Download {
    /// Of an agent.
    pub(in crate::provision) fn of_agent(agent: &str, described: Described, version: Option<String>) -> Self {
        Self { agent: agent.to_owned(), described, version }
    }

    fn pin(&self, version: &str, machine: &str, musl: bool) -> Pin {
        Pin {
            manager: Installer::Download,
            owner: None,
            name: self.agent.clone(),
            version: version.to_owned(),
            architecture: Some(if musl { format!("{machine}-musl") } else { machine.to_owned() }),
            hash: String::new(),
            url: Some(self.described.location(version, machine, musl)),
        }
    }

    /// The address of a pin, as this agent's definition has it: a lock could name any other.
    fn location(&self, pin: &Pin) -> Option<String> {
        let architecture = pin.architecture.as_deref()?;
        let (machine, musl) = match architecture.strip_suffix("-musl") {
            Some(machine) => (machine, true),
            None => (architecture, false),
        };
        (is_word(&pin.version) && is_word(machine))
            .then(|| self.described.location(&pin.version, machine, musl))
    }

    fn script(text: &'static str, arguments: Vec<String>) -> Script {
        let files = vec![("download-get.sh".to_owned(), include_bytes!("download/get.sh").to_vec())];
        Script { files, ..Script::new(text, arguments) }
    }
}

impl Client for Download {
    fn installer(&self) -> Installer {
        Installer::Download
    }

    fn resolve(&self, _wanted: &[String], _held: &[Pin]) -> Script {
        let latest = self.described.latest.as_ref().filter(|_| self.version.is_none());
        Self::script(
            include_str!("download/resolve.sh"),
            latest.map(|url| url.value.clone()).into_iter().collect(),
        )
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let malformed = |line: &[u8]| ClientError::malformed(line, "a processor and a C library");
        let text = std::str::from_utf8(output).map_err(|_| malformed(output))?;
        let (line, answer) = text.split_once('\n').unwrap_or((text, ""));
        let platform = line.strip_prefix(PLATFORM).and_then(|platform| platform.split_once(' '));
        let Some((machine, libc)) = platform else { return Err(malformed(line.as_bytes())) };
        if !is_word(machine) || !matches!(libc, "glibc" | "musl") {
            return Err(malformed(line.as_bytes()));
        }
        let version = match &self.version {
            Some(version) => version.clone(),
            None => newest(answer).ok_or_else(|| ClientError::Missing {
                what: format!("the newest version of {}", self.agent),
            })?,
        };
        if !is_word(&version) {
            return Err(ClientError::malformed(version.as_bytes(), "a version"));
        }
        Ok(vec![self.pin(&version, machine, libc == "musl")])
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let pairs = pins.iter().filter_map(|pin| Some([self.location(pin)?, self.file_name(pin)]));
        Self::script(include_str!("download/fetch.sh"), pairs.flatten().collect())
    }

    fn file_name(&self, pin: &Pin) -> String {
        let safe = |character: char| if is_of_word(character) { character } else { '-' };
        let name: String = format!("download-{}-{}", pin.name, pin.version).chars().map(safe).collect();
        name
    }

    fn wants_inflated(&self) -> bool {
        self.described.archive == Archive::TarGz
    }

    fn hosts(&self) -> Vec<String> {
        let urls = [Some(&self.described.url), self.described.latest.as_ref()].into_iter().flatten();
        let mut hosts: Vec<String> = urls.filter_map(|url| host_of(&url.value)).map(str::to_owned).collect();
        hosts.dedup();
        hosts
    }

    fn version(&self, _wanted: &[String], pins: &[Pin]) -> Option<String> {
        pins.first().map(|pin| pin.version.clone())
    }

    fn install(&self, _wanted: &[String], pins: &[Pin]) -> Script {
        let file = pins.first().map(|pin| self.file_name(pin)).unwrap_or_default();
        let archive = match self.described.archive {
            Archive::TarGz => "tar.gz",
            Archive::Zip => "zip",
            Archive::None => "none",
        };
        let mut arguments = vec![agent_directory(&self.agent), file, archive.to_owned()];
        for program in &self.described.programs {
            let name = &program.name.value;
            let path = program.path.as_ref().map_or(name, |path| &path.value);
            arguments.extend([name.clone(), path.clone()]);
        }
        Script::new(include_str!("download/install.sh"), arguments)
    }
}

/// A version alone, or the `version` of a JSON object.
fn newest(answer: &str) -> Option<String> {
    let object: Option<serde_json::Value> = serde_json::from_str(answer).ok();
    match object.as_ref().and_then(|object| object.get("version")?.as_str()) {
        Some(version) => Some(version.to_owned()),
        None => Some(answer.trim().to_owned()).filter(|version| is_word(version)),
    }
}

fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.rsplit_once(':').map_or(Some(authority), |(host, _)| Some(host))
}

/// What can stand in an address and in a file name without meaning anything else.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !text.contains("..")
        && text.chars().all(is_of_word)
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '+' | '-')
}

#[cfg(test)]
mod tests {
    use sbx_manifest::Catalogue;

    use super::*;

    /// What the manifest's language says of an agent is read as it is there.
    fn download(version: Option<&str>) -> Download {
        let text = r#"agent "acme" {
            install url="https://downloads.example.org/{version}/acme-{architecture}{musl}.tar.gz" \
                latest="https://versions.example.org/acme" archive="tar.gz" {
                program "acme" path="acme/bin/acme"
                program "acme-chat" path="acme/bin/chat"
            }
            command "acme"
        }"#;
        let mut catalogue = Catalogue::default();
        catalogue.add("acme", "acme.kdl", text.as_bytes().to_vec());
        let definition = catalogue.get("acme").unwrap().unwrap();
        let sbx_manifest::model::InstallFrom::Download(described) = definition.install.unwrap().from else {
            panic!("a package")
        };
        Download::of_agent("acme", described, version.map(str::to_owned))
    }

    #[test]
    fn the_newest_version_is_asked_for_unless_one_is_wanted() {
        let newest = download(None);
        assert_eq!(newest.resolve(&[], &[]).arguments, ["https://versions.example.org/acme"]);
        for answer in ["2.1.0\n", r#"{"version": "2.1.0", "packages": []}"#] {
            let pins = newest.read(format!("sbx-platform x86_64 glibc\n{answer}").as_bytes()).unwrap();
            let [pin] = pins.as_slice() else { panic!("{pins:?}") };
            assert_eq!(pin.url.as_deref(), Some("https://downloads.example.org/2.1.0/acme-x86_64.tar.gz"));
            assert_eq!((pin.hash.as_str(), newest.file_name(pin).as_str()), ("", "download-acme-2.1.0"));
        }
        let wanted = download(Some("1.0"));
        assert!(wanted.resolve(&[], &[]).arguments.is_empty());
        let pins = wanted.read(b"sbx-platform aarch64 musl\n").unwrap();
        assert_eq!(wanted.version(&[], &pins).as_deref(), Some("1.0"));
        let address = "https://downloads.example.org/1.0/acme-aarch64-musl.tar.gz";
        assert_eq!(wanted.fetch(&pins).arguments, [address, "download-acme-1.0"]);
        assert_eq!(wanted.hosts(), ["downloads.example.org", "versions.example.org"]);
    }

    #[test]
    fn a_lock_cannot_name_another_address() {
        let client = download(None);
        let pin = client.read(b"sbx-platform x86_64 glibc\n2.1.0\n").unwrap().remove(0);
        let other = Pin { url: Some("https://evil.example.org/acme.tar.gz".to_owned()), ..pin.clone() };
        assert_eq!(client.fetch(&[other]).arguments, client.fetch(std::slice::from_ref(&pin)).arguments);
        for version in ["../../x", "2@evil.example.org/", "2?", "2 3", "", "-o"] {
            let hostile = Pin { version: version.to_owned(), ..pin.clone() };
            assert!(client.fetch(std::slice::from_ref(&hostile)).arguments.is_empty(), "{version}");
            let name = client.file_name(&hostile);
            assert!(!name.contains(['/', ' ']) && name.starts_with("download-"), "{name}");
        }
    }

    #[test]
    fn what_a_vendor_would_not_say_is_refused() {
        let client = download(None);
        for answer in
            ["", "<html>404</html>", r#"{"version": 2}"#, r#"{"version": "../x"}"#, "a b", "--output=x"]
        {
            let output = format!("sbx-platform x86_64 glibc\n{answer}");
            assert!(client.read(output.as_bytes()).is_err(), "{answer}");
        }
        for platform in ["", "sbx-platform x86_64", "sbx-platform ../x glibc", "sbx-platform x86_64 uclibc"] {
            assert!(client.read(format!("{platform}\n2.1.0\n").as_bytes()).is_err(), "{platform}");
        }
    }

    #[test]
    fn programs_are_linked_from_the_archive() {
        let client = download(Some("1.0"));
        let pins = client.read(b"sbx-platform x86_64 glibc\n").unwrap();
        let words = [
            "/opt/sbx/agents/acme",
            "download-acme-1.0",
            "tar.gz",
            "acme",
            "acme/bin/acme",
            "acme-chat",
            "acme/bin/chat",
        ];
        assert_eq!(client.install(&[], &pins).arguments, words);
    }
}
