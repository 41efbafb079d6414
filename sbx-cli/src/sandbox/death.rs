//! How a sandbox process ended that did not get to write it down itself.
//!
//! Only who started a process learns that from the kernel: the command that a sandbox was started for. A sandbox that
//! was left running has nobody to tell, and then all that can be known is that its process is gone.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Signal;

use super::{
    directory::SandboxDirectory,
    state::{Phase, State},
};
use crate::error::Result;

/// What to do about a filter that forbids too much.
pub(super) const FILTER_HINT: &str = "this is a fault of sbx, or of whoever broke into it; the kernel's log (`journalctl -k`) has the call, \
                                      and with SBX_SECCOMP=log a sandbox is not ended for it";

/// What is said of a process whose end nobody saw.
pub(super) const UNSEEN: &str = "its process was killed, or the host went away";

/// Whether a filter of system calls ended it.
pub(super) fn is_violation(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SYS.as_raw())
}

/// How it ended, in words.
pub(super) fn explain(status: ExitStatus) -> String {
    match status.signal() {
        Some(_) if is_violation(status) => {
            "its process made a system call that its filters forbid (SIGSYS)".to_owned()
        }
        Some(signal) => format!("its process was killed by signal {signal}"),
        None => format!("its process ended by itself ({status})"),
    }
}

/// Writes down how the process of `directory` ended, unless it did that itself or another one lives there already.
pub(super) fn record(directory: &SandboxDirectory, status: ExitStatus) -> Result<()> {
    let _lock = directory.lock_start()?;
    if directory.is_alive() {
        return Ok(());
    }
    match State::read(directory)? {
        Some(mut state) if state.phase != Phase::Stopped => {
            state.enter(Phase::Died, Some(explain(status)));
            state.write(directory)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told_in_words() {
        let told = |status| explain(ExitStatus::from_raw(status));
        assert_eq!(told(31), "its process made a system call that its filters forbid (SIGSYS)");
        assert_eq!(told(0x80 | 31), told(31), "with or without a core");
        assert_eq!(told(9), "its process was killed by signal 9");
        assert_eq!(told(0x700), "its process ended by itself (exit status: 7)");
    }
}
