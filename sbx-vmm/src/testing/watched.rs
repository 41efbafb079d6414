//! A device that tells what happens to it.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::virtio::rng::RngDevice;
use crate::virtio::{DeviceError, DeviceKind, DeviceState, RestoreError, VirtioDevice, Virtqueue};

/// What happens to a device.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// Its driver started it, with these features.
    Activated(u64),
    /// Its driver is gone.
    Reset,
}

/// The entropy device with a configuration space and features, watched.
pub(crate) struct Watched {
    kind: DeviceKind,
    inner: RngDevice,
    events: Sender<Event>,
}

impl Watched {
    /// One that says it is a `kind`, and what tells of it.
    pub(crate) fn new(kind: DeviceKind) -> (Self, Receiver<Event>) {
        let (events, received) = channel();
        (Self { kind, inner: RngDevice::new(), events }, received)
    }
}

impl VirtioDevice for Watched {
    fn kind(&self) -> DeviceKind {
        self.kind
    }

    fn queue_sizes(&self) -> &[u16] {
        self.inner.queue_sizes()
    }

    fn features(&self) -> u64 {
        1 << 5 | 1 << 40
    }

    fn config(&self) -> &[u8] {
        b"configuration"
    }

    fn activate(&mut self, features: u64) {
        self.events.send(Event::Activated(features)).unwrap();
    }

    fn handle_queue(&mut self, index: usize, queues: &mut [Virtqueue<'_>]) -> Result<(), DeviceError> {
        self.inner.handle_queue(index, queues)
    }

    fn reset(&mut self) {
        self.events.send(Event::Reset).unwrap();
    }

    fn save(&self) -> DeviceState {
        self.inner.save()
    }

    fn restore(&mut self, state: DeviceState) -> Result<(), RestoreError> {
        self.inner.restore(state)
    }
}
