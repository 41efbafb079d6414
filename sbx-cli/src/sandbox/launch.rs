//! From a manifest to a running sandbox.
//!
//! ```text
//! manifest ─▶ image ─▶ snapshot ─▶ disk ─▶ plan.json ─▶ sandbox process ─▶ Ready
//! ```
//! Everything up to the plan can be repeated and changes nothing that a running sandbox uses.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use sbx_proto::read_frame;
use sbx_vmm::{
    config::Share,
    engine::{self, Engine, EngineKind, qemu},
    machine::{MachineExit, StartError},
    scratch,
    seccomp::Violation,
};

use super::{
    blueprint::Blueprint,
    control::{self, Answer, Launch, Lease},
    death,
    directory::SandboxDirectory,
    plan::Plan,
    start::{self, StartFault},
    state::{Phase, State},
};
use crate::{
    args::Selection,
    artifacts,
    context::Context,
    environment,
    error::{CommandError, Outcome, Result},
    images,
    network::{self, NetworkPlan},
    project::Project,
    session::{self, End, Wishes},
    shares::ProjectShare,
    ui::{binary_size, elapsed_time, printable, short_digest},
};

/// How many of a log's last lines an error shows.
const TAIL_LINES: usize = 12;

/// How long a sandbox process may take to write down why its machine ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the user wants of the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Keep the sandbox up without leases.
    pub(crate) linger: bool,
    /// Ask nothing; the answer is yes.
    pub(crate) yes: bool,
    /// Force an engine.
    pub(crate) engine: Option<EngineKind>,
    /// Write every frame of the network to this file.
    pub(crate) capture: Option<PathBuf>,
}

/// A sandbox that runs, as long as this lives at least.
#[derive(Debug)]
pub(crate) struct Running {
    directory: SandboxDirectory,
    /// Its process, if it was started here.
    process: Option<Child>,
    lease: Lease,
}

/// What came of a command.
enum Attempt {
    /// It ran, or was refused by the guest.
    Over(Outcome),
    /// The sandbox ended before the command began.
    NeverBegan(CommandError),
}

/// Runs a command in the sandbox that `obtain` attaches to or starts.
///
/// One that was about to end when we attached (its engine had just been killed, say) has run nothing: it is started
/// once more, so that nobody has to do by hand what a second call would do.
pub(crate) fn run(wishes: Wishes, obtain: impl Fn() -> Result<Running>) -> Result<Outcome> {
    let running = obtain()?;
    let (attached, directory) = (running.process.is_none(), running.directory.clone());
    match running.attempt(wishes.clone())? {
        Attempt::Over(outcome) => Ok(outcome),
        Attempt::NeverBegan(_) if attached && !directory.is_alive() => match obtain()?.attempt(wishes)? {
            Attempt::Over(outcome) => Ok(outcome),
            Attempt::NeverBegan(error) => Err(error),
        },
        Attempt::NeverBegan(error) => Err(error),
    }
}

impl Running {
    /// The sandbox once its start commands have run, by whoever has them run.
    fn started_by_all(self, context: &Context) -> Result<Self> {
        if !start::is_pending(&self.directory) {
            return Ok(self);
        }
        // They are run under the lock of the start. Who was to run them may be gone, and then it is on us.
        let _lock = self.directory.lock_start()?;
        self.started(context)
    }

    /// The sandbox once its start commands have run. The caller has the lock of its start.
    fn started(self, context: &Context) -> Result<Self> {
        match start::run(context, &self.directory) {
            Ok(()) => Ok(self),
            Err(StartFault::Failed(error)) => Err(error),
            Err(StartFault::Lost) => Err(self.stopped_early()),
        }
    }

    fn attempt(mut self, wishes: Wishes) -> Result<Attempt> {
        let connection = match control::open_agent(&self.directory.run()) {
            Ok(connection) => connection,
            Err(error) => {
                self.stopped_early();
                return Ok(Attempt::NeverBegan(error));
            }
        };
        let end = session::run(connection, wishes);
        self.lease.hear_out(&self.directory.run());
        match end? {
            End::Over(outcome) => Ok(Attempt::Over(outcome)),
            End::Lost { began: true } => Err(self.stopped_early()),
            End::Lost { began: false } => Ok(Attempt::NeverBegan(self.stopped_early())),
        }
    }

