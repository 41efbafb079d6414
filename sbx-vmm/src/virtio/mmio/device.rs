//! A device on the bus, shared by the vCPUs that touch its registers and the thread that runs it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, epoll, eventfd};
use vm_memory::GuestMemoryMmap;

use super::registers::{Access, Register, decode};
use super::transport::{Effect, MmioState, Outcome, Transport};
use crate::virtio::events::{self, watch};
use crate::virtio::{DeviceKind, RestoreError, VirtioDevice};

/// Bits of InterruptStatus (virtio 1.2, 4.2.2): a used buffer, a change of configuration or status.
const USED_BUFFER: u32 = 1;
const CONFIGURATION: u32 = 2;

/// A virtio device with its registers.
pub struct MmioDevice {
    kind: DeviceKind,
    interrupt: Interrupt,
    /// For each queue what the guest kicks.
    kicks: Vec<OwnedFd>,
    /// Where the device's `wake_fd` is waited for, and under which token.
    epoll: Arc<OwnedFd>,
    token: u64,
    /// Mirrors `Transport::has_pending`, so that asking does not wait for a device that works.
    pending: AtomicBool,
    state: Mutex<State>,
}

struct State {
    transport: Transport,
    watched: bool,
}

/// The line to the guest. It is apart from the rest of the state, because a driver reads and acknowledges it for each
/// interrupt and shall not wait for a device that works on the next request.
struct Interrupt {
    status: AtomicU32,
    event: OwnedFd,
}

impl Interrupt {
    fn raise(&self, reason: u32) {
        self.status.fetch_or(reason, Ordering::SeqCst);
        if let Err(error) = events::ring(&self.event) {
            tracing::warn!(%error, "cannot interrupt the guest");
        }
    }
}

impl MmioDevice {
    /// A device that waits for its driver. While it is active its `wake_fd` is in `epoll` under `token`.
    pub(super) fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemoryMmap,
        epoll: Arc<OwnedFd>,
        token: u64,
    ) -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let kicks = device.queue_sizes().iter().map(|_| event()).collect::<Result<_, _>>()?;
        Ok(Self {
            kind: device.kind(),
            interrupt: Interrupt { status: AtomicU32::new(0), event: event()? },
            kicks,
            epoll,
            token,
            pending: AtomicBool::new(false),
            state: Mutex::new(State { transport: Transport::new(device, memory)?, watched: false }),
        })
    }

    /// Which device it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The event that interrupts the guest.
    #[must_use]
    pub fn interrupt(&self) -> &OwnedFd {
        &self.interrupt.event
    }

    /// The events that stand for a write of the queue's number to QueueNotify, in the order of the queues.
    #[must_use]
    pub fn kicks(&self) -> &[OwnedFd] {
        &self.kicks
    }

    /// The guest reads `bytes` at `offset` of the device's window.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        let value = match decode(offset, bytes.len()) {
            Access::Register(Register::InterruptStatus) => self.interrupt.status.load(Ordering::SeqCst),
            Access::Register(register) => self.lock().transport.read(register),
            Access::Config(offset) => return self.lock().transport.read_config(offset, bytes),
            Access::Nothing => return,
        };
        for (byte, value) in bytes.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    /// The guest writes `bytes` at `offset` of the device's window. The configuration space of no device is writable.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let (Access::Register(register), Ok(bytes)) =
            (decode(offset, bytes.len()), <[u8; 4]>::try_from(bytes))
        else {
            return;
        };
        let value = u32::from_le_bytes(bytes);
        if register == Register::InterruptAck {
            self.interrupt.status.fetch_and(!value, Ordering::SeqCst);
            return;
        }
        let mut state = self.lock();
        match state.transport.write(register, value) {
            Effect::None => {}
            Effect::Due => self.kicks.iter().for_each(kick),
            // A kick comes this way only where nobody listens to the write itself.
            Effect::Kicked(queue) => {
                let queue = usize::try_from(queue).ok().and_then(|queue| self.kicks.get(queue));
                queue.into_iter().for_each(kick);
            }
            Effect::Reset => self.interrupt.status.store(0, Ordering::SeqCst),
            Effect::Broken => self.tell_broken(&state),
        }
        self.settle(&mut state);
    }

    /// The device as its driver left it. No vCPU runs, and the thread of the devices is paused
    /// ([`LoopHandle::pause`](super::LoopHandle::pause)): guest memory, which is saved after this, changes no more.
    #[must_use]
    pub fn save(&self) -> MmioState {
        self.lock().transport.save(self.interrupt.status.load(Ordering::SeqCst))
    }

    /// Goes on where `save` left off. The device has the same configuration, guest memory is as it was, and neither a vCPU
    /// nor the thread of the devices has been started yet.
    ///
    /// # Errors
    /// If the state does not fit the device. Then no driver has been seen.
    pub fn restore(&self, saved: MmioState) -> Result<(), RestoreError> {
        let mut state = self.lock();
        let reasons = saved.interrupt_status & (USED_BUFFER | CONFIGURATION);
        self.interrupt.status.store(0, Ordering::SeqCst);
        let result = state.transport.restore(saved);
        if result.is_ok() {
            // An interrupt or a kick too many does no harm, one that was lost in between would.
            if reasons != 0 {
                self.interrupt.raise(reasons);
            }
            if state.transport.is_active() {
                self.kicks.iter().for_each(kick);
            }
        }
        self.settle(&mut state);
        result
    }

    /// Queue `index` was kicked.
    pub(super) fn handle_kick(&self, index: usize) {
        self.round(|transport| transport.handle_queue(index));
    }

    /// The device's `wake_fd` is readable.
    pub(super) fn handle_wake(&self) {
        self.round(Transport::handle_wake);
    }

    /// Whether there is something for `handle_pending`.
    pub(super) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Goes on with what an earlier round left.
    pub(super) fn handle_pending(&self) {
        self.round(Transport::handle_pending);
    }

    /// Nobody serves the device any more.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        state.transport.reset();
        self.settle(&mut state);
    }

    fn round(&self, run: impl FnOnce(&mut Transport) -> Outcome) {
        let mut state = self.lock();
        let outcome = run(&mut state.transport);
        if outcome.used {
            self.interrupt.raise(USED_BUFFER);
        }
        if outcome.broken {
            self.tell_broken(&state);
        }
        self.settle(&mut state);
    }

    /// The status has changed to DEVICE_NEEDS_RESET; a driver that is up is told (2.1.2).
    fn tell_broken(&self, state: &State) {
        if state.transport.may_notify() {
            self.interrupt.raise(CONFIGURATION);
        }
    }

    /// Brings what is outside of the state in line with it.
    fn settle(&self, state: &mut State) {
        self.pending.store(state.transport.has_pending(), Ordering::Relaxed);
        let wanted = state.transport.is_active();
        if wanted == state.watched {
            return;
        }
        let Some(wake) = state.transport.wake_fd() else { return };
        let result = if wanted {
            watch(&self.epoll, wake, self.token)
        } else {
            epoll::delete(&*self.epoll, wake).map_err(io::Error::from)
        };
        if let Err(error) = result {
            tracing::warn!(device = self.kind.name(), %error, "cannot watch the host side of a device");
        }
        state.watched = wanted;
    }

    /// The state is consistent between any two of its statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MmioDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MmioDevice").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn kick(event: &OwnedFd) {
    if let Err(error) = events::ring(event) {
        tracing::warn!(%error, "cannot tell a device of a kick");
    }
}
