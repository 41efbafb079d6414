//! What a child process does between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal};

/// Makes a child of `command` die with the thread that starts it, which must therefore outlive it; puts it in a
/// session of its own, away from the terminal; and closes every file descriptor from 3 on when it executes.
pub(crate) fn tie(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe functions may run; these are plain system calls on plain
    // values, without allocation or locks.
    unsafe { command.pre_exec(move || tie_self(parent)) };
}

fn tie_self(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from(rustix::io::Errno::SRCH));
    }
    rustix::process::setsid()?;
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or_default();
    // SAFETY: no memory is involved; descriptors stay open until exec, where nobody uses them any more.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Linux before 5.11: what we open ourselves is close-on-exec anyway.
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
            error => Err(error),
        },
    }
}