    /// The connection to the agent ended before the command did; why, if the sandbox process gets to write it down, or
    /// is our own and died.
    fn stopped_early(self) -> CommandError {
        let Self { directory, process, .. } = self;
        let (sender, receiver) = channel();
        let dying = directory.clone();
        thread::spawn(move || {
            let _ = dying.wait_until_dead();
            let status = process.and_then(|mut process| process.wait().ok());
            if let Some(Err(error)) = status.map(|status| death::record(&dying, status)) {
                tracing::warn!("cannot record how the sandbox ended: {}", error.chain().join(": "));
            }
            let _ = sender.send(());
        });
        // An agent that failed alone leaves the process alive; nobody waits for that.
        let _ = receiver.recv_timeout(LAST_WORDS);
        let mut error = CommandError::failed("the sandbox stopped before the command ended")
            .with_hint("`sbx logs` shows the guest's console");
        if let Ok(Some(state)) = State::read(&directory)
            && let Some(reason) = state.reason
        {
            error = error.with_source(io::Error::other(printable(&reason)));
        }
        error
    }
}

/// The sandbox that `selection` means, started from its own manifest if it is stopped.
pub(crate) fn existing(context: &Context, selection: &Selection, options: &Options) -> Result<Running> {
    let (directory, state) = match context.sandbox(selection) {
        Ok(found) => found,
        // In a repository that has a manifest, `sbx exec` makes what it needs.
        Err(_) if selection.name.is_none() => return start(context, &context.project()?, options),
        Err(error) => return Err(error),
    };
    if let Some(running) = attach(&directory, options)? {
        return running.started_by_all(context);
    }
    let project = Project::open(context, &state.manifest, state.profile.as_deref())?
        .with_agent(context, state.agent.as_deref())?;
    start(context, &project, options)
}

/// The sandbox of `project`, started if it is stopped.
pub(crate) fn start(context: &Context, project: &Project, options: &Options) -> Result<Running> {
    let directory = context.for_workspace(&project.name(), &project.root)?;
    // While it runs, the files are as they were when it started; what changed since is told, not applied.
    if let Some(running) = attach(&directory, options)? {
        tell_changes(context, project, &directory);
        if network::follow(context, project, &directory, options.yes)? {
            context
                .ui
                .status("network", format_args!("{}  follows sandbox.kdl as it is now", directory.name()));
        }
        return running.started_by_all(context);
    }
    project.refuse_unsupported(&context.ui)?;
    let shares = project.shares(context)?;
    let network = NetworkPlan::of(project.manifest());
    crate::approval::ask(context, project, &shares, network.as_ref(), options.yes)?;
    directory.create()?;
    let _lock = directory.lock_start()?;
    // Another `sbx up` may have been faster, and a sandbox that is on its way down still has the disk.
    if let Some(running) = attach(&directory, options)? {
        return running.started(context);
    }
    directory.wait_until_dead()?;
    boot(context, project, &shares, network, options, &directory)
}

fn attach(directory: &SandboxDirectory, options: &Options) -> Result<Option<Running>> {
    if !directory.is_alive() {
        return Ok(None);
    }
    let Some(mut lease) = Lease::take(&directory.run()) else {
        return Ok(None);
    };
    lease.listen(session::notice::tell);
    if options.linger && control::linger(&directory.run())? == Answer::Stopping {
        return Ok(None);
    }
    Ok(Some(Running { directory: directory.clone(), process: None, lease }))
}

