//! `start` commands: those of every boot, run before anything else is.
//!
//! ```text
//! boot ── start.json written ──▶ Ready ── each command runs ──▶ start.json removed ──▶ commands of users
//!                                            └─ one failed: the sandbox stops
//! ```
//!
//! The file says what has still to be done, so nobody has to have seen how far a killed `sbx up` came: who finds it takes the lock
//! under which sandboxes are started, and does it.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    os::unix::net::UnixStream,
};

use sbx_manifest::Manifest;
use sbx_proto::{AgentReply, AgentRequest, ExecRequest, Exit, FrameError, read_frame, write_frame};
use serde::{Deserialize, Serialize};

use super::{
    control,
    directory::{SandboxDirectory, write_atomically},
};
use crate::{
    context::Context,
    error::{CommandError, Result},
    ui::printable,
};

/// How many of a failed command's last lines are shown.
const TAIL_LINES: usize = 12;

/// How much of a line is kept for that, in bytes.
const MAX_LINE_BYTES: usize = 1000;

/// As much output as is kept of all commands of a boot, in bytes.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// Milliseconds that the guest's processes get when a command failed, as from `sbx stop`.
const GRACE_MILLISECONDS: u32 = 10_000;

/// A command of every boot.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct StartCommand {
    /// For `sh`.
    command: String,
    /// Where the manifest says it, as `sandbox.kdl:12`.
    place: String,
}

/// Why the commands of a boot did not all run.
#[derive(Debug)]
pub(super) enum StartFault {
    /// One failed, or could not be run.
    Failed(CommandError),
    /// The sandbox ended first.
    Lost,
}

/// Writes down what the next boot of the sandbox in `directory` has to run.
pub(super) fn plan(manifest: &Manifest, directory: &SandboxDirectory) -> Result<()> {
    let source = &manifest.source;
    let commands: Vec<_> = manifest
        .settings
        .start
        .iter()
        .map(|start| StartCommand {
            command: start.command.value.clone(),
            place: format!("{}:{}", source.name(), source.line(start.span.offset)),
        })
        .collect();
    for path in [directory.start_plan(), directory.start_log()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(
                    CommandError::failed(format!("cannot remove {}", path.display())).with_source(error)
                );
            }
            _ => {}
        }
    }
    if commands.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(&commands)
        .map_err(|error| CommandError::failed("cannot encode the start commands").with_source(error))?;
    write_atomically(&directory.start_plan(), &text)
}

/// Whether something has still to be run in the sandbox in `directory`.
pub(super) fn is_pending(directory: &SandboxDirectory) -> bool {
    directory.start_plan().exists()
}

/// Runs what has still to be run in the sandbox in `directory`, which is up. The caller has the lock of its start.
pub(super) fn run(context: &Context, directory: &SandboxDirectory) -> std::result::Result<(), StartFault> {
    let done = run_all(context, directory);
    match &done {
        Ok(()) => {
            if let Err(error) = fs::remove_file(directory.start_plan())
                && error.kind() != io::ErrorKind::NotFound
            {
                let error =
                    CommandError::failed("cannot note that the start commands ran").with_source(error);
                return Err(StartFault::Failed(error));
            }
        }
        Err(StartFault::Failed(_)) => {
            control::stop(&directory.run(), GRACE_MILLISECONDS);
            let _ = directory.wait_until_dead();
        }
        Err(StartFault::Lost) => {}
    }
    done
}

fn run_all(context: &Context, directory: &SandboxDirectory) -> std::result::Result<(), StartFault> {
    let failed = |error: io::Error| {
        StartFault::Failed(CommandError::failed("cannot read the start commands").with_source(error))
    };
    let text = match fs::read(directory.start_plan()) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let commands: Vec<StartCommand> = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    let mut log = Log::create(directory).map_err(failed)?;
    for command in &commands {
        let connection = control::open_agent(&directory.run()).map_err(|_| StartFault::Lost)?;
        let end = run_one(connection, command, &mut log)?;
        if let Some(how) = failure(end) {
            return Err(StartFault::Failed(
                CommandError::failed(format!(
                    "`start` at {} {how}: {}",
                    command.place,
                    shown(&command.command)
                ))
                .with_lines("it ended with", log.tail())
                .with_hint("`sbx logs` has all of its output; the sandbox was stopped"),
            ));
        }
        context.ui.status("start", shown(&command.command));
    }
    Ok(())
}

