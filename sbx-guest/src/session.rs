//! One running command and its connection to the host, in one loop over everything that may become ready.
//!
//! ```text
//!              Stdin ─▶ Input ─▶ pipe or terminal ─▶ command
//! host ◀─▶ connection                                   │ ended (eventfd of the reaper)
//!              Stdout, Stderr ◀─ Outbox ◀─ pipe or terminal
//! ```
//!
//! Nothing in the loop blocks, so a signal gets through while the command does not read its input and while the
//! host does not read the output. A full outbox stops reading from the command, which then blocks.
//!
//! **The end.** What the command wrote before it ended is always delivered. Processes that it left behind may hold
//! its output open for ever, so after its end the session goes on only until both outputs are closed, or nothing
//! came for [`QUIET`], or [`LINGER`] has passed while the host was reading. From then on the output of what was
//! left behind is read and dropped ([`Leftover::drain`]): a server started in the background neither blocks nor dies of
//! SIGPIPE because the command that started it is over.
//!
//! **The host hangs up** (its `sbx` was killed): so does the terminal; without one the command's process group gets
//! SIGHUP. Whoever wants to survive that uses `nohup`, as over ssh.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process_group};
use rustix::termios::tcgetpgrp;
use sbx_proto::{AgentReply, AgentRequest, Exit, FrameDecoder, FrameError, MAX_CHUNK_BYTES};

use crate::exec::{Running, Streams};
use crate::input::{Input, Overrun};
use crate::outbox::Outbox;
use crate::reap::{Child, Reaper};
use crate::terminal;

/// How long a silent output may stay open after the command ended. Long enough for a `tee` or a process substitution
/// to say its last words, short enough not to be noticed.
const QUIET: Duration = Duration::from_millis(100);

/// How long an output that others keep writing to is followed after the command ended.
const LINGER: Duration = Duration::from_secs(1);

/// How long the host may take to close the connection after the last frame.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running command, seen from its connection.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    connection: OwnedFd,
    reaper: &'a Reaper,
    child: Child,
    decoder: FrameDecoder,
    outbox: Outbox,
    input: Input,
    outputs: Vec<Output>,
    /// Our end of the terminal, for its size and its foreground process group.
    terminal: Option<OwnedFd>,
    ended: Option<Ended>,
    chunk: Vec<u8>,
}

/// Outputs that processes of an ended command still hold.
#[derive(Debug)]
pub(crate) struct Leftover {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    source: OwnedFd,
    is_stderr: bool,
}

/// The command is over; its output may not be.
#[derive(Clone, Copy, Debug)]
struct Ended {
    exit: Exit,
    quiet_since: Instant,
    linger_since: Instant,
}

/// Why a session ends before its command.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the host closed the connection")]
    HungUp,
    #[error("the connection failed")]
    Connection(#[from] Errno),
    #[error("the host sent something else than a request")]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Overrun(#[from] Overrun),
}

/// What [`Session::wait`] found.
#[derive(Debug, Default)]
struct Ready {
    connection: bool,
    ended: bool,
    input: bool,
    input_closed: bool,
    outputs: [bool; 2],
}

impl<'a> Session<'a> {
    /// Takes over a command that was just started, and the connection that asked for it.
    ///
    /// # Errors
    /// If the connection or terminal cannot be set up.
    pub(crate) fn new(connection: OwnedFd, running: Running, reaper: &'a Reaper) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&connection, true)?;
        let (input, outputs, terminal) = match running.streams {
            Streams::Terminal(controller) => {
                let input = Input::terminal(controller.try_clone()?);
                (input, vec![Output { source: controller.try_clone()?, is_stderr: false }], Some(controller))
            }
            Streams::Pipes { stdin, stdout, stderr } => {
                let outputs = vec![
                    Output { source: stdout, is_stderr: false },
                    Output { source: stderr, is_stderr: true },
                ];
                (Input::pipe(stdin), outputs, None)
            }
        };
        Ok(Self {
            connection,
            reaper,
            child: running.child,
            decoder: FrameDecoder::new(),
            outbox: Outbox::default(),
            input,
            outputs,
            terminal,
            ended: None,
            chunk: vec![0; MAX_CHUNK_BYTES],
        })
    }

