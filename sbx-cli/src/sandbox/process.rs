//! The sandbox process: owns the machine, the control socket and the guest's control connection.
//!
//! One thread decides ([`Owner`]), the others wait for something and send it an [`Event`]:
//!
//! ```text
//! control socket ─ accept ─ one thread per connection ─┐
//! guest's control connection ──────────────────────────┤
//! machine.wait() ──────────────────────────────────────┼──▶ events ──▶ owner ──▶ actions
//! lease over standard input ───────────────────────────┘
//! clock thread ──▶ SetClock to the guest, directly
//! ```

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use sbx_proto::{AGENT_PORT, ControlRequest, Registry, read_frame, write_frame};
use sbx_vmm::{
    cage,
    machine::{Machine, MachineExit, VsockHandle},
    seccomp::{self, Role},
};

use super::{
    control::{Answer, Call, Launch},
    decisions::Decisions,
    directory::SandboxDirectory,
    guest::Guest,
    owner::{Action, Event, Owner},
    plan::Plan,
    socket,
    state::{Phase, State},
};
use crate::{
    environment,
    error::{CommandError, Outcome, Result},
    network::{self, journal::Entry, rulebook::Rulebook},
};

/// Stack of the threads that only wait and forward.
pub(super) const SMALL_STACK_BYTES: usize = 128 * 1024;

/// What a guest gets on top of the grace of its processes to sync and unmount before it is ended.
const POWER_OFF_MARGIN: Duration = Duration::from_secs(10);

/// How long a guest may take to say that it is ready: many times what the slowest emulation has needed. A guest that fails
/// says so, and an engine that dies is seen at once; this is for one that hangs.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);

/// Something for the deciding thread.
#[derive(Debug)]
pub(super) enum Message {
    /// One of the events that the rules know.
    Event(Event),
    /// A lease was asked for; the answer goes back over the connection.
    LeaseAsked(UnixStream),
    /// A call whose answer does not depend on the rules, made after its event was handled.
    Answered(Event, UnixStream, Answer),
    /// The guest has something to tell the user.
    Warning(String),
    /// The network decided something.
    Decided(Entry),
    /// Somebody wants to know that what came before is dealt with.
    SyncAsked(UnixStream),
    /// The image names these registries.
    Registries(Vec<Registry>),
    /// The guest could not boot.
    GuestFailed(CommandError),
    /// The engine ended.
    MachineEnded(MachineExit),
}

/// Runs the sandbox in `directory` until its machine ends.
///
/// # Errors
/// None that anybody but the log sees: the command that started us was told over its socket.
pub(crate) fn run(directory: &Path) -> Result<Outcome> {
    // A terminal's Ctrl-C and hang-up are for the command in the foreground, not for the sandbox.
    let _ = rustix::process::setsid();
    let directory = SandboxDirectory::new(directory.to_path_buf());
    let mut launcher = launcher()?;
    match boot(&directory) {
        Ok(process) => process.serve(launcher),
        Err(error) => {
            record_failure(&directory, &error);
            tell_failure(&mut launcher, &error);
            Err(error)
        }
    }
}

/// The socket to the command that started us: our standard input.
fn launcher() -> Result<UnixStream> {
    io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(|descriptor: OwnedFd| UnixStream::from(descriptor))
        .map_err(|error| CommandError::failed("standard input is not open").with_source(error))
}

/// A machine that is about to boot.
#[derive(Debug)]
struct Process {
    directory: SandboxDirectory,
    state: State,
    owner: Owner,
    machine: Machine,
    guest: Guest,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    failure: Option<CommandError>,
    launcher: Option<UnixStream>,
    /// Leases that are taken and will be granted once the guest is ready: before, there is no agent to talk to.
    waiting: Vec<UnixStream>,
    /// The rules and the way to the gateway, if there is a network.
    rulebook: Option<Arc<Rulebook>>,
    decisions: Decisions,
    deadline: Option<Instant>,
    _alive: super::directory::Lock,
}