/// Runs a command as the agent, without input, and returns how it ended.
fn run_one(
    mut connection: UnixStream,
    command: &StartCommand,
    log: &mut Log,
) -> std::result::Result<Exit, StartFault> {
    let request = ExecRequest {
        arguments: [&b"sh"[..], b"-c", command.command.as_bytes()].map(<[u8]>::to_vec).to_vec(),
        environment: Vec::new(),
        directory: None,
        user: None,
        terminal: None,
        stdin: false,
    };
    log.begin(command);
    write_frame(&mut connection, &AgentRequest::Exec(Box::new(request))).map_err(|_| StartFault::Lost)?;
    loop {
        match read_frame(&mut connection) {
            Ok(AgentReply::Stdout(bytes) | AgentReply::Stderr(bytes)) => log.write(&bytes),
            Ok(AgentReply::Exited(exit)) => return Ok(exit),
            Ok(AgentReply::Refused { message, .. }) => {
                return Err(StartFault::Failed(
                    CommandError::failed(format!("`start` at {} cannot be run", command.place))
                        .with_source(io::Error::other(printable(&message))),
                ));
            }
            Ok(AgentReply::Started { .. } | AgentReply::StdinWindow { .. } | AgentReply::StdinClosed) => {}
            Err(FrameError::Closed | FrameError::Io { .. }) => return Err(StartFault::Lost),
            Err(error) => {
                return Err(StartFault::Failed(
                    CommandError::failed("the guest's agent sent nonsense")
                        .with_source(io::Error::other(error.to_string())),
                ));
            }
        }
    }
}

/// How a command failed, if it did.
fn failure(end: Exit) -> Option<String> {
    match end {
        Exit::Code(0) => None,
        Exit::Code(code) => Some(format!("failed with exit code {code}")),
        Exit::Signal(signal) => Some(format!("died of signal {signal}")),
    }
}

/// A command on one line.
fn shown(command: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let mut lines = command.trim().lines();
    let first: String = lines.next().unwrap_or_default().chars().take(MAX_CHARACTERS).collect();
    let whole = first.len() == command.trim().len();
    printable(&if whole { first } else { format!("{first}…") })
}

/// What the commands of a boot wrote: in a file, and the last lines of the one that runs.
#[derive(Debug)]
struct Log {
    file: File,
    written: u64,
    last: VecDeque<Vec<u8>>,
    line: Vec<u8>,
}

impl Log {
    fn create(directory: &SandboxDirectory) -> io::Result<Self> {
        let file = File::create(directory.start_log())?;
        Ok(Self { file, written: 0, last: VecDeque::new(), line: Vec::new() })
    }

    fn begin(&mut self, command: &StartCommand) {
        (self.last, self.line) = (VecDeque::new(), Vec::new());
        self.keep(format!("start at {}: {}\n", command.place, shown(&command.command)).as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        for byte in bytes {
            if *byte == b'\n' {
                if self.last.len() == TAIL_LINES {
                    self.last.pop_front();
                }
                self.last.push_back(std::mem::take(&mut self.line));
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(*byte);
            }
        }
    }

    /// A log that cannot be written is no reason to stop: it is there for people.
    fn keep(&mut self, bytes: &[u8]) {
        let left = usize::try_from(MAX_LOG_BYTES.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..left.min(bytes.len())).unwrap_or_default();
        self.written = self.written.saturating_add(bytes.len() as u64);
        let _ = self.file.write_all(bytes);
    }

    fn tail(&self) -> Vec<String> {
        let rest = (!self.line.is_empty()).then_some(&self.line);
        let lines = self.last.iter().chain(rest);
        lines.map(|line| printable(&String::from_utf8_lossy(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_the_log_is_bounded() {
        let parent = tempfile::tempdir().unwrap();
        let directory = SandboxDirectory::new(parent.path().join("x"));
        directory.create().unwrap();
        let mut log = Log::create(&directory).unwrap();
        log.begin(&StartCommand { command: "make\nall".to_owned(), place: "sandbox.kdl:3".to_owned() });
        for number in 0..100 {
            log.write(format!("line {number}\nunfi").as_bytes());
        }
        log.write(&[b'x'; 3000]);
        let tail = log.tail();
        assert_eq!(tail.len(), TAIL_LINES + 1);
        assert_eq!(tail[TAIL_LINES - 1], "unfiline 99");
        assert_eq!(tail[TAIL_LINES].len(), MAX_LINE_BYTES);
        for _ in 0..10 {
            log.write(&vec![b'y'; 1 << 20]);
        }
        let text = fs::read(directory.start_log()).unwrap();
        assert_eq!(text.len() as u64, MAX_LOG_BYTES);
        assert!(text.starts_with(b"start at sandbox.kdl:3: make\xe2\x80\xa6\nline 0\n"));
    }
}
