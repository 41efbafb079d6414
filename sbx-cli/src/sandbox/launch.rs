//! From a manifest to a running sandbox.
//!
//! ```text
//! manifest ─▶ image ─▶ snapshot ─▶ disk ─▶ plan.json ─▶ sandbox process ─▶ Ready
//! ```
//! Everything up to the plan can be repeated and changes nothing that a running sandbox uses.

use std::{
    io,
    path::PathBuf,
    process::Child,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use sbx_vmm::{config::Share, engine::EngineKind, scratch};

use super::{
    blueprint::Blueprint,
    control::{self, Answer, Lease},
    death,
    directory::SandboxDirectory,
    owner,
    plan::{Clock, Plan},
    spawn::{self, Foundation, Started},
    start::{self, StartFault},
    state::{Phase, State},
};
use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    git, locking,
    network::{self, NetworkPlan},
    project::Project,
    provision::{self, Provisioned},
    session::{self, End, Wishes},
    shares::ProjectShare,
    ui::{binary_size, elapsed_time, printable, short_digest},
    workspace::clone,
};

/// How long a sandbox process may take to write down why its machine ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the user wants of the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Keep the sandbox up without leases.
    pub(crate) linger: bool,
    /// Ask nothing; the answer is yes.
    pub(crate) yes: bool,
    /// Take nothing but what sandbox.lock pins.
    pub(crate) locked: bool,
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
    if let Some(workspace) = shares.first().filter(|_| project.is_clone()) {
        clone::prepare(&context.ui, &workspace.host, &directory)?;
    }
    boot(context, project, &in_place(project, shares, &directory), network, options, &directory)
}

/// The shares, with the sandbox's copy of the workspace in its place if it has one. In a copy nothing is protected: nothing of the
/// host goes by it before `sbx apply` has looked at it.
fn in_place(
    project: &Project,
    mut shares: Vec<ProjectShare>,
    directory: &SandboxDirectory,
) -> Vec<ProjectShare> {
    if let Some(workspace) = shares.first_mut().filter(|_| project.is_clone()) {
        workspace.host = clone::tree_of(directory);
        workspace.protected.clear();
    }
    shares
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
    let foundation = Foundation::find(context, options.engine)?;
    let wishes = provision::Wishes { engine: options.engine, ..provision::Wishes::default() };
    let Provisioned { prepared, setup_directories, .. } =
        locking::provision(context, project, &wishes, options.locked)?;
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
        setup_directories: &setup_directories,
        directory,
        foundation: &foundation,
        fresh_root: earlier.as_ref().is_some_and(|earlier| earlier.fresh_root),
        git: git::identity(),
        network: network.as_ref(),
    };
    let disk_bytes = project.disk_bytes();
    let state = blueprint.state(earlier.as_ref());
    refuse_other_snapshot(directory, earlier.as_ref(), &state)?;
    scratch::prepare(&directory.scratch(), disk_bytes).map_err(|error| {
        CommandError::failed("cannot prepare the disk of the sandbox")
            .with_source(error)
            .with_hint("`sbx reset` makes a new one; what is on it is lost, the workspace is not")
    })?;
    let plan = Plan {
        machine: blueprint.machine(),
        boot: blueprint.boot_config(),
        clock: Clock::Host,
        engine: foundation.choice.engine.clone(),
        network,
        linger: options.linger,
        grace_milliseconds: owner::GRACE_MILLISECONDS,
    };
    state.write(directory)?;
    start::plan(project.manifest(), directory)?;
    drop(prepared.hold);

    let started = Instant::now();
    let Started { process, mut lease } = spawn::start(context, directory, &plan)?;
    lease.listen(session::notice::tell);
    context.ui.status(
        "machine",
        format_args!(
            "{}  {}, {} vCPU, {}, up in {}",
            directory.name(),
            plan.engine.name(),
            plan.machine.vcpus,
            binary_size(u64::from(plan.machine.memory_mib) << 20),
            elapsed_time(started.elapsed()),
        ),
    );
    if let Some(reason) = foundation.choice.reason {
        context.ui.detail(reason);
    }
    Running { directory: directory.clone(), process: Some(process), lease }.started(context)
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

/// A disk holds what changed against one snapshot, and means nothing over another.
fn refuse_other_snapshot(
    directory: &SandboxDirectory,
    earlier: Option<&State>,
    wanted: &State,
) -> Result<()> {
    let Some(earlier) = earlier else { return Ok(()) };
    let bound = !earlier.snapshot.is_empty() && !earlier.fresh_root && directory.scratch().exists();
    if !bound || earlier.snapshot == wanted.snapshot {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "the disk of `{}` was made over {}, and the image is now {}",
        directory.name(),
        short_digest(&earlier.image_digest),
        short_digest(&wanted.image_digest),
    ))
    .with_hint("`sbx reset --keep-home`, then `sbx up`, begins with the new image; workspace and home are kept, the rest of the disk is not"))
}

/// Says what of the manifest does not hold for the sandbox that runs already.
fn tell_changes(context: &Context, project: &Project, directory: &SandboxDirectory) {
    let (Ok(plan), Ok(Some(state))) = (Plan::read(directory), State::read(directory)) else { return };
    let mut changed = Vec::new();
    if state.image != project.image() {
        changed.push("image");
    }
    // The shell is there whether anybody names it or not.
    let named = |names: &[String]| names.iter().filter(|name| *name != "shell").cloned().collect::<Vec<_>>();
    if named(&state.agents) != named(&project.agents()) {
        changed.push("agents");
    }
    if plan.machine.vcpus != project.vcpus() || plan.machine.memory_mib != project.memory_mib() {
        changed.push("resources");
    }
    let same = |then: &Share, now: &ProjectShare| then.host == now.host && then.read_only == now.read_only;
    let Ok(shares) = project.shares(context) else { return };
    let shares = in_place(project, shares, directory);
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
