//! What each thread may ask of the kernel.
//!
//! ```text
//! process.rules  forbids: what neither we nor QEMU ever need; for the whole process, from before its second thread on
//! offline.rules  forbids: the network; the same, or only for QEMU if the guest has a network card
//!   └─ thread.rules + the lists of a role  permit: what this kind of thread needs, and nothing else
//! ```
//!
//! A guest that took over a device's thread would find a thread that can serve this one device: the one of a disk opens
//! no file, the one of the shared directories has no sockets, none starts a program, and none gets memory that is
//! executable, and only the one of the network card has the internet. Filters are added up and never taken away, and threads
//! and programs inherit them, so every thread [`install`]s its own first thing ([`spawn`]), and no guest begins before all
//! have theirs ([`Machine::run`](crate::machine::Machine::run)). The thread that starts QEMU takes its own when QEMU is
//! there: before, it has what QEMU has, which is `process.rules` and `offline.rules`, and QEMU adds its own filter.
//!
//! A call that is not permitted ends the process with SIGSYS at once. The C library may make some calls at any time and
//! can do without an answer; those are refused with an error instead.
//!
//! The lists are read and compiled when they are needed. In a release build that takes 15 to 35 µs and the kernel another 70 to
//! 170 µs for taking the filter, in each thread for itself; the process as a whole is forbidden in 0.2 ms. [`rules`] has their
//! language.

use std::sync::OnceLock;

use seccompiler::{BackendError, SeccompAction};
use serde::Serialize;

use crate::virtio::DeviceKind;

mod names;
mod prefix;
mod rules;
mod threads;

pub use rules::RuleError;
use rules::{List, Rules};
pub use threads::spawn;
pub(crate) use threads::{Unfiltered, wait_for_filters};

/// What the kernel can answer a filter, as it says itself; Linux 4.14 and newer.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// A kind of thread.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// The process's first thread once the machine is built: decides, records, answers.
    Owner,
    /// Takes connections to the control socket.
    Control,
    /// Talks to the guest's agent and sets its clock.
    Guest,
    /// Waits for one thing and reports it.
    Waiting,
    /// Writes what comes out of a pipe to a log.
    Log,
    /// Serves one device to QEMU.
    VhostUser(DeviceKind),
    /// Serves the devices of the kvm engine, but for the shared directories and the network card.
    DeviceLoop,
    /// Serves shared directories for the kvm engine.
    FsWorker,
    /// Serves the network card for the kvm engine.
    NetWorker,
    /// Runs a virtual processor of the kvm engine.
    Vcpu,
    /// Waits for the end of the kvm engine's processors.
    Keeper,
    /// Has started QEMU and waits for its end.
    Qemu,
}

macro_rules! lists {
    ($($name:literal)*) => {
        &[$(List { name: concat!($name, ".rules"), text: include_str!(concat!($name, ".rules")) }),*]
    };
}

/// What nobody may.
const PROCESS: &[List] = lists!["process"];

/// What only the network card's thread may, in a process with one.
const OFFLINE: &[List] = lists!["offline"];

/// What nobody may in a process without a network card.
const PROCESS_OFFLINE: &[List] = lists!["process" "offline"];

impl Role {
    /// The lists of what it may, the more special ones last.
    const fn lists(self) -> &'static [List] {
        match self {
            // With what the threads need that it starts: a filter cannot be wider than the one that a thread begins with.
            Self::Owner => lists!["thread" "spawn" "waiting" "owner"],
            Self::Control => lists!["thread" "spawn" "control"],
            Self::Guest => lists!["thread" "guest"],
            Self::Waiting => lists!["thread" "waiting"],
            Self::Log => lists!["thread" "log"],
            Self::VhostUser(DeviceKind::Block) => lists!["thread" "events" "vhost-user" "block"],
            Self::VhostUser(DeviceKind::Fs) => lists!["thread" "events" "vhost-user" "fs"],
            Self::VhostUser(DeviceKind::Vsock) => lists!["thread" "events" "vhost-user" "vsock"],
            Self::VhostUser(DeviceKind::Net) => lists!["thread" "events" "vhost-user" "net"],
            Self::VhostUser(DeviceKind::Rng) => lists!["thread" "events" "vhost-user"],
            Self::DeviceLoop => lists!["thread" "events" "block" "vsock"],
            Self::FsWorker => lists!["thread" "events" "fs"],
            Self::NetWorker => lists!["thread" "events" "net"],
            // With what writes the console's log, as long as that is done where the guest writes to its port.
            Self::Vcpu => lists!["thread" "log" "vcpu"],
            Self::Keeper => lists!["thread" "log" "keeper"],
            Self::Qemu => lists!["thread" "qemu"],
        }
    }
}

