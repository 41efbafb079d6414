//! One file per command: what it takes, whose doc is its manual, and `run`.

pub(crate) mod add;
pub(crate) mod agent;
pub(crate) mod allow;
pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod deny;
pub(crate) mod df;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod package;
pub(crate) mod policy;
pub(crate) mod ports;
pub(crate) mod prune;
pub(crate) mod push;
pub(crate) mod remove;
pub(crate) mod reset;
pub(crate) mod rm;
pub(crate) mod rule;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod trust;
pub(crate) mod up;

use crate::{
    args::{Arguments, Command},
    context::Context,
    error::{Outcome, Result},
    sandbox,
};

/// Runs what was typed.
pub(crate) fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    match arguments.command {
        Command::Init(args) => init::run(context, args),
        Command::Check(args) => check::run(context, &args),
        Command::Lock(args) => lock::run(context, &args),
        Command::Up(args) => up::run(context, args),
        Command::Exec(args) => exec::run(context, args),
        Command::Shell(args) => shell::run(context, args),
        Command::Ls(args) => ls::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::Logs(args) => logs::run(context, &args),
        Command::Agent(args) => agent::run(context, &args),
        Command::Add(args) => add::run(context, &args),
        Command::Remove(args) => remove::run(context, &args),
        Command::Allow(args) => allow::run(context, &args),
        Command::Deny(args) => deny::run(context, &args),
        Command::Trust(args) => trust::run(context, &args),
        Command::Policy(args) => policy::run(context, &args),
        Command::Ports(args) => ports::run(context, &args),
        Command::Diff(args) => diff::run(context, &args),
        Command::Apply(args) => apply::run(context, &args),
        Command::Push(args) => push::run(context, &args),
        Command::Stop(args) => stop::run(context, &args),
        Command::Rm(args) => rm::run(context, &args),
        Command::Reset(args) => reset::run(context, &args),
        Command::Image(args) => image::run(context, args),
        Command::Df(args) => df::run(context, &args),
        Command::Prune(args) => prune::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Completions(args) => Ok(completions::run(context, &args)),
        Command::SandboxProcess { directory } => sandbox::process::run(&directory),
    }
}
