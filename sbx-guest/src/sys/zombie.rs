//! Looking at ended children without taking them away.

use std::io;

use rustix::process::Pid;

/// Waits until any child of this process has ended, and tells which, leaving its status to be collected.
///
/// # Errors
/// `ECHILD` if there is no child at all, `EINTR`.
pub(crate) fn wait_for_any() -> io::Result<Pid> {
    // SAFETY: siginfo_t is plain data for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a valid, exclusively borrowed siginfo_t for the length of the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid succeeded, so the kernel filled the SIGCHLD member of the union, which has si_pid.
    let pid = unsafe { info.si_pid() };
    Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}
