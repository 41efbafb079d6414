//! Other programs: run quietly, and heard when they fail.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

use crate::cache;

/// How much of a failed program's output is repeated.
const LAST_LINES: usize = 25;

/// A program that did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    /// It could not be started.
    #[error("cannot run `{command}`")]
    NotStarted {
        /// The command line.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}){}", quoted(last_lines))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        last_lines: Vec<String>,
    },
    /// Its output could not be kept.
    #[error("cannot write the log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program whose output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), ProgramError> {
    let status = command.status().map_err(|source| not_started(command, source))?;
    ended(command, status, VecDeque::new())
}

/// Runs a program and gives back what it wrote to stdout; stderr is shown when it fails.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, ProgramError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| not_started(command, source))?;
    let lines: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let last = lines.iter().rev().take(LAST_LINES).rev().cloned().collect();
    ended(command, output.status, last)?;
    Ok(output.stdout)
}

/// Does this command line succeed? Says nothing either way.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Runs a program, keeps all it says in the file `log`, and calls `line` with each line of it.
pub(crate) fn logged(
    command: &mut Command,
    log: &Path,
    mut line: impl FnMut(&str),
) -> Result<(), ProgramError> {
    let log_failed = |source| ProgramError::Log { path: log.to_path_buf(), source };
    let mut file = File::create(log).map_err(log_failed)?;
    let (reader, writer) = io::pipe().map_err(log_failed)?;
    let errors = writer.try_clone().map_err(log_failed)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(|source| not_started(command, source))?;
    // The command keeps its ends of the pipe; the reader would wait for them forever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = VecDeque::new();
    for text in BufReader::new(reader).split(b'\n') {
        let text = text.map_err(log_failed)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(log_failed)?;
        let text = String::from_utf8_lossy(&text);
        line(&text);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.into_owned());
    }
    let status = child.wait().map_err(|source| not_started(command, source))?;
    ended(command, status, last)
}

/// cargo, in the checkout, as if it had been called by hand.
///
/// `cargo run` tells a program about its own package. Passed on, that would look like a change to build scripts that
/// watch such variables (ring's), and half of the dependencies would be compiled anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(cache::repository());
    command
}

/// Wraps a long-running program so that it dies with us, however we end.
///
/// `setpriv` (util-linux, part of every Debian) sets the parent-death signal, which needs `unsafe` from Rust. The
/// signal comes when the thread that spawned the program ends, so that must be the main thread.
pub(crate) fn dies_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn ended(command: &Command, status: ExitStatus, last: VecDeque<String>) -> Result<(), ProgramError> {
    if status.success() {
        return Ok(());
    }
    Err(ProgramError::Failed { command: shown(command), status, last_lines: last.into() })
}

fn not_started(command: &Command, source: io::Error) -> ProgramError {
    ProgramError::NotStarted { command: shown(command), source }
}

/// The command line as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn quoted(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_its_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut lines = 0;
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 100; echo broken >&2; exit 3"]);
        let error = logged(&mut command, &log, |_| lines += 1).unwrap_err().to_string();
        assert!(
            error.starts_with("`sh -c seq 1 100; echo broken >&2; exit 3` failed (exit status: 3)\n    77\n")
        );
        assert!(error.ends_with("\n    100\n    broken"), "{error}");
        assert_eq!(lines, 101);
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 101);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-of-ours")).unwrap_err();
        assert_eq!(error.to_string(), "cannot run `no-such-program-of-ours`");
    }
}