fn boot(directory: &SandboxDirectory) -> Result<Process> {
    let alive = directory.lock_alive()?;
    let plan = Plan::read(directory)?;
    let state = State::read(directory)?.ok_or_else(|| {
        CommandError::failed(format!("there is no sandbox in {}", directory.path().display()))
    })?;
    let (sender, messages) = channel();
    // Before the process is confined: ports are bound, and the host's own configuration is read.
    let network = match &plan.network {
        Some(network) => {
            let sender = sender.clone();
            // The thread that decides may have ended before the network's.
            Some(network::start(network, move |entry| drop(sender.send(Message::Decided(entry))))?)
        }
        None => None,
    };
    let (link, rulebook) = network.map(|network| (network.link, Arc::new(network.rulebook))).unzip();
    // Before any other thread exists, so that all of them are inside.
    let own = [directory.path().to_path_buf()];
    cage::enter(&plan.machine, &plan.engine, &own, environment::violation()?).map_err(|error| {
        CommandError::failed("cannot confine the sandbox process")
            .with_source(error)
            .with_hint("`sbx doctor` tells what this kernel can enforce")
    })?;
    let listener = socket::listen(&directory.run())
        .map_err(|error| CommandError::failed("cannot make the control socket").with_source(error))?;
    let machine = Machine::build(&plan.machine, &plan.engine, link).map_err(super::spawn::machine_failed)?;
    let guest = Guest::start(&machine.vsock(), plan.boot, plan.clock, sender.clone())?;
    let process = Process {
        directory: directory.clone(),
        state,
        owner: Owner::new(plan.linger, plan.grace_milliseconds),
        machine,
        guest,
        messages,
        sender,
        failure: None,
        launcher: None,
        waiting: Vec::new(),
        rulebook,
        decisions: Decisions::new(directory),
        deadline: Instant::now().checked_add(BOOT_PATIENCE),
        _alive: alive,
    };
    process.watch_machine()?;
    process.accept(listener)?;
    Ok(process)
}

impl Process {
    /// Decides until the machine ended.
    fn serve(mut self, launcher: UnixStream) -> Result<Outcome> {
        seccomp::install(Role::Owner);
        self.machine.run();
        self.watch_lease(&launcher)?;
        self.launcher = Some(launcher);
        loop {
            let message = match self.deadline {
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            };
            let event = match message {
                Ok(message) => self.receive(message),
                Err(RecvTimeoutError::Timeout) => {
                    self.deadline = None;
                    Some(self.out_of_patience())
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Done),
            };
            let Some(event) = event else { continue };
            for action in self.owner.handle(event) {
                if self.act(action) {
                    return Ok(Outcome::Done);
                }
            }
        }
    }

    /// The guest neither came up nor went down in its time.
    fn out_of_patience(&mut self) -> Event {
        if self.owner.phase() != Phase::Starting {
            return Event::GraceOver;
        }
        let message = format!("the guest was not ready after {} seconds", BOOT_PATIENCE.as_secs());
        self.failure = Some(CommandError::failed(message).with_hint("`sbx logs` shows the guest's console"));
        Event::StopAsked { grace_milliseconds: 0 }
    }

