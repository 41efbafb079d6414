//! Signals to sbx become signals to the command.

use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    thread,
};

use rustix::process::{Signal, getpid, kill_process};
use sbx_proto::AgentRequest;
use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH},
    iterator::Signals,
};

use super::{Agent, terminal::Terminal};
use crate::error::{CommandError, Result};

/// As many Ctrl-C as docker takes before it lets go of a command that ignores them.
const GIVE_UP_AFTER: usize = 3;

/// What the signal thread found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Watcher {
    interrupts: Arc<AtomicUsize>,
    last: Arc<AtomicI32>,
}

impl Watcher {
    /// Whether the user gave up on the command, so that the connection was cut from this side.
    pub(super) fn gave_up(&self) -> bool {
        self.interrupts.load(Ordering::SeqCst) >= GIVE_UP_AFTER
    }

    /// The signal that came last.
    pub(super) fn last_signal(&self) -> i32 {
        self.last.load(Ordering::SeqCst)
    }

    fn note(&self, signal: i32) {
        self.last.store(signal, Ordering::SeqCst);
        self.interrupts.fetch_add(1, Ordering::SeqCst);
    }
}

/// Watches signals on a thread of its own until the process ends.
///
/// # Errors
/// If the handlers cannot be installed.
pub(super) fn watch(agent: Agent, raw: Option<Terminal>, has_terminal: bool) -> Result<Watcher> {
    let failed = |error: io::Error| CommandError::failed("cannot watch signals").with_source(error);
    let mut wanted = vec![SIGHUP, SIGINT, SIGQUIT, SIGTERM];
    if has_terminal {
        wanted.extend([SIGCONT, SIGWINCH]);
    }
    if raw.is_some() {
        wanted.push(SIGTSTP);
    }
    let mut signals = Signals::new(wanted).map_err(failed)?;
    let watcher = Watcher::default();
    let noted = watcher.clone();
    let body = move || {
        for signal in signals.forever() {
            handle(signal, &agent, raw.as_ref(), &noted);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body).map_err(failed)?;
    Ok(watcher)
}

fn handle(signal: i32, agent: &Agent, raw: Option<&Terminal>, noted: &Watcher) {
    match signal {
        SIGWINCH => resize(agent),
        SIGCONT => {
            // A shell that puts us back into the foreground has set its own terminal modes in between.
            if let Some(raw) = raw {
                raw.make_raw();
            }
            resize(agent);
        }
        SIGTSTP => {
            if let Some(raw) = raw {
                raw.restore();
            }
            let _ = kill_process(getpid(), Signal::STOP);
        }
        other => {
            noted.note(other);
            agent.send(&AgentRequest::Signal(other));
            if noted.gave_up()
                && let Ok(stream) = agent.0.lock()
            {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn resize(agent: &Agent) {
    if let Some(size) = Terminal::size() {
        agent.send(&AgentRequest::Resize(size));
    }
}
