//! cargo: programs of Rust, built in the machine from what their own Cargo.lock names.

mod lockfile;

use std::collections::BTreeSet;

use sbx_manifest::{
    lock::{Installer, Pin},
    model::PackageManager,
};

use self::lockfile::{is_name, is_version};
use crate::provision::{
    client::{Client, ClientError, END, Script},
    hash::is_sha256,
};

/// Before the Cargo.lock of a tool: `sbx-tool NAME VERSION SHA256`.
const TOOL: &str = "sbx-tool ";

/// Asks cargo for programs. The owner of a pin is the program that it is for; one that is its own owner is the program.
#[derive(Debug)]
pub(in crate::provision) struct Cargo;

impl Client for Cargo {
    fn installer(&self) -> Installer {
        Installer::Package(PackageManager::Cargo)
    }

    fn resolve(&self, wanted: &[String], held: &[Pin]) -> Script {
        let argument = |wanted: &String| {
            let (name, version) = split(wanted);
            let held =
                held.iter().find(|pin| is_tool(pin) && pin.name == name).map(|pin| pin.version.as_str());
            match held.filter(|held| is_version(held)).or(version) {
                Some(version) => format!("{name}={version}"),
                None => name.to_owned(),
            }
        };
        Script::new(include_str!("cargo/resolve.sh"), wanted.iter().map(argument))
    }

    fn read(&self, output: &[u8]) -> Result<Vec<Pin>, ClientError> {
        let text = std::str::from_utf8(output).map_err(|_| ClientError::malformed(output, "text"))?;
        let mut pins = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let malformed = || ClientError::malformed(line.as_bytes(), "a program with its version");
            let words: Vec<&str> = line.strip_prefix(TOOL).ok_or_else(malformed)?.split(' ').collect();
            let [name, version, checksum] = words.as_slice() else { return Err(malformed()) };
            if !is_name(name) || !is_version(version) || !is_sha256(checksum) {
                return Err(malformed());
            }
            let mut ended = false;
            let lock = lines.by_ref().take_while(|line| {
                ended = *line == END;
                !ended
            });
            let archives = lockfile::read(name, lock)?;
            if !ended {
                return Err(ClientError::Missing { what: format!("all that {name} is built of") });
            }
            let own = ((*name).to_owned(), (*version).to_owned(), (*checksum).to_owned());
            pins.extend([own].into_iter().chain(archives).map(|archive| pin(name, archive)));
            if pins.len() > ClientError::MAX_PINS {
                return Err(ClientError::TooMany { limit: ClientError::MAX_PINS });
            }
        }
        Ok(pins)
    }

    fn fetch(&self, pins: &[Pin]) -> Script {
        let mut lines: Vec<String> = Vec::new();
        // Tools first: they bring the others with them.
        for kind in ["tool", "crate"] {
            let pins = pins.iter().filter(|pin| is_archive(pin) && is_tool(pin) == (kind == "tool"));
            for pin in pins {
                let line = format!("{} {} {kind}\n", pin.name, pin.version);
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        let files = vec![("cargo-wanted".to_owned(), lines.concat().into_bytes())];
        Script { files, ..Script::new(include_str!("cargo/fetch.sh"), [] as [&str; 0]) }
    }

    fn file_name(&self, pin: &Pin) -> String {
        let identity = if is_archive(pin) { identity(pin) } else { String::new() };
        format!("{identity}.crate")
    }

    fn version(&self, wanted: &[String], pins: &[Pin]) -> Option<String> {
        program(wanted.first()?, pins).map(|pin| pin.version.clone())
    }

    fn install(&self, wanted: &[String], pins: &[Pin]) -> Script {
        let lines = pins.iter().filter(|pin| is_archive(pin)).filter_map(|pin| {
            let checksum = pin.hash.strip_prefix("sha256:").filter(|checksum| is_sha256(checksum))?;
            Some(format!("{} {checksum}\n", identity(pin)))
        });
        // Two programs can be built of the same package.
        let lines: BTreeSet<String> = lines.collect();
        let files = vec![("cargo-crates".to_owned(), lines.into_iter().collect::<String>().into_bytes())];
        let tools = wanted
            .iter()
            .filter_map(|wanted| program(wanted, pins).filter(|pin| is_archive(pin)).map(identity));
        Script { files, ..Script::new(include_str!("cargo/install.sh"), tools) }
    }
}

fn pin(owner: &str, (name, version, checksum): lockfile::Archive) -> Pin {
    Pin {
        manager: Installer::Package(PackageManager::Cargo),
        owner: Some(owner.to_owned()),
        name,
        version,
        architecture: None,
        hash: format!("sha256:{checksum}"),
        url: None,
    }
}

/// Name and version of what is wanted: `just@1.36.0` and `just`.
fn split(wanted: &str) -> (&str, Option<&str>) {
    wanted.split_once('@').map_or((wanted, None), |(name, version)| (name, Some(version)))
}

/// The pin of a program. All of an agent's have one owner, the agent.
fn program<'p>(wanted: &str, pins: &'p [Pin]) -> Option<&'p Pin> {
    let (name, _) = split(wanted);
    let mut named = pins.iter().filter(|pin| pin.name == name);
    named.clone().find(|pin| is_tool(pin)).or_else(|| named.next())
}