    /// Serves the command to its end, and gives back what it left open.
    pub(crate) fn run(mut self) -> Leftover {
        if self.converse().is_err() {
            self.hang_up();
        }
        let mut outputs = self.outputs;
        // A terminal is gone with our last copy of it; a pipe would kill its writers.
        outputs.retain(|_| self.terminal.is_none());
        Leftover { outputs }
    }

    fn converse(&mut self) -> Result<(), Broken> {
        let pid = self.child.pid.as_raw_nonzero().get().cast_unsigned();
        self.outbox.push(&AgentReply::Started { pid })?;
        self.outbox.flush(&self.connection)?;
        let exit = loop {
            if let Some(exit) = self.finished() {
                break exit;
            }
            let ready = self.wait(self.timeout())?;
            if ready.connection {
                self.receive()?;
            }
            self.serve_command(&ready)?;
            self.outbox.flush(&self.connection)?;
        };
        self.outbox.push(&AgentReply::Exited(exit))?;
        self.say_goodbye()
    }

    /// The exit to report, once there is nothing more to wait for.
    fn finished(&self) -> Option<Exit> {
        let ended = self.ended?;
        let over = ended.quiet_since.elapsed() >= QUIET || ended.linger_since.elapsed() >= LINGER;
        (self.outputs.is_empty() || (over && !self.outbox.is_full())).then_some(ended.exit)
    }

    fn timeout(&self) -> Option<Duration> {
        let ended = self.ended.filter(|_| !self.outbox.is_full())?;
        let quiet = QUIET.saturating_sub(ended.quiet_since.elapsed());
        Some(quiet.min(LINGER.saturating_sub(ended.linger_since.elapsed())))
    }

    fn wait(&self, limit: Option<Duration>) -> Result<Ready, Errno> {
        let mut connection = PollFlags::IN;
        connection.set(PollFlags::OUT, !self.outbox.is_empty());
        let mut watched = vec![PollFd::new(&self.connection, connection)];
        if self.ended.is_none() {
            watched.push(PollFd::new(&*self.child.ended, PollFlags::IN));
        }
        let input = self.input.watched();
        if let Some((target, waiting)) = &input {
            watched.push(PollFd::new(target, if *waiting { PollFlags::OUT } else { PollFlags::empty() }));
        }
        if !self.outbox.is_full() {
            watched.extend(self.outputs.iter().map(|output| PollFd::new(&output.source, PollFlags::IN)));
        }
        poll_for(&mut watched, limit)?;

        let mut events = watched.iter().map(PollFd::revents);
        let connection = events.next().unwrap_or(PollFlags::empty());
        let mut ready = Ready { connection: !(connection - PollFlags::OUT).is_empty(), ..Ready::default() };
        if self.ended.is_none() {
            ready.ended = events.next().is_some_and(|events| !events.is_empty());
        }
        if input.is_some() {
            let events = events.next().unwrap_or(PollFlags::empty());
            ready.input = events.contains(PollFlags::OUT);
            ready.input_closed = events.intersects(PollFlags::ERR | PollFlags::HUP);
        }
        for (slot, events) in ready.outputs.iter_mut().zip(events) {
            *slot = !events.is_empty();
        }
        Ok(ready)
    }

