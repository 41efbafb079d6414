//! What a child does between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Resource, Rlimit, Uid};

/// Everything about a new process that the standard library cannot set.
#[derive(Clone, Debug)]
pub(crate) struct ChildSetup {
    /// Take standard input as the controlling terminal of the new session.
    pub controlling_terminal: bool,
    /// User, group and supplementary groups; `None` leaves them.
    pub credentials: Option<(Uid, Gid, Vec<Gid>)>,
    /// Resource limits.
    pub limits: Vec<(Resource, Rlimit)>,
}

/// Makes `command` start in a session of its own, with everything that `setup` says.
pub(crate) fn prepare(command: &mut Command, setup: ChildSetup) {
    // SAFETY: the closure runs in the forked child, where other threads of this process do not exist and may have
    // held locks. `apply` makes plain system calls only: no allocation, no lock, no panic.
    unsafe {
        command.pre_exec(move || apply(&setup));
    }
}

fn apply(setup: &ChildSetup) -> io::Result<()> {
    rustix::process::setsid()?;
    if setup.controlling_terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    for (resource, limit) in &setup.limits {
        // A limit that cannot be raised (by an ordinary user, in tests) is no reason not to run.
        let _ = rustix::process::setrlimit(*resource, *limit);
    }
    if let Some((uid, gid, groups)) = &setup.credentials {
        // The raw system calls, which change this thread only: after fork it is the only one.
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
    }
    Ok(())
}
