//! A driver in place of a guest: registers through the bus, rings in memory, kicks through QueueNotify.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustix::event::{PollFd, PollFlags, Timespec};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{EventLoop, MmioDevice};
use crate::seccomp::Role;
use crate::testing::watched::{Event, Watched};
use crate::testing::{Buffer, FakeLink, Guest, LinkEvent, MEMORY_BYTES};
use crate::virtio::net::NetDevice;
use crate::virtio::round;
use crate::virtio::vsock::VsockDevice;
use crate::virtio::{DeviceKind, VirtioDevice};

mod any;
mod negotiation;
mod queues;
mod saved;
mod service;

const SIZE: u16 = 16;
const NEEDS_RESET: u32 = 64;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

struct Driver {
    bus: EventLoop,
    device: Arc<MmioDevice>,
    guest: Guest,
    events: Receiver<Event>,
}

impl Driver {
    fn new() -> Self {
        let (device, events) = Watched::new(DeviceKind::Rng);
        Self::with(Box::new(device), events, &[SIZE])
    }

    fn with(device: Box<dyn VirtioDevice>, events: Receiver<Event>, sizes: &[u16]) -> Self {
        let guest = Guest::new(sizes);
        let mut bus = EventLoop::new().unwrap();
        let device = bus.attach(device, guest.memory()).unwrap();
        Self { bus, device, guest, events }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut bytes = [0xee; 4];
        self.device.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    fn status(&self) -> u32 {
        self.read(0x70)
    }

    fn features(&self) -> u64 {
        let word = |selector| {
            self.write(0x14, selector);
            u64::from(self.read(0x10))
        };
        word(0) | word(1) << 32
    }

    /// As far as FEATURES_OK; says whether that was taken.
    fn negotiate(&self, features: u64) -> bool {
        self.write(0x70, 1);
        self.write(0x70, 3);
        for (selector, half) in [(0, low(features)), (1, low(features >> 32))] {
            self.write(0x24, selector);
            self.write(0x20, half);
        }
        self.write(0x70, 11);
        self.status() == 11
    }

    fn set_up_queue(&self, queue: u32, size: u16, addresses: [u64; 3]) {
        self.write(0x30, queue);
        self.write(0x38, u32::from(size));
        for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(addresses) {
            self.write(offset, low(address));
            self.write(offset + 4, low(address >> 32));
        }
        self.write(0x44, 1);
    }

    /// All of it, as Linux does it.
    fn start(&self, sizes: &[u16]) {
        assert!(self.negotiate(self.features()));
        for (queue, size) in (0..).zip(sizes) {
            self.set_up_queue(queue, *size, self.guest.addresses(queue as usize));
            assert_eq!(self.read(0x44), 1);
        }
        self.write(0x70, 15);
    }

    fn kick(&self, queue: u32) {
        self.write(0x50, queue);
        self.settle();
    }

    /// Lets the devices do what there is to do.
    fn settle(&self) {
        while self.bus.has_pending() || self.is_ready() {
            self.bus.turn(Some(&NOW)).unwrap();
        }
    }

    fn is_ready(&self) -> bool {
        let mut sources = [PollFd::new(self.bus.epoll(), PollFlags::IN)];
        rustix::event::poll(&mut sources, Some(&NOW)).unwrap() > 0
    }

    /// The reasons of the interrupt that came, acknowledged; `None` if none came.
    fn interrupt(&self) -> Option<u32> {
        let mut counter = [0_u8; 8];
        rustix::io::read(self.device.interrupt(), &mut counter).ok()?;
        let reasons = self.read(0x60);
        self.write(0x64, reasons);
        assert_eq!(self.read(0x60), 0);
        Some(reasons)
    }

    /// Asks for 16 random bytes and says how many came.
    fn request(&mut self) -> Option<u32> {
        let place = self.guest.allocate(16);
        self.guest.add(0, &[Buffer::Writable(place, 16)]);
        self.kick(0);
        self.guest.take_used(0).map(|(_, length)| length)
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap()
}
