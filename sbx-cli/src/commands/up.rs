//! `sbx up`.

use std::{ffi::OsString, path::PathBuf};

use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    locking,
    sandbox::launch::{self, Options},
    session::Wishes,
};

/// Make the machine that sandbox.kdl declares, start it, and run its agent
///
/// What comes after `--` are arguments for the agent; for the agent "shell" they are the command itself. The exit code is the
/// agent's own. A sandbox that this started powers off when the last command in it ended; with `--detach` it stays up. Its disk is kept either way.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start it and return; it stays up until `sbx stop`
    #[arg(short, long)]
    detach: bool,
    /// Start this agent instead of the first in sandbox.kdl: another one there, or any that `sbx agent ls` shows
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Use the profile of that name in sandbox.kdl
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Fail if sandbox.lock is not that of sandbox.kdl, or if another snapshot comes of it than it says
    #[arg(long)]
    locked: bool,
    /// Run on this engine instead of the one that suits this machine
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    /// Write every frame of the sandbox's network to FILE, for Wireshark or tcpdump
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Answer yes to everything that would be asked
    #[arg(short, long)]
    yes: bool,
    /// Arguments for the agent
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

/// The engines by the names that users know.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EngineArg {
    /// Our own machine monitor on /dev/kvm
    Kvm,
    /// QEMU
    Qemu,
}

impl From<EngineArg> for sbx_vmm::engine::EngineKind {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Kvm => Self::Kvm,
            EngineArg::Qemu => Self::Qemu,
        }
    }
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    let project = context
        .project()?
        .with_profile(&context.ui, args.profile.as_deref())?
        .with_agent(context, args.agent.as_deref())?;
    let capture = args
        .pcap
        .map(std::path::absolute)
        .transpose()
        .map_err(|error| CommandError::usage("the file of --pcap has no path").with_source(error))?;
    if args.locked {
        locking::require_lock(context, &project)?;
    }
    let engine = args.engine.map(Into::into);
    let options = Options { linger: args.detach, yes: args.yes, locked: args.locked, engine, capture };
    let obtain = || launch::start(context, &project, &options);
    if args.detach && args.arguments.is_empty() {
        return obtain().map(|_| Outcome::Done);
    }
    let more: Vec<_> = args.arguments.into_iter().map(OsString::into_encoded_bytes).collect();
    launch::run(Wishes { arguments: project.command(&more), ..Wishes::default() }, obtain)
}
