//! Programs in a throw-away machine: their output comes back line by line, and is kept.

use std::{
    fs::File,
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sbx_proto::{AgentReply, AgentRequest, ExecRequest, Exit, read_frame, write_frame};

use super::{
    client::{IN, Script},
    machine::Machine,
};
use crate::{
    error::{CommandError, Result},
    sandbox::control,
    ui::printable,
};

/// Bytes of standard output that are kept for who reads it; a package manager's answer has less than a tenth.
const MAX_OUTPUT_BYTES: usize = 32 << 20;

/// Bytes of one line that are passed on.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Lines that an error shows.
const TAIL_LINES: usize = 20;

/// Bytes of a log that are kept: one that a guest fills has an end.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// How a program is run.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// `None` is the machine's user.
    pub(super) user: Option<&'static str>,
    /// The directory that it starts in.
    pub(super) directory: &'static str,
    /// Variables besides the machine's.
    pub(super) environment: Vec<(String, String)>,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
}

impl Order {
    /// As root, in the root directory.
    pub(super) fn root() -> Self {
        Self { user: Some("root"), directory: "/", environment: Vec::new(), timeout: None }
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct End {
    /// Its exit.
    pub(super) exit: Exit,
    /// Whether it ended because its time was over.
    pub(super) timed_out: bool,
    /// What it wrote to its standard output.
    pub(super) output: Vec<u8>,
    /// Its last lines.
    pub(super) tail: Vec<String>,
}

impl End {
    /// Whether it ended well.
    pub(super) fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0) && !self.timed_out
    }

    /// How it ended, in words: `it exited with 100`.
    pub(super) fn words(&self) -> String {
        match self.exit {
            _ if self.timed_out => "it took longer than its timeout".to_owned(),
            Exit::Code(code) => format!("it exited with {code}"),
            Exit::Signal(signal) => format!("it was ended by signal {signal}"),
        }
    }
}

/// Where the output of a step's programs is kept.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    begun: bool,
    file: Option<File>,
    left: u64,
}

impl Log {
    /// A log at `path`, once a program begins.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, begun: false, file: None, left: MAX_LOG_BYTES }
    }

    /// The file takes the place of an earlier one when the first program begins: whoever waits for another sbx that takes the
    /// same step leaves its log alone. One that cannot be written stops nothing.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let directory = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        match directory.and_then(|()| File::create(&self.path)) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot keep the output of a step");
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.left {
            self.file = None;
        }
        self.left = self.left.saturating_sub(length);
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_err()
        {
            self.file = None;
        }
    }
}

/// Runs `script` in `machine`, and gives each line of its output to `show`.
///
/// # Errors
/// If it cannot be started, or the machine ends before it does; not if it fails.
pub(super) fn run(
    machine: &Machine,
    script: &Script,
    order: &Order,
    log: &mut Log,
    show: &mut dyn FnMut(&str),
) -> Result<End> {
    log.begin();
    let name = format!("{}.sh", machine.next_number());
    machine.give(&name, script.text.as_bytes())?;
    for (name, content) in &script.files {
        machine.give(name, content)?;
    }
    let mut arguments = vec![b"sh".to_vec(), format!("{IN}/{name}").into_bytes()];
    arguments.extend(script.arguments.iter().map(|argument| argument.clone().into_bytes()));
    let environment = order.environment.iter().chain(&script.environment);
    let request = ExecRequest {
        arguments,
        environment: environment.map(|(name, value)| (name.clone().into(), value.clone().into())).collect(),
        directory: Some(order.directory.into()),
        user: order.user.map(str::to_owned),
        terminal: None,
        stdin: false,
    };
    let mut connection = control::open_agent(&machine.directory().run())?;
    let lost = |error: sbx_proto::FrameError| {
        CommandError::failed("the machine that builds the snapshot ended")
            .with_source(io::Error::other(error))
    };
    write_frame(&mut connection, &AgentRequest::Exec(Box::new(request))).map_err(lost)?;
    let timer = order.timeout.map(|timeout| Timer::start(&connection, timeout)).transpose()?;
    let mut output = Output::new(log, show);
    loop {
        match read_frame(&mut connection) {
            Ok(AgentReply::Stdout(bytes)) => output.standard(&bytes),
            Ok(AgentReply::Stderr(bytes)) => output.error(&bytes),
            Ok(AgentReply::Exited(exit)) => return Ok(output.end(exit, false)),
            Ok(AgentReply::Refused { message, .. }) => {
                return Err(CommandError::failed(printable(&message))
                    .with_hint("packages and setup commands need an image with a shell"));
            }
            Ok(AgentReply::Started { .. } | AgentReply::StdinWindow { .. } | AgentReply::StdinClosed) => {}
            Err(_) if timer.as_ref().is_some_and(Timer::is_over) => {
                return Ok(output.end(Exit::Signal(9), true));
            }
            Err(error) => return Err(lost(error)),
        }
    }
}

/// Cuts a connection when its time is over, which ends the command at its other end.
#[derive(Debug)]
struct Timer {
    over: Arc<AtomicBool>,
    _cancel: std::sync::mpsc::Sender<()>,
}

impl Timer {
    fn start(connection: &UnixStream, timeout: Duration) -> Result<Self> {
        let connection = connection
            .try_clone()
            .map_err(|error| CommandError::failed("cannot watch the time").with_source(error))?;
        let over = Arc::new(AtomicBool::new(false));
        let (cancel, cancelled) = std::sync::mpsc::channel::<()>();
        let noted = Arc::clone(&over);
        thread::spawn(move || {
            if cancelled.recv_timeout(timeout) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                noted.store(true, Ordering::SeqCst);
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
        Ok(Self { over, _cancel: cancel })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// What a program writes, on its way to the log, the terminal and who asked.
struct Output<'o> {
    log: &'o mut Log,
    show: &'o mut dyn FnMut(&str),
    kept: Vec<u8>,
    lines: [Vec<u8>; 2],
    tail: std::collections::VecDeque<String>,
}

impl<'o> Output<'o> {
    fn new(log: &'o mut Log, show: &'o mut dyn FnMut(&str)) -> Self {
        Self {
            log,
            show,
            kept: Vec::new(),
            lines: [Vec::new(), Vec::new()],
            tail: std::collections::VecDeque::new(),
        }
    }

    fn standard(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT_BYTES.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.take(bytes, 0);
    }

    fn error(&mut self, bytes: &[u8]) {
        self.take(bytes, 1);
    }

    fn take(&mut self, bytes: &[u8], stream: usize) {
        self.log.write(bytes);
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let Some(line) = self.lines.get_mut(stream) else { return };
            let room = MAX_LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.ends_with(b"\n") || piece.ends_with(b"\r") {
                let line = std::mem::take(line);
                self.line(&line);
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let text = printable(String::from_utf8_lossy(line).trim_end());
        if text.trim().is_empty() {
            return;
        }
        (self.show)(&text);
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }

    fn end(mut self, exit: Exit, timed_out: bool) -> End {
        for stream in [0, 1] {
            let rest = self.lines.get_mut(stream).map(std::mem::take).unwrap_or_default();
            self.line(&rest);
        }
        End { exit, timed_out, output: self.kept, tail: self.tail.into() }
    }
}