    /// Turns a message into an event, and answers whoever waits for an answer.
    fn receive(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Event(event) => Some(event),
            Message::LeaseAsked(mut connection) => {
                if !self.owner.grants_leases() {
                    let _ = write_frame(&mut connection, &Answer::Stopping);
                    return None;
                }
                // Counted before it is granted: the caller may be gone the moment it reads the answer.
                self.owner.handle(Event::LeaseTaken);
                if self.owner.phase() == Phase::Starting {
                    self.waiting.push(connection);
                    return None;
                }
                self.grant(connection)
            }
            Message::Answered(event, mut connection, answer) => {
                let _ = write_frame(&mut connection, &answer);
                Some(event)
            }
            Message::Warning(message) => {
                if let Some(launcher) = &mut self.launcher {
                    let _ = write_frame(launcher, &Launch::Warning { message });
                }
                None
            }
            Message::SyncAsked(mut connection) => {
                let _ = write_frame(&mut connection, &Answer::Granted);
                None
            }
            Message::Decided(entry) => {
                self.decisions.decided(&entry);
                None
            }
            Message::Registries(registries) => {
                if let Some(rulebook) = &self.rulebook {
                    rulebook.set_registries(registries);
                }
                None
            }
            Message::GuestFailed(error) => {
                self.failure = Some(error);
                Some(Event::GuestFailed)
            }
            Message::MachineEnded(exit) => {
                let error = super::spawn::machine_ended(&exit);
                self.failure = match (self.failure.take(), self.owner.phase()) {
                    (Some(failure), _) => Some(failure),
                    (None, Phase::Stopping) => None,
                    (None, _) => Some(error),
                };
                Some(Event::MachineEnded)
            }
        }
    }

    /// Tells the taker of a lease that it has it; it is lost if nobody is there any more.
    fn grant(&mut self, mut connection: UnixStream) -> Option<Event> {
        let granted = write_frame(&mut connection, &Answer::Granted).is_ok();
        if granted && self.rulebook.is_some() {
            self.decisions.add_listener(&connection);
        }
        if granted && self.watch_lease(&connection).is_ok() { None } else { Some(Event::LeaseLost) }
    }

    /// Carries out `action`; true if it was the last.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Record(phase) => self.record(phase, None),
            Action::AnnounceReady => {
                self.deadline = None;
                if let Some(mut launcher) = self.launcher.take() {
                    let _ = write_frame(&mut launcher, &Launch::Ready);
                    self.decisions.add_listener(&launcher);
                }
                for connection in std::mem::take(&mut self.waiting) {
                    if let Some(event) = self.grant(connection) {
                        let _ = self.sender.send(Message::Event(event));
                    }
                }
            }
            Action::PowerOff { grace_milliseconds } => {
                self.guest.send(&ControlRequest::PowerOff { grace_milliseconds });
                let grace = Duration::from_millis(u64::from(grace_milliseconds));
                self.deadline = Instant::now().checked_add(grace.saturating_add(POWER_OFF_MARGIN));
            }
            Action::Kill => self.machine.kill(),
            Action::Finish => {
                self.finish();
                return true;
            }
        }
        false
    }

    fn record(&mut self, phase: Phase, reason: Option<String>) {
        // The guest has thrown away what was to be thrown away before it said that it is ready, and nobody has written since.
        if phase == Phase::Running {
            self.state.fresh_root = false;
        }
        self.state.enter(phase, reason);
        if let Err(error) = self.state.write(&self.directory) {
            tracing::warn!(
                "cannot record that the sandbox is {}: {}",
                phase.name(),
                error.chain().join(": ")
            );
        }
    }

    fn finish(&mut self) {
        let reason = self.failure.as_ref().map(|failure| failure.chain().join(": "));
        self.record(Phase::Stopped, reason);
        if let Some(launcher) = &mut self.launcher {
            let stopped = CommandError::failed("the sandbox was stopped while it started");
            tell_failure(launcher, self.failure.as_ref().unwrap_or(&stopped));
        }
    }

    /// A lease lasts until its connection ends.
    fn watch_lease(&self, connection: &UnixStream) -> Result<()> {
        let sender = self.sender.clone();
        let mut connection = connection
            .try_clone()
            .map_err(|error| CommandError::failed("cannot watch a lease").with_source(error))?;
        spawn("lease", Role::Waiting, move || {
            // Nothing is ever sent over a lease; what comes is thrown away.
            let mut byte = [0_u8; 64];
            while matches!(connection.read(&mut byte), Ok(count) if count > 0) {}
            let _ = sender.send(Message::Event(Event::LeaseLost));
        })
    }

    fn watch_machine(&self) -> Result<()> {
        let sender = self.sender.clone();
        let waiter = self.machine.waiter();
        spawn("machine", Role::Waiting, move || {
            let _ = sender.send(Message::MachineEnded(waiter.wait()));
        })
    }

    fn accept(&self, listener: std::os::unix::net::UnixListener) -> Result<()> {
        let sender = self.sender.clone();
        let doors = Doors { vsock: self.machine.vsock(), network: self.rulebook.clone() };
        spawn("control", Role::Control, move || {
            for connection in listener.incoming().flatten() {
                let (sender, doors) = (sender.clone(), doors.clone());
                let _ = spawn("call", Role::Control, move || take_call(connection, &sender, &doors));
            }
        })
    }
}

/// What a call may lead to besides the thread that decides.
#[derive(Clone, Debug)]
struct Doors {
    vsock: VsockHandle,
    network: Option<Arc<Rulebook>>,
}

/// Reads the first frame of a connection and passes it on.
fn take_call(mut connection: UnixStream, sender: &Sender<Message>, doors: &Doors) {
    let message = match read_frame::<Call>(&mut connection) {
        Ok(Call::Network(call)) => {
            let answer = network::answer(doors.network.as_deref(), call);
            let _ = write_frame(&mut connection, &answer);
            return;
        }
        Ok(Call::Exec) => {
            if let Err(error) = doors.vsock.connect(AGENT_PORT, connection) {
                tracing::warn!("cannot connect to the agent: {error}");
            }
            return;
        }
        Ok(Call::Lease) => Message::LeaseAsked(connection),
        Ok(Call::Stop { grace_milliseconds }) => {
            Message::Answered(Event::StopAsked { grace_milliseconds }, connection, Answer::Stopping)
        }
        Ok(Call::Sync) => Message::SyncAsked(connection),
        Ok(Call::Linger) => Message::Answered(Event::Linger, connection, Answer::Granted),
        Err(error) => {
            tracing::warn!("a control connection made no sense: {error}");
            return;
        }
    };
    let _ = sender.send(message);
}

/// Starts a thread with a small stack, which may do what `role` needs.
pub(super) fn spawn(name: &str, role: Role, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(SMALL_STACK_BYTES);
    seccomp::spawn(thread, role, body)
        .map(drop)
        .map_err(|error| CommandError::failed(format!("cannot start the {name} thread")).with_source(error))
}

fn record_failure(directory: &SandboxDirectory, error: &CommandError) {
    if let Ok(Some(mut state)) = State::read(directory) {
        state.enter(Phase::Stopped, Some(error.chain().join(": ")));
        let _ = state.write(directory);
    }
}

fn tell_failure(launcher: &mut UnixStream, error: &CommandError) {
    let failed = Launch::Failed {
        chain: error.chain(),
        hints: error.hints().to_vec(),
        details: error.details().to_vec(),
    };
    let _ = write_frame(launcher, &failed);
}