fn is_tool(pin: &Pin) -> bool {
    pin.owner.as_ref() == Some(&pin.name)
}

fn is_archive(pin: &Pin) -> bool {
    is_name(&pin.name) && is_version(&pin.version)
}

/// As the archive and the directory in it are called.
fn identity(pin: &Pin) -> String {
    format!("{}-{}", pin.name, pin.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn output(tool: &str) -> String {
        format!(
            "sbx-tool {tool} {SUM}\nversion = 4\n\n[[package]]\nname = \"just\"\nversion = \"1.36.0\"\n\n[[package]]\n\
             name = \"libc\"\nversion = \"0.2.1\"\nsource = \"registry+https://index.example.org/\"\n\
             checksum = \"{SUM}\"\n\nsbx-end\n"
        )
    }

    fn pins() -> Vec<Pin> {
        let both = [output("just 1.36.0"), output("fd 10.0.0").replace("\"just\"", "\"fd\"")].concat();
        Cargo.read(both.as_bytes()).unwrap()
    }

    #[test]
    fn each_program_has_the_pins_that_it_is_built_of() {
        let owned =
            |pin: &Pin| format!("{} {} {}", pin.owner.as_deref().unwrap_or_default(), pin.name, pin.version);
        let seen: Vec<String> = pins().iter().map(owned).collect();
        assert_eq!(seen, ["just just 1.36.0", "just libc 0.2.1", "fd fd 10.0.0", "fd libc 0.2.1"]);
        assert_eq!(Cargo.file_name(&pins()[1]), "libc-0.2.1.crate");
    }

    #[test]
    fn programs_come_first_and_everything_once() {
        let (_, wanted) = Cargo.fetch(&pins()).files.remove(0);
        assert_eq!(String::from_utf8_lossy(&wanted), "just 1.36.0 tool\nfd 10.0.0 tool\nlibc 0.2.1 crate\n");
        let script = Cargo.install(&["just@1.36".to_owned(), "fd".to_owned()], &pins());
        assert_eq!(script.arguments, ["just-1.36.0", "fd-10.0.0"]);
        let agents = pins().into_iter().map(|pin| Pin { owner: Some("agent:just".to_owned()), ..pin });
        let agents: Vec<Pin> = agents.collect();
        assert_eq!(Cargo.install(&["just".to_owned()], &agents).arguments, ["just-1.36.0"]);
        assert_eq!(Cargo.version(&["just@1".to_owned()], &agents).as_deref(), Some("1.36.0"));
        let (_, crates) = script.files.first().unwrap();
        assert_eq!(
            String::from_utf8_lossy(crates),
            format!("fd-10.0.0 {SUM}\njust-1.36.0 {SUM}\nlibc-0.2.1 {SUM}\n")
        );
    }

    #[test]
    fn versions_are_held() {
        let wanted = ["just".to_owned(), "hexyl@0.16".to_owned(), "libc".to_owned()];
        assert_eq!(Cargo.resolve(&wanted, &pins()).arguments, ["just=1.36.0", "hexyl=0.16", "libc"]);
    }

    #[test]
    fn what_the_script_would_not_print_is_refused() {
        for tool in ["../just 1.36.0", "just 1.36.0 more", "just", "-- 1", "just ../1"] {
            let error = Cargo.read(output(tool).as_bytes()).unwrap_err();
            assert!(matches!(error, ClientError::Malformed { .. }), "{tool}: {error}");
        }
        let cut = output("just 1.36.0").replace("sbx-end\n", "");
        assert_eq!(
            Cargo.read(cut.as_bytes()).unwrap_err().to_string(),
            "it said nothing about all that just is built of"
        );
        assert!(Cargo.read(b"[[package]]\n").is_err() && Cargo.read(b"\xff").is_err());
        let hostile = Pin { name: "../../x".to_owned(), ..pins()[0].clone() };
        assert_eq!(Cargo.file_name(&hostile), ".crate");
        assert_eq!(Cargo.fetch(&[hostile]).files[0].1, b"");
    }
}
