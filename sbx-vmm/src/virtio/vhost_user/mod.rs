//! The vhost-user transport: serves one device to QEMU over one socket.
//!
//! ```text
//!  QEMU                          thread of the device
//!  control socket ──messages──▶  Session   (features, guest memory, ring addresses, kick and call eventfds)
//!  kick eventfds  ────────────▶  VirtioDevice::handle_queue ──call eventfds──▶ QEMU ──interrupt──▶ guest
//!  (host side)    ──wake_fd───▶  VirtioDevice::handle_wake
//! ```
//!
//! The `vhost` crate parses the messages; one thread per device does the rest, so that a change of guest memory or of
//! a ring never races with a request, and an idle device costs one small stack. The vhost-user specification is in
//! QEMU's documentation, `docs/interop/vhost-user.rst`.
//!
//! vhost-user has no DEVICE_NEEDS_RESET: a device whose driver broke the rules is simply not served any more until
//! the rings are set up anew.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;
use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

use super::VirtioDevice;
use super::events::{self, watch};
use crate::gate::Gate;
use crate::seccomp::{self, Role};

mod memory;
mod session;
mod vring;

use session::Session;

/// Stack of a device's thread in bytes; only what is touched becomes resident.
const STACK_BYTES: usize = 512 * 1024;

/// Events taken from epoll at a time: more than any device has sources.
const EVENTS: usize = 16;

/// What an epoll event is about; a ring's token is `FIRST_RING` plus its index.
const SOCKET: u64 = 0;
const STOP: u64 = 1;
const WAKE: u64 = 2;
const FIRST_RING: u64 = 16;

/// Serves `device` to the first one who connects to `listener`, on a thread of its own, once `gate` is open.
///
/// The thread ends when the peer hangs up, breaks the protocol, or the handle is dropped.
///
/// # Errors
/// When the host gives no thread, epoll or eventfd.
pub(crate) fn serve(
    device: Box<dyn VirtioDevice>,
    listener: UnixListener,
    gate: Gate,
) -> io::Result<ServerHandle> {
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let name = format!("virtio-{}", device.kind().name());
    let server = Server { listener, stop: Arc::clone(&stop), epoll: epoll::create(CreateFlags::CLOEXEC)? };
    let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES);
    let held = gate.clone();
    let thread = seccomp::spawn(thread, Role::VhostUser(device.kind()), move || {
        held.pass();
        server.run(device);
    })?;
    Ok(ServerHandle { stop, gate, thread: Some(thread) })
}

/// A device being served. Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct ServerHandle {
    stop: Arc<OwnedFd>,
    gate: Gate,
    thread: Option<JoinHandle<()>>,
}

impl ServerHandle {
    /// Whether the thread has ended: the peer hung up or broke the protocol.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops serving and waits for the thread to end. The peer should be gone already, lest its guest hang.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Err(error) = events::ring(&*self.stop) {
            tracing::warn!(%error, "cannot stop a device's thread");
            return;
        }
        // It looks whether it is to stop before it takes a connection.
        self.gate.open();
        if thread.join().is_err() {
            tracing::error!("a device's thread panicked");
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why the event loop ends.
#[derive(Debug)]
enum End {
    /// The handle was dropped.
    Stopped,
    /// The peer closed the socket.
    HungUp,
    /// The peer sent what the protocol does not allow, or the host failed.
    Failed(ServeError),
}

/// What makes serving impossible.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot wait for events")]
    Wait(#[source] io::Error),
    #[error("cannot accept the connection")]
    Accept(#[source] io::Error),
    #[error("the peer broke the vhost-user protocol")]
    Protocol(#[source] ProtocolError),
    #[error("kick eventfd of ring {index} is unusable")]
    Kick {
        index: usize,
        #[source]
        source: io::Error,
    },
}

/// The thread's own state.
struct Server {
    listener: UnixListener,
    stop: Arc<OwnedFd>,
    epoll: OwnedFd,
}

impl Server {
    fn run(self, device: Box<dyn VirtioDevice>) {
        let kind = device.kind().name();
        match self.accept_and_serve(device) {
            End::Stopped => tracing::debug!(device = kind, "stopped"),
            End::HungUp => tracing::debug!(device = kind, "the peer hung up"),
            End::Failed(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(device = kind, %error, cause, "the device is not served any more");
            }
        }
    }

    fn accept_and_serve(self, device: Box<dyn VirtioDevice>) -> End {
        let stream = match wait_for_peer(&self.listener, &self.stop) {
            Ok(Some(stream)) => stream,
            Ok(None) => return End::Stopped,
            Err(error) => return End::Failed(ServeError::Accept(error)),
        };
        let Self { listener, stop, epoll } = self;
        drop(listener);
        let epoll = Arc::new(epoll);
        let session = Arc::new(Mutex::new(Session::new(device, Arc::clone(&epoll))));
        let end = serve_peer(&epoll, &stop, stream, &session);
        lock(&session).reset();
        end
    }
}

/// The first connection, or `None` if the handle is dropped before.
fn wait_for_peer(listener: &UnixListener, stop: &OwnedFd) -> io::Result<Option<UnixStream>> {
    loop {
        let mut sources = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match rustix::event::poll(&mut sources, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let [connection, stopped] = sources;
        if !stopped.revents().is_empty() {
            return Ok(None);
        }
        if !connection.revents().is_empty() {
            return listener.accept().map(|(stream, _)| Some(stream));
        }
    }
}

/// The event loop.
fn serve_peer(epoll: &OwnedFd, stop: &OwnedFd, stream: UnixStream, session: &Arc<Mutex<Session>>) -> End {
    let socket = match stream.try_clone() {
        Ok(socket) => socket,
        Err(error) => return End::Failed(ServeError::Accept(error)),
    };
    for (source, token) in [(socket.as_fd(), SOCKET), (stop.as_fd(), STOP)] {
        if let Err(error) = watch(epoll, source, token) {
            return End::Failed(ServeError::Wait(error));
        }
    }
    let mut control = BackendReqHandler::from_stream(stream, Arc::clone(session));
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        // What was left undone to give the other sources a chance is taken up as soon as those are served.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = lock(session).has_pending().then_some(&now);
        match epoll::wait(epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return End::Failed(ServeError::Wait(error.into())),
        }
        for event in &events {
            let result = match event.data.u64() {
                STOP => return End::Stopped,
                SOCKET => match control.handle_request() {
                    Ok(()) | Err(ProtocolError::SocketRetry(_)) => Ok(()),
                    Err(
                        ProtocolError::Disconnected
                        | ProtocolError::PartialMessage
                        | ProtocolError::SocketBroken(_),
                    ) => {
                        return End::HungUp;
                    }
                    // QEMU enables the rings of a network card before it has accepted any feature (`peer_attach` in its
                    // virtio-net.c), which the protocol does not know and QEMU does not wait for an answer to.
                    Err(ProtocolError::InactiveFeature(VhostUserVirtioFeatures::PROTOCOL_FEATURES))
                        if lock(session).enable_early() =>
                    {
                        Ok(())
                    }
                    Err(error) => Err(ServeError::Protocol(error)),
                },
                WAKE => {
                    lock(session).wake();
                    Ok(())
                }
                token => lock(session).kicked(token.saturating_sub(FIRST_RING)),
            };
            if let Err(error) = result {
                return End::Failed(error);
            }
        }
        lock(session).run_pending();
    }
}

/// The session; there is only one thread, so that a poisoned lock has no meaning.
fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
