//! What was typed.

use clap::{Parser, Subcommand};

use crate::commands::{
    add, agent, allow, apply, check, completions, deny, df, diff, doctor, exec, image, init, lock, logs, ls,
    policy, ports, prune, push, remove, reset, rm, shell, status, stop, trust, up,
};

/// Give this repository a disposable, isolated, reproducible machine for coding agents
#[derive(Debug, Parser)]
#[command(name = "sbx", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, in the order of a first day with sbx.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Check(check::Args),
    Lock(lock::Args),
    Up(up::Args),
    Exec(exec::Args),
    Shell(shell::Args),
    Ls(ls::Args),
    Status(status::Args),
    Logs(logs::Args),
    Agent(agent::Args),
    Add(add::Args),
    Remove(remove::Args),
    Allow(allow::Args),
    Deny(deny::Args),
    Trust(trust::Args),
    Policy(policy::Args),
    Ports(ports::Args),
    Diff(diff::Args),
    Apply(apply::Args),
    Push(push::Args),
    Stop(stop::Args),
    Rm(rm::Args),
    Reset(reset::Args),
    Image(image::Args),
    Df(df::Args),
    Prune(prune::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    /// The sandbox process; started by `sbx up`, never by hand
    #[command(name = "sandbox-process", hide = true)]
    SandboxProcess {
        /// Directory of the sandbox
        directory: std::path::PathBuf,
    },
}

/// Which sandbox a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Selection {
    /// The sandbox by its name, as `sbx ls` shows it; without it, the one of this repository
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) name: Option<String>,
}
