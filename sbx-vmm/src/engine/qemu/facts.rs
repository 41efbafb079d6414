//! What a QEMU can do, for `sbx doctor` and for errors.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// More than any answer of QEMU, in bytes.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// The devices of which QEMU has the front end and we the rest.
const DEVICES: [&str; 4] =
    ["vhost-user-blk", "vhost-user-fs-device", "vhost-user-rng", "vhost-user-vsock-device"];

/// The machine type.
const MACHINE: &str = "microvm";

/// A version of QEMU.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Version {
    /// Before the first point.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// What is known of one QEMU.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Facts {
    /// The program.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Whether that is enough.
    pub recent: bool,
    /// Machine types and devices that it should have and does not, by QEMU's names.
    pub missing: Vec<String>,
}

/// Why nothing is known of it.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// It is not there.
    #[error(transparent)]
    Missing(#[from] crate::engine::ChooseError),
    /// It cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It answers something else than QEMU does.
    #[error("{program} does not say its version: {answer:?}")]
    Answer {
        /// The program.
        program: PathBuf,
        /// What it says, the beginning.
        answer: String,
    },
}

/// Asks the QEMU at `program`, or the one in PATH, what it is. Takes about a tenth of a second.
///
/// # Errors
/// If there is none, or it does not run.
pub fn inspect(program: Option<&Path>) -> Result<Facts, FactsError> {
    let program = super::find(program)?;
    let version = version(&program)?;
    let (machines, devices) = (ask(&program, ["-machine", "help"])?, ask(&program, ["-device", "help"])?);
    let mut missing = Vec::new();
    if !machines.lines().any(|line| line.split_whitespace().next() == Some(MACHINE)) {
        missing.push(MACHINE.to_owned());
    }
    let absent = DEVICES.into_iter().filter(|device| !devices.contains(&format!("name \"{device}\"")));
    missing.extend(absent.map(str::to_owned));
    Ok(Facts { program, version, recent: version >= super::OLDEST, missing })
}

/// The version of the QEMU at `program`.
///
/// # Errors
/// If it does not run, or is something else.
pub fn version(program: &Path) -> Result<Version, FactsError> {
    let answer = ask(program, ["--version"])?;
    parse(&answer).ok_or_else(|| FactsError::Answer {
        program: program.to_path_buf(),
        answer: answer.chars().take(80).collect(),
    })
}

/// The version in `QEMU emulator version 7.2.22 (Debian …)`.
fn parse(answer: &str) -> Option<Version> {
    let (_, rest) = answer.split_once("version ")?;
    let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
    Some(Version { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
}

fn ask(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, FactsError> {
    let failed = |source| FactsError::Run { program: program.to_path_buf(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut answer = Vec::new();
    let read = match child.stdout.take() {
        Some(output) => output.take(MAX_ANSWER_BYTES).read_to_end(&mut answer),
        None => Ok(0),
    };
    let _ = child.kill();
    child.wait().map_err(failed)?;
    read.map_err(failed)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c)";
        assert_eq!(parse(debian), Some(Version { major: 7, minor: 2 }));
        assert_eq!(parse("QEMU emulator version 10.0"), Some(Version { major: 10, minor: 0 }));
        assert!(Version { major: 10, minor: 0 } > Version { major: 7, minor: 2 });
        assert_eq!(parse("busybox v1.36"), None);
        assert_eq!(parse("version x.y"), None);
    }

    #[test]
    fn the_installed_one_has_all_that_is_needed() {
        let facts = inspect(None).unwrap();
        assert!(facts.recent && facts.missing.is_empty(), "{facts:?}");
    }

    #[test]
    fn another_program_is_not_taken_for_it() {
        let error = inspect(Some(Path::new("/bin/true"))).unwrap_err();
        assert!(
            matches!(&error, FactsError::Answer { answer, .. } if answer.starts_with("true (")),
            "{error}"
        );
    }
}
