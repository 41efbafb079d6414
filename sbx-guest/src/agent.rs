//! Takes exec connections, one thread each.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sbx_proto::{AGENT_PORT, AgentReply, AgentRequest, RefusedKind, read_frame, write_frame};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener};

use crate::capture::Changes;
use crate::certificates;
use crate::console;
use crate::exec::{self, Defaults};
use crate::reap::Reaper;
use crate::session::{Leftover, Session};
use crate::shutdown;

/// Stack of a connection's thread: it holds no large buffers, and there may be many.
const STACK_BYTES: usize = 128 * 1024;

/// How long commands may take to end by themselves before a capture.
const CAPTURE_GRACE: Duration = Duration::from_secs(5);

/// Runs commands for the host.
#[derive(Debug)]
pub(crate) struct Agent {
    defaults: Defaults,
    reaper: Arc<Reaper>,
    /// What the host may ask for once no command runs any more.
    changes: Option<Changes>,
    /// Connections that are still being served.
    open: Mutex<usize>,
    closed: Condvar,
}

impl Agent {
    /// Makes an agent; [`Agent::listen`] opens it to the host.
    pub(crate) fn new(defaults: Defaults, reaper: Arc<Reaper>, changes: Option<Changes>) -> Arc<Self> {
        Arc::new(Self { defaults, reaper, changes, open: Mutex::new(0), closed: Condvar::new() })
    }

    /// Listens, and serves whoever connects on threads of its own.
    ///
    /// # Errors
    /// If the port or the thread cannot be had.
    pub(crate) fn listen(self: &Arc<Self>) -> io::Result<()> {
        let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, AGENT_PORT)?;
        let agent = Arc::clone(self);
        std::thread::Builder::new().name("agent".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            loop {
                match listener.accept() {
                    // Processes of the guest may dial themselves, and are not to become root that way.
                    Ok((stream, peer)) if peer.cid() == VMADDR_CID_HOST => agent.take(stream.into()),
                    Ok(_) => {}
                    Err(error) => {
                        console::say(&format!("cannot take a connection: {error}"));
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
        Ok(())
    }

    /// Serves one connection on a thread of its own.
    pub(crate) fn take(self: &Arc<Self>, connection: OwnedFd) {
        self.count(|open| open.saturating_add(1));
        let agent = Arc::clone(self);
        let thread =
            std::thread::Builder::new().name("exec".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let leftover = agent.serve(connection);
                agent.count(|open| open.saturating_sub(1));
                if let Some(leftover) = leftover {
                    leftover.drain();
                }
            });
        if let Err(error) = thread {
            // The connection went away with the closure, so the host sees that nothing came of it.
            self.count(|open| open.saturating_sub(1));
            console::say(&format!("cannot serve a connection: {error}"));
        }
    }

    /// Waits until every connection was served to its end, but no longer than `limit`.
    pub(crate) fn wait_until_quiet(&self, limit: Duration) {
        let since = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while *open > 0 {
            let Some(left) = limit.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
                return;
            };
            open = self.closed.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn serve(&self, connection: OwnedFd) -> Option<Leftover> {
        let mut stream = File::from(connection);
        let request = match read_frame(&mut stream) {
            Ok(AgentRequest::Exec(request)) => request,
            Ok(AgentRequest::Capture) => {
                self.capture(&mut stream);
                return None;
            }
            Ok(_) => {
                refuse(&mut stream, RefusedKind::Failed, "the first frame must say what to run".to_owned());
                return None;
            }
            Err(error) => {
                refuse(&mut stream, RefusedKind::Failed, console::chain(&error));
                return None;
            }
        };
        match exec::start(&request, &self.defaults, &self.reaper) {
            Ok(running) => match Session::new(OwnedFd::from(stream), running, &self.reaper) {
                Ok(session) => Some(session.run()),
                Err(error) => {
                    console::say(&format!("cannot serve a command: {error}"));
                    None
                }
            },
            Err(error) => {
                refuse(&mut stream, error.kind(), console::chain(&error));
                None
            }
        }
    }

    /// Ends all commands and sends what they wrote. No command can be started afterwards: what it wrote would be in
    /// the capture or not.
    fn capture(&self, stream: &mut File) {
        let Some(changes) = &self.changes else {
            let message = "what was written here cannot be captured".to_owned();
            return refuse(stream, RefusedKind::Failed, message);
        };
        shutdown::end_commands(&self.reaper, CAPTURE_GRACE);
        // What the boot put there of the host's is no work of the commands'.
        if let Err(error) = certificates::install(Path::new("/"), &[]) {
            console::say(&format!("cannot take the host's certificates away: {}", console::chain(&error)));
        }
        changes.send(stream);
        // Until the host has read it all, or gone: a machine that powers off first would take the end with it.
        let _ = rustix::net::shutdown(&*stream, rustix::net::Shutdown::Write);
        let _ = stream.read(&mut [0]);
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = change(*open);
        self.closed.notify_all();
    }
}

fn refuse(stream: &mut File, kind: RefusedKind, message: String) {
    let _ = write_frame(stream, &AgentReply::Refused { kind, message });
}

#[cfg(test)]
mod tests;