fn boot(
    context: &Context,
    project: &Project,
    shares: &[ProjectShare],
    network: Option<NetworkPlan>,
    options: &Options,
    directory: &SandboxDirectory,
) -> Result<Running> {
    let earlier = State::read(directory)?;
    tell_death(context, directory, earlier.as_ref());
    if environment::violation()? == Violation::Log {
        context.ui.warning(format_args!(
            "{}=log: what the sandbox process may ask of the kernel is not limited",
            environment::SBX_SECCOMP
        ));
    }
    let kernel = artifacts::kernel(&context.paths)?;
    let initramfs = artifacts::initramfs(&context.paths)?;
    let qemu = environment::path(environment::SBX_QEMU);
    let wanted = options.engine.map_or_else(environment::engine, |engine| Ok(Some(engine)))?;
    let choice = engine::choose(wanted, qemu.as_deref(), &engine::probe()).map_err(no_engine)?;
    let prepared = images::prepare(context, project)?;
    let kernel_parameters = environment::words(environment::SBX_KERNEL_ARGS)?;
    let network = match network {
        Some(network) => {
            let (proxies, capture) = (network::proxies::of_environment()?, options.capture.clone());
            Some(NetworkPlan { proxies, capture, ..network })
        }
        None => None,
    };
    let blueprint = Blueprint {
        project,
        shares,
        prepared: &prepared,
        directory,
        kernel,
        initramfs,
        network: network.as_ref(),
        kernel_parameters,
    };
    let disk_bytes = project.disk_bytes();
    let state = blueprint.state(earlier.as_ref(), choice.engine.name());
    refuse_other_snapshot(directory, earlier.as_ref(), &state)?;
    scratch::prepare(&directory.scratch(), disk_bytes).map_err(|error| {
        CommandError::failed("cannot prepare the disk of the sandbox")
            .with_source(error)
            .with_hint("`sbx reset` makes a new one; what is on it is lost, the workspace is not")
    })?;
    let plan = Plan {
        machine: blueprint.machine(),
        boot: blueprint.boot_config(),
        engine: choice.engine.clone(),
        network,
        linger: options.linger,
    };
    state.write(directory)?;
    plan.write(directory)?;
    start::plan(project.manifest(), directory)?;
    drop(prepared.hold);

    let started = Instant::now();
    let (mut child, launcher) = spawn(directory)?;
    let mut lease = await_ready(context, launcher, &mut child, directory)
        .map_err(|error| blame_old_qemu(error, &choice.engine))?;
    lease.listen(session::notice::tell);
    context.ui.status(
        "machine",
        format_args!(
            "{}  {}, {} vCPU, {}, up in {}",
            directory.name(),
            choice.engine.name(),
            plan.machine.vcpus,
            binary_size(u64::from(plan.machine.memory_mib) << 20),
            elapsed_time(started.elapsed()),
        ),
    );
    if let Some(reason) = choice.reason {
        context.ui.detail(reason);
    }
    Running { directory: directory.clone(), process: Some(child), lease }.started(context)
}

/// Says that the sandbox had died, and by what if that is known, before it is started again.
fn tell_death(context: &Context, directory: &SandboxDirectory, earlier: Option<&State>) {
    if let Some(state) = earlier
        && state.phase_seen(directory) == Phase::Died
    {
        let how = state.reason_seen(directory).unwrap_or_default();
        context.ui.warning(format_args!("`{}` had died: {}", directory.name(), printable(&how)));
    }
}

/// There is nothing to run a guest with.
fn no_engine(error: engine::ChooseError) -> CommandError {
    let advice = error.advice();
    let error = CommandError::failed(error.to_string());
    let error = match advice {
        Some(advice) => error.with_hint(printable(&advice)),
        None => error,
    };
    error.with_hint("`sbx doctor` tells what this machine can do")
}

/// A disk holds what changed against one snapshot, and means nothing over another.
fn refuse_other_snapshot(
    directory: &SandboxDirectory,
    earlier: Option<&State>,
    wanted: &State,
) -> Result<()> {
    let Some(earlier) = earlier else { return Ok(()) };
    if earlier.snapshot.is_empty() || earlier.snapshot == wanted.snapshot || !directory.scratch().exists() {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "the disk of `{}` was made over {}, and the image is now {}",
        directory.name(),
        short_digest(&earlier.image_digest),
        short_digest(&wanted.image_digest),
    ))
    .with_hint("`sbx reset`, then `sbx up`, begins with the new image; the workspace is kept, the rest of the disk is not"))
}

