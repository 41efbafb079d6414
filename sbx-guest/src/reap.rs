//! Every child of PID 1: started, signalled and collected in one place.
//!
//! PID 1 inherits each orphan of the system and must collect all of them, so it waits for *any* child. The
//! commands of the agent are children too, and their status must reach whoever started them:
//!
//! ```text
//! spawn:   lock ── fork, exec, register pid ── unlock
//! thread:  wait until some child has ended, leaving it a zombie ── lock ── collect, tell its owner ── unlock
//! signal:  lock ── only if the pid is still registered ── unlock
//! ```
//!
//! The lock around fork and exec means that a child is collected only after it was registered, and that the
//! standard library can collect a child whose exec failed before the thread does. A pid is signalled only while
//! it is registered, so never after it went to another process.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use sbx_proto::Exit;

use crate::sys::zombie;

/// Starts and collects children; one per process.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits for which child.
    waiting: HashMap<Pid, Arc<OwnedFd>>,
    /// Counts calls of [`Reaper::spawn`], so that a look that found no child can be told from an outdated one.
    spawned: u64,
    /// There is no child at all.
    idle: bool,
    /// No more children are started.
    closed: bool,
}

/// A running command.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its process id, which is also its process group and session.
    pub pid: Pid,
    /// Readable once the command has ended; [`Child::exit`] tells how.
    pub ended: Arc<OwnedFd>,
}

/// Why no child was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The machine is about to power off.
    #[error("the sandbox is powering off")]
    Closed,
    /// The kernel refused.
    #[error("cannot start the command")]
    Start {
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl Reaper {
    /// Starts the thread that collects children.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let reaper = Arc::new(Self::default());
        let own = Arc::clone(&reaper);
        std::thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || own.collect())?;
        Ok(reaper)
    }

    /// Starts `command`.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child, SpawnError> {
        let ended = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|source| SpawnError::Start { source: source.into() })?;
        let ended = Arc::new(ended);
        let mut state = self.lock();
        if state.closed {
            return Err(SpawnError::Closed);
        }
        let child = command.spawn().map_err(|source| SpawnError::Start { source })?;
        let pid = Pid::from_child(&child);
        state.waiting.insert(pid, Arc::clone(&ended));
        state.spawned = state.spawned.wrapping_add(1);
        state.idle = false;
        self.changed.notify_all();
        Ok(Child { pid, ended })
    }

    /// Sends a signal to the process group of a child, unless it has ended.
    pub(crate) fn signal_group(&self, pid: Pid, signal: Signal) {
        let state = self.lock();
        if state.waiting.contains_key(&pid) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Refuses to start anything from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits until there is no child left, and tells whether that was so within `limit`.
    pub(crate) fn wait_until_idle(&self, limit: Duration) -> bool {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while !state.idle {
            let Some(left) = deadline.and_then(|deadline| deadline.checked_duration_since(Instant::now()))
            else {
                return false;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn collect(&self) {
        loop {
            let seen = self.lock().spawned;
            match zombie::wait_for_any() {
                Ok(pid) => self.collect_one(pid),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.wait_for_spawn(seen),
            }
        }
    }

    fn collect_one(&self, pid: Pid) {
        let mut state = self.lock();
        // Not there any more: its exec failed, and the standard library collected it.
        let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) else { return };
        if let Some(ended) = state.waiting.remove(&pid) {
            // The counter carries the status; it starts at 0, at which an eventfd is not readable.
            let value = u64::from(status.as_raw().cast_unsigned()).saturating_add(1);
            let _ = rustix::io::write(&*ended, &value.to_ne_bytes());
        }
    }

    fn wait_for_spawn(&self, seen: u64) {
        let mut state = self.lock();
        if state.spawned == seen {
            state.idle = true;
            self.changed.notify_all();
        }
        while state.spawned == seen {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// How the command ended; waits for it.
    pub(crate) fn exit(&self) -> Exit {
        let mut value = [0_u8; 8];
        while rustix::io::read(&*self.ended, &mut value) == Err(rustix::io::Errno::INTR) {}
        let raw = u64::from_ne_bytes(value).saturating_sub(1);
        let status = ExitStatus::from_raw(u32::try_from(raw).unwrap_or_default().cast_signed());
        match (status.signal(), status.code()) {
            (Some(signal), _) => Exit::Signal(signal),
            (None, code) => Exit::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
        }
    }
}
