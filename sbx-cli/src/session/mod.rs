//! One command in a running sandbox, seen from the terminal: its streams, its signals, its end.
//!
//! ```text
//! stdin ───▶ input thread ──Stdin───▶ ┐                  ┌ ──Stdout──▶ main thread ──▶ stdout
//! signals ─▶ signal thread ─Signal──▶ │ agent connection │ ──Stderr──▶            ──▶ stderr
//!                          ─Resize──▶ ┘                  └ ──Exited──▶ exit code
//! ```

mod input;
pub(crate) mod notice;
mod output;
mod signals;
mod terminal;

use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

use sbx_proto::{
    AgentReply, AgentRequest, ExecRequest, Exit, FrameError, RefusedKind, encode_frame, read_frame,
};

use self::{input::Window, output::Output, terminal::Terminal};
use crate::{
    error::{CommandError, Kind, Outcome, Result},
    ui::printable,
};

/// What a program is told about its terminal: which one it is, and whether it has more than 256 colours.
const TERMINAL_VARIABLES: [&str; 2] = ["TERM", "COLORTERM"];

/// What the user asked for, before the terminal is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Program and arguments; none for a login shell.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// `-e`.
    pub(crate) environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// `-w`.
    pub(crate) directory: Option<Vec<u8>>,
    /// `-u`.
    pub(crate) user: Option<String>,
    /// `-t`: a terminal even if this side has none.
    pub(crate) force_terminal: bool,
}

/// How a command ended, as far as its connection tells.
#[derive(Debug)]
pub(crate) enum End {
    /// With an exit code, or by the user's giving up on it.
    Over(Outcome),
    /// The connection ended first, which is the caller's to explain.
    Lost {
        /// Whether the command had been started.
        began: bool,
    },
}

/// The half of the agent connection that is written to, by two threads.
#[derive(Clone, Debug)]
struct Agent(Arc<Mutex<UnixStream>>);

impl Agent {
    /// Sends one frame. A failure is not reported: the reading half hears of it, and knows why.
    fn send(&self, request: &AgentRequest) {
        if let (Ok(bytes), Ok(mut stream)) = (encode_frame(request), self.0.lock()) {
            let _ = stream.write_all(&bytes);
        }
    }
}

/// Runs a command over `connection` to the agent, and returns when it or the connection ended.
///
/// # Errors
/// If the command could not be started, or its output could not be written.
pub(crate) fn run(connection: UnixStream, wishes: Wishes) -> Result<End> {
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let terminal = (interactive || wishes.force_terminal).then(Terminal::size_or_default);
    let mut environment = wishes.environment;
    for variable in TERMINAL_VARIABLES.iter().filter(|_| terminal.is_some()) {
        if let Some(value) = crate::environment::value(variable)
            && !environment.iter().any(|(name, _)| name == variable.as_bytes())
        {
            environment.push((variable.as_bytes().to_vec(), value.into_encoded_bytes()));
        }
    }
    let request = ExecRequest {
        arguments: wishes.arguments,
        environment,
        directory: wishes.directory,
        user: wishes.user,
        terminal,
        stdin: true,
    };
    let mut reader = connection
        .try_clone()
        .map_err(|error| CommandError::failed("cannot read from the sandbox").with_source(error))?;
    let agent = Agent(Arc::new(Mutex::new(connection)));
    agent.send(&AgentRequest::Exec(Box::new(request)));
    match read_frame(&mut reader) {
        Ok(AgentReply::Started { .. }) => {}
        Ok(AgentReply::Refused { kind, message }) => return Err(refused(kind, &message)),
        Ok(_) => return Err(out_of_turn()),
        Err(error) => return lost(&error, false),
    }
    let raw = interactive.then(Terminal::enter_raw).transpose()?;
    notice::set_raw(raw.is_some());
    let watcher = signals::watch(agent.clone(), raw.clone(), terminal.is_some())?;
    let window = Arc::new(Window::new());
    input::forward(agent.clone(), Arc::clone(&window));
    let result = pump(&mut reader, &agent, &window, &watcher);
    if let Some(raw) = raw {
        raw.restore();
    }
    notice::set_raw(false);
    result
}

/// Reads frames until the command ended.
fn pump(reader: &mut UnixStream, agent: &Agent, window: &Window, watcher: &signals::Watcher) -> Result<End> {
    let mut stdout = Output::stdout();
    let mut stderr = Output::stderr();
    loop {
        match read_frame(reader) {
            Ok(AgentReply::Stdout(bytes)) => {
                stdout.write(&bytes, agent)?;
                notice::written(&bytes);
            }
            Ok(AgentReply::Stderr(bytes)) => stderr.write(&bytes, agent)?,
            Ok(AgentReply::StdinWindow { bytes }) => window.grow(bytes),
            Ok(AgentReply::StdinClosed) => window.close(),
            Ok(AgentReply::Exited(exit)) => return Ok(End::Over(Outcome::Guest(exit))),
            Ok(AgentReply::Started { .. } | AgentReply::Refused { .. }) => {
                return Err(out_of_turn());
            }
            Err(_) if watcher.gave_up() => {
                return Ok(End::Over(Outcome::Guest(Exit::Signal(watcher.last_signal()))));
            }
            Err(error) => return lost(&error, true),
        }
    }
}

fn refused(kind: RefusedKind, message: &str) -> CommandError {
    let kind = match kind {
        RefusedKind::NotFound => Kind::NotFound,
        RefusedKind::NotExecutable => Kind::NotExecutable,
        RefusedKind::Failed => Kind::Failed,
    };
    CommandError::new(kind, printable(message))
}

fn out_of_turn() -> CommandError {
    CommandError::failed("the guest's agent answered out of turn")
}

/// A connection that ended is the caller's to explain; one that carried nonsense is not.
fn lost(error: &FrameError, began: bool) -> Result<End> {
    match error {
        FrameError::Closed | FrameError::Io { .. } => Ok(End::Lost { began }),
        FrameError::TooLong { .. } | FrameError::Malformed { .. } => {
            Err(CommandError::failed("the guest's agent sent nonsense")
                .with_source(io::Error::other(error.to_string())))
        }
    }
}