/// What becomes of a thread that makes a call that it may not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// The kernel ends the whole process with SIGSYS.
    #[default]
    Kill,
    /// The kernel logs the call and makes it: for finding out which list has a hole.
    Log,
}

impl From<Violation> for SeccompAction {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Kill => Self::KillProcess,
            Violation::Log => Self::Log,
        }
    }
}

/// What [`confine_process`] was told, for the threads to come. A process has one answer to violations, as it has one cage.
static VIOLATION: OnceLock<Violation> = OnceLock::new();

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// A list is wrong, which is a fault of this program.
    #[error("a list of system calls is wrong")]
    Rules(#[from] RuleError),
    /// A list cannot be compiled, for this architecture perhaps.
    #[error("a list of system calls cannot be compiled")]
    Compile(#[from] BackendError),
    /// The kernel did not take a filter.
    #[error("the kernel did not take a filter of system calls")]
    Refused(#[source] seccompiler::Error),
}

/// Forbids the calling thread, and those that it makes, what nobody here needs, for good, and the network if there is none;
/// says what becomes of a thread that makes a call that it may not, then and later. To be called while there is only one
/// thread.
///
/// # Errors
/// If the kernel has no seccomp filters.
pub fn confine_process(violation: Violation, network: bool) -> Result<(), SeccompError> {
    forbid(violation, network)?;
    // Whoever comes second is in a process that is confined already.
    let _ = VIOLATION.set(violation);
    Ok(())
}

/// [`confine_process`] for the calling thread and those that it makes.
pub(crate) fn forbid(violation: Violation, network: bool) -> Result<(), SeccompError> {
    let lists = if network { PROCESS } else { PROCESS_OFFLINE };
    let mut program = Rules::read(lists)?.forbidding(violation.into())?;
    prefix::close_x32(&mut program, violation.into());
    seccompiler::apply_filter(&program).map_err(SeccompError::Refused)
}

/// Forbids the calling thread, and the threads and programs that it makes, the network for good, in a process that has one.
///
/// # Errors
/// If the kernel does not take the filter.
pub(crate) fn go_offline() -> Result<(), SeccompError> {
    let violation = VIOLATION.get().copied().unwrap_or_default();
    let program = Rules::read(OFFLINE)?.forbidding(violation.into())?;
    seccompiler::apply_filter(&program).map_err(SeccompError::Refused)
}

/// Permits the calling thread, and those that it makes, what `role` needs and nothing else, for good.
///
/// Ends the process if the kernel does not take the filter: having taken [`confine_process`]'s, it has no reason but a
/// lack of memory, and a thread must not run without.
pub fn install(role: Role) {
    if let Err(error) = permit(role, VIOLATION.get().copied().unwrap_or_default()) {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(?role, %error, cause, "a thread cannot be confined; the process ends");
        std::process::abort();
    }
}

fn permit(role: Role, violation: Violation) -> Result<(), SeccompError> {
    let program = Rules::read(role.lists())?.permitting(violation.into())?;
    seccompiler::apply_filter(&program).map_err(SeccompError::Refused)
}

/// Whether this kernel can end a process for a call that it may not make, and refuse calls.
pub(crate) fn is_available() -> bool {
    let actions = std::fs::read_to_string(ACTIONS).unwrap_or_default();
    ["kill_process", "errno", "log"]
        .iter()
        .all(|wanted| actions.split_whitespace().any(|word| word == *wanted))
}

#[cfg(test)]
mod tests;