/// Starts the sandbox process; its standard input is a socket to us.
fn spawn(directory: &SandboxDirectory) -> Result<(Child, UnixStream)> {
    let failed =
        |error: io::Error| CommandError::failed("cannot start the sandbox process").with_source(error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let log = File::create(directory.process_log()).map_err(failed)?;
    let child = Command::new(std::env::current_exe().map_err(failed)?)
        .arg("sandbox-process")
        .arg(directory.path())
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    Ok((child, ours))
}

/// Waits until the guest's agent answers, or until it is clear that it never will.
fn await_ready(
    context: &Context,
    mut launcher: UnixStream,
    child: &mut Child,
    directory: &SandboxDirectory,
) -> Result<Lease> {
    loop {
        match read_frame(&mut launcher) {
            Ok(Launch::Warning { message }) => context.ui.warning(printable(&message)),
            Ok(Launch::Ready) => return Ok(Lease::from_launch(launcher)),
            Ok(Launch::Failed { chain, hints, details }) => {
                let error = CommandError::told(chain, hints);
                return Err(details
                    .into_iter()
                    .fold(error, |error, (title, lines)| error.with_lines(title, lines)));
            }
            Err(_) => {
                // It died without a word: killed, or a fault of ours. Its log is all that there is.
                let status = child.wait();
                let how = status.as_ref().map_or_else(ToString::to_string, |status| death::explain(*status));
                let error = CommandError::failed("the sandbox ended while it started")
                    .with_source(io::Error::other(how))
                    .with_lines("its log ends with", tail(&directory.process_log()));
                return Err(match status {
                    Ok(status) if death::is_violation(status) => error.with_hint(death::FILTER_HINT),
                    _ => error,
                });
            }
        }
    }
}

/// A QEMU that is too old does not know what it is asked for; that is worth more than its complaint. It is asked here and
/// now because that takes 40 ms, and because no thread of the sandbox process could start it once more.
fn blame_old_qemu(error: CommandError, engine: &Engine) -> CommandError {
    let Engine::Qemu { program, .. } = engine else { return error };
    match qemu::version(program) {
        Ok(found) if found < qemu::OLDEST => error.with_hint(format!(
            "{} is version {found}; sbx needs {} or newer",
            program.display(),
            qemu::OLDEST
        )),
        _ => error,
    }
}

/// The machine could not be started.
pub(super) fn machine_failed(error: StartError) -> CommandError {
    CommandError::failed("the machine could not be started")
        .with_source(error)
        .with_hint("`sbx doctor` tells what is missing")
}

/// The machine ended by itself.
pub(super) fn machine_ended(exit: &MachineExit) -> CommandError {
    CommandError::failed(exit.reason.to_string())
        .with_lines("the engine said", printable_tail(&exit.engine_tail))
        .with_lines("the guest's console ended with", printable_tail(&exit.console_tail))
        .with_hint("`sbx doctor` tells what this machine lacks, `sbx logs` what was logged")
}

fn printable_tail(lines: &[String]) -> Vec<String> {
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.iter().skip(skip).map(|line| printable(line)).collect()
}

/// The last lines of a log file of ours.
fn tail(path: &Path) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let lines: Vec<_> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    printable_tail(&lines)
}

/// Says what of the manifest does not hold for the sandbox that runs already.
fn tell_changes(context: &Context, project: &Project, directory: &SandboxDirectory) {
    let (Ok(plan), Ok(Some(state))) = (Plan::read(directory), State::read(directory)) else { return };
    let mut changed = Vec::new();
    if state.image != project.image() {
        changed.push("image");
    }
    if plan.machine.vcpus != project.vcpus() || plan.machine.memory_mib != project.memory_mib() {
        changed.push("resources");
    }
    let same = |then: &Share, now: &ProjectShare| then.host == now.host && then.read_only == now.read_only;
    let Ok(shares) = project.shares(context) else { return };
    if plan.machine.shares.len() != shares.len()
        || !plan.machine.shares.iter().zip(&shares).all(|(then, now)| same(then, now))
    {
        changed.push("mounts");
    }
    let cards = (plan.network.as_ref(), NetworkPlan::of(project.manifest()));
    let same_ports = |then: &NetworkPlan, now: &NetworkPlan| {
        then.host_services == now.host_services && then.published == now.published
    };
    if !match (&cards.0, &cards.1) {
        (Some(then), Some(now)) => same_ports(then, now),
        (None, now) => now.is_none(),
        // No rules any more are rules, too.
        (Some(then), None) => then.host_services.is_empty() && then.published.is_empty(),
    } {
        changed.push("ports");
    }
    if !changed.is_empty() {
        context.ui.warning(format_args!(
            "`{}` runs with the {} of an earlier sandbox.kdl",
            directory.name(),
            changed.join(" and ")
        ));
        context.ui.hint("`sbx stop`, then `sbx up`, applies the file as it is");
    }
}
