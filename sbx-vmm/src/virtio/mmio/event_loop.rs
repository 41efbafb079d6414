//! The thread that runs devices: kicks from the guest, wakes from the host, rounds that were not finished.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use vm_memory::GuestMemoryMmap;

use super::device::MmioDevice;
use crate::seccomp::{self, Role};
use crate::virtio::VirtioDevice;
use crate::virtio::events::{self, watch};

/// Stack of the thread in bytes; only what is touched becomes resident.
const STACK_BYTES: usize = 512 * 1024;

/// Events taken from epoll at a time.
const EVENTS: usize = 16;

/// What an epoll event is about: the device in the upper half of the token, in the lower half `WAKE` or the queue and
/// one. No device has the number of `STOP`.
const STOP: u64 = u64::MAX;
const DEVICE_SHIFT: u32 = 32;
const SOURCE: u64 = 0xffff_ffff;
const WAKE: u64 = 0;

/// Devices that one thread serves.
#[derive(Debug)]
pub struct EventLoop {
    epoll: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    /// Whether a stop is for a while only.
    paused: Arc<AtomicBool>,
    devices: Vec<Arc<MmioDevice>>,
}

impl EventLoop {
    /// A loop without devices.
    ///
    /// # Errors
    /// When the host gives no epoll or eventfd.
    pub fn new() -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        watch(&epoll, stop.as_fd(), STOP)?;
        Ok(Self { epoll, stop, paused: Arc::default(), devices: Vec::new() })
    }

    /// Puts `device` on the bus, to be served by this loop.
    ///
    /// # Errors
    /// When the host gives no eventfd, or the device's queues cannot be.
    pub fn attach(
        &mut self,
        device: Box<dyn VirtioDevice>,
        memory: &GuestMemoryMmap,
    ) -> io::Result<Arc<MmioDevice>> {
        let number = u64::try_from(self.devices.len()).unwrap_or(u64::MAX) << DEVICE_SHIFT;
        let device = MmioDevice::new(device, memory.clone(), Arc::clone(&self.epoll), number | WAKE)?;
        for (token, kick) in (number | WAKE..).skip(1).zip(device.kicks()) {
            // Edge-triggered, so that a kick need not be read: each one is an edge, whatever the counter is.
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&*self.epoll, kick, EventData::new_u64(token), flags)?;
        }
        let device = Arc::new(device);
        self.devices.push(Arc::clone(&device));
        Ok(device)
    }

    /// Whether there is nothing to serve.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Starts the thread, which may do what `role` needs.
    ///
    /// # Errors
    /// When the host gives none.
    pub fn start(self, name: &str, role: Role) -> io::Result<LoopHandle> {
        let (stop, paused) = (Arc::clone(&self.stop), Arc::clone(&self.paused));
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let thread = seccomp::spawn(thread, role, move || self.run())?;
        Ok(LoopHandle { stop, paused, thread: Some(thread) })
    }

    /// Runs devices until told to stop. It is left only if that is for a while.
    fn run(self) -> Option<Self> {
        loop {
            match self.turn(None) {
                Ok(true) => {}
                Ok(false) if self.paused.swap(false, Ordering::SeqCst) => return Some(self),
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "cannot wait for events; the guest's devices are dead");
                    break;
                }
            }
        }
        self.devices.iter().for_each(|device| device.detach());
        None
    }

    /// Waits for events, at most for `patience`, and handles them. `false` if it was told to stop.
    ///
    /// # Errors
    /// What epoll says.
    pub fn turn(&self, patience: Option<&Timespec>) -> io::Result<bool> {
        // What was left undone to give the other devices a chance is taken up as soon as those are served.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let patience = if self.has_pending() { Some(&now) } else { patience };
        let mut space = [MaybeUninit::<Event>::uninit(); EVENTS];
        let events: &[Event] = match epoll::wait(&*self.epoll, &mut space, patience) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        for device in self.devices.iter().filter(|device| device.has_pending()) {
            device.handle_pending();
        }
        let mut goes_on = true;
        for event in events {
            let token = event.data.u64();
            if token == STOP {
                events::drain(&*self.stop)?;
                // Kicks that came with it are not told of again.
                goes_on = false;
                continue;
            }
            let number = usize::try_from(token >> DEVICE_SHIFT).unwrap_or(usize::MAX);
            let Some(device) = self.devices.get(number) else { continue };
            match (token & SOURCE).checked_sub(1) {
                None => device.handle_wake(),
                Some(queue) => device.handle_kick(usize::try_from(queue).unwrap_or(usize::MAX)),
            }
        }
        Ok(goes_on)
    }

    /// What makes `turn` say that it was told to stop.
    #[cfg(test)]
    pub(super) fn stop_event(&self) -> &OwnedFd {
        &self.stop
    }

    /// Readable when `turn` would not wait.
    #[cfg(test)]
    pub(super) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Whether a device has something to do without any event.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.devices.iter().any(|device| device.has_pending())
    }
}

/// A running loop. Dropping it stops the thread and waits for it; its devices are reset.
#[derive(Debug)]
pub struct LoopHandle {
    stop: Arc<OwnedFd>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<EventLoop>>>,
}

impl LoopHandle {
    /// Stops the thread between two rounds and gives the loop back with its devices as they are, to be saved or to be
    /// started again.
    ///
    /// # Errors
    /// When the thread cannot be stopped, or had ended.
    pub fn pause(mut self) -> io::Result<EventLoop> {
        self.paused.store(true, Ordering::SeqCst);
        self.stop()?.ok_or_else(|| io::Error::other("the thread of the devices had ended"))
    }

    fn stop(&mut self) -> io::Result<Option<EventLoop>> {
        let Some(thread) = self.thread.take() else { return Ok(None) };
        events::ring(&*self.stop)?;
        thread.join().map_err(|_| io::Error::other("the thread of the devices panicked"))
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "cannot stop the thread of the devices");
        }
    }
}
