//! The sandbox process of a plan: started, and waited for until its guest answers.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use sbx_proto::read_frame;
use sbx_vmm::{
    engine::{self, Choice, Engine, EngineKind, qemu},
    machine::{MachineExit, StartError},
    seccomp::Violation,
};

use super::{
    control::{Launch, Lease},
    death,
    directory::SandboxDirectory,
    plan::Plan,
};
use crate::{
    artifacts,
    context::Context,
    environment,
    error::{CommandError, Result},
    ui::printable,
};

/// How many of a log's last lines an error shows.
const TAIL_LINES: usize = 12;

/// What every machine stands on, whatever is in it.
#[derive(Clone, Debug)]
pub(crate) struct Foundation {
    /// ELF kernel.
    pub(crate) kernel: PathBuf,
    /// cpio archive with the guest.
    pub(crate) initramfs: PathBuf,
    /// Words for the kernel's command line.
    pub(crate) kernel_parameters: Vec<String>,
    /// The engine, and why it is this one.
    pub(crate) choice: Choice,
}

impl Foundation {
    /// What this host and its environment have; `engine` is the one that the user wants.
    ///
    /// # Errors
    /// If the kernel or an engine is missing.
    pub(crate) fn find(context: &Context, engine: Option<EngineKind>) -> Result<Self> {
        if environment::violation()? == Violation::Log {
            context.ui.warning(format_args!(
                "{}=log: what the sandbox process may ask of the kernel is not limited",
                environment::SBX_SECCOMP
            ));
        }
        let kernel = artifacts::kernel(&context.paths)?;
        let initramfs = artifacts::initramfs(&context.paths)?;
        let kernel_parameters = environment::words(environment::SBX_KERNEL_ARGS)?;
        let qemu = environment::path(environment::SBX_QEMU);
        let wanted = engine.map_or_else(environment::engine, |engine| Ok(Some(engine)))?;
        let choice = engine::choose(wanted, qemu.as_deref(), &engine::probe()).map_err(no_engine)?;
        Ok(Self { kernel, initramfs, kernel_parameters, choice })
    }
}

/// A sandbox process whose guest answers.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process.
    pub(crate) process: Child,
    /// Keeps it up.
    pub(crate) lease: Lease,
}

/// Writes `plan` into `directory`, whose state is written already, and starts the sandbox process there.
///
/// # Errors
/// If the machine does not come up, with what it said last.
pub(crate) fn start(context: &Context, directory: &SandboxDirectory, plan: &Plan) -> Result<Started> {
    plan.write(directory)?;
    let (mut process, launcher) = spawn(directory)?;
    let lease = await_ready(context, launcher, &mut process, directory)
        .map_err(|error| blame_old_qemu(error, &plan.engine))?;
    Ok(Started { process, lease })
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

/// Its standard input is a socket to us.
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