    /// Reads from the host once, and does what it says.
    fn receive(&mut self) -> Result<(), Broken> {
        match rustix::io::read(&self.connection, &mut self.chunk) {
            Ok(0) => return Err(Broken::HungUp),
            Ok(count) => self.decoder.push(self.chunk.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(request) = self.decoder.next_frame()? {
            match request {
                // One command per connection; the host does not send a second.
                AgentRequest::Exec(_) | AgentRequest::Capture => return Err(Broken::HungUp),
                AgentRequest::Stdin(bytes) => self.input.push(&bytes)?,
                AgentRequest::StdinEnd => self.input.end(),
                AgentRequest::Resize(size) => {
                    if let Some(terminal) = &self.terminal {
                        let _ = terminal::resize(terminal, size);
                    }
                }
                AgentRequest::Signal(number) => self.signal(number),
            }
        }
        // What came may fit into the pipe as it is; waiting to be told so would be one round more.
        self.feed()
    }

    fn serve_command(&mut self, ready: &Ready) -> Result<(), Broken> {
        if ready.input {
            self.feed()?;
        }
        if ready.input_closed && self.input.close() {
            self.outbox.push(&AgentReply::StdinClosed)?;
        }
        // Before the outputs: what the command wrote is in them by now.
        if ready.ended {
            let now = Instant::now();
            self.ended = Some(Ended { exit: self.child.exit(), quiet_since: now, linger_since: now });
        }
        let mut index = 0;
        for ready in ready.outputs {
            if ready && !self.forward(index)? {
                self.outputs.remove(index);
            } else {
                index = index.saturating_add(1);
            }
        }
        if self.outbox.is_full() {
            // Time in which the host does not read does not count.
            let now = Instant::now();
            self.ended = self.ended.map(|ended| Ended { quiet_since: now, linger_since: now, ..ended });
        }
        Ok(())
    }

    fn feed(&mut self) -> Result<(), Broken> {
        if self.input.feed() {
            self.outbox.push(&AgentReply::StdinClosed)?;
        }
        if let Some(bytes) = self.input.take_grant() {
            self.outbox.push(&AgentReply::StdinWindow { bytes })?;
        }
        Ok(())
    }

    /// Moves one chunk of output; false if there will be no more.
    fn forward(&mut self, index: usize) -> Result<bool, FrameError> {
        let Some(output) = self.outputs.get(index) else { return Ok(true) };
        let count = match rustix::io::read(&output.source, &mut self.chunk) {
            Ok(count) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            // A terminal that nobody has open any more says EIO.
            _ => return Ok(false),
        };
        let bytes = self.chunk.get(..count).unwrap_or_default().to_vec();
        let reply = if output.is_stderr { AgentReply::Stderr(bytes) } else { AgentReply::Stdout(bytes) };
        self.outbox.push(&reply)?;
        if let Some(ended) = &mut self.ended {
            ended.quiet_since = Instant::now();
        }
        Ok(true)
    }

    fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        let foreground = self.terminal.as_ref().and_then(|terminal| tcgetpgrp(terminal).ok());
        match foreground {
            Some(group) if group != self.child.pid => {
                let _ = kill_process_group(group, signal);
            }
            _ => self.reaper.signal_group(self.child.pid, signal),
        }
    }

    fn hang_up(&self) {
        // Closing our end of a terminal does the same, and a second SIGHUP would interrupt the handler of the first.
        if self.terminal.is_none() {
            self.reaper.signal_group(self.child.pid, Signal::HUP);
            // Stopped processes get the hangup only when they run again.
            self.reaper.signal_group(self.child.pid, Signal::CONT);
        }
    }

    /// Writes what is left, and gives the host time to take it: when the machine powers off right after, what the
    /// host has not read is lost.
    fn say_goodbye(&mut self) -> Result<(), Broken> {
        while !self.outbox.is_empty() {
            self.outbox.flush(&self.connection)?;
            if !self.outbox.is_empty() {
                self.wait_for_host(None)?;
            }
        }
        rustix::net::shutdown(&self.connection, rustix::net::Shutdown::Write)?;
        let since = Instant::now();
        while since.elapsed() < FAREWELL {
            self.wait_for_host(Some(FAREWELL.saturating_sub(since.elapsed())))?;
        }
        Ok(())
    }

    /// Drops what the host still sends; [`Broken::HungUp`] when it has closed the connection.
    fn wait_for_host(&mut self, limit: Option<Duration>) -> Result<(), Broken> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.outbox.is_empty());
        let mut watched = [PollFd::new(&self.connection, flags)];
        poll_for(&mut watched, limit)?;
        match rustix::io::read(&self.connection, &mut self.chunk) {
            Ok(0) => Err(Broken::HungUp),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Leftover {
    /// Reads and drops output until nobody can write any more.
    pub(crate) fn drain(self) {
        let mut chunk = vec![0_u8; 4096];
        let mut outputs = self.outputs;
        while !outputs.is_empty() {
            let mut watched: Vec<_> =
                outputs.iter().map(|output| PollFd::new(&output.source, PollFlags::IN)).collect();
            if poll_for(&mut watched, None).is_err() {
                return;
            }
            outputs.retain(|output| match rustix::io::read(output.source.as_fd(), &mut chunk) {
                Ok(count) => count > 0,
                Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
            });
        }
    }
}

/// Waits until something is ready or `limit` has passed.
fn poll_for(watched: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Errno> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(watched, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}
