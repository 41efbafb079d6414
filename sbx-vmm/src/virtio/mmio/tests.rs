//! A driver in place of a guest: registers through the bus, rings in memory, kicks through QueueNotify.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{EventLoop, MmioDevice};
use crate::seccomp::Role;
use crate::testing::watched::{Event, Watched};
use crate::testing::{Buffer, Guest, MEMORY_BYTES};
use crate::virtio::round;
use crate::virtio::vsock::VsockDevice;
use crate::virtio::{DeviceKind, VirtioDevice};

mod saved;

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

#[test]
fn a_device_says_what_it_is() {
    let driver = Driver::new();
    let identity = [0x00, 0x04, 0x08, 0x0c].map(|offset| driver.read(offset));
    assert_eq!(identity, [0x7472_6976, 2, 4, 0x0078_6273]);
    assert_eq!(driver.features(), 1 << 5 | 1 << 28 | 1 << 29 | 1 << 32 | 1 << 40);
    driver.write(0x14, 2);
    assert_eq!(driver.read(0x10), 0, "there are no more features");
    driver.write(0x14, u32::MAX);
    assert_eq!(driver.read(0x10), 0);
    assert_eq!(driver.read(0x34), 64);
    driver.write(0x30, 1);
    assert_eq!((driver.read(0x34), driver.read(0x44)), (0, 0), "there is one queue");
    assert_eq!([0xb0, 0xb4].map(|offset| driver.read(offset)), [u32::MAX; 2], "and no shared memory");
}

#[test]
fn the_configuration_is_read_in_any_width_and_not_written() {
    let driver = Driver::new();
    driver.device.write(0x100, b"CONF");
    let read = |offset, length| {
        let mut bytes = vec![0xee; length];
        driver.device.read(offset, &mut bytes);
        bytes
    };
    assert_eq!(read(0x100, 4), b"conf");
    assert_eq!(read(0x10b, 1), b"o");
    assert_eq!(read(0x103, 2), b"fi");
    assert_eq!(read(0x10c, 8), b"n\0\0\0\0\0\0\0");
    assert_eq!(read(u64::MAX - 7, 8), [0; 8]);
}

#[test]
fn requests_are_served_and_interrupt() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.events.recv().unwrap(), Event::Activated(driver.features()));
    for _ in 0..100 {
        assert_eq!(driver.request(), Some(16));
        assert_eq!(driver.interrupt(), Some(1));
    }
    assert_eq!(driver.interrupt(), None);
}

#[test]
fn what_was_made_available_before_the_start_is_served_at_the_start() {
    let mut driver = Driver::new();
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
}

#[test]
fn a_kick_of_nothing_does_nothing() {
    let mut driver = Driver::new();
    driver.kick(0);
    driver.start(&[]);
    for queue in [0, 1, 77, u32::MAX] {
        driver.kick(queue);
    }
    assert_eq!((driver.status(), driver.interrupt()), (15, None));
    assert_eq!(driver.request(), None, "a queue that was not set up");
}

#[test]
fn features_are_agreed_on_or_refused() {
    let driver = Driver::new();
    for features in [0, 1 << 5, 1 << 32 | 1 << 6, u64::MAX] {
        assert!(!driver.negotiate(features), "{features:#x}");
        driver.write(0x70, 0);
    }
    assert!(driver.negotiate(1 << 32));
    // From now on they stand.
    driver.write(0x24, 0);
    driver.write(0x20, 1 << 5);
    assert_eq!(driver.status(), 11 | NEEDS_RESET);
    assert_eq!(driver.interrupt(), None, "before it is up the driver is not interrupted");
}

#[test]
fn a_start_without_features_is_a_fault() {
    let driver = Driver::new();
    driver.write(0x70, 7);
    assert_eq!(driver.status(), 3 | NEEDS_RESET);
    assert!(driver.events.try_recv().is_err());
}

#[test]
fn a_reset_brings_everything_back() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));
    driver.write(0x70, 0);
    assert_eq!((driver.status(), driver.read(0x60), driver.read(0x44)), (0, 0, 0));
    driver.kick(0);
    let events: Vec<Event> = driver.events.try_iter().collect();
    assert!(matches!(events[..], [Event::Activated(_), Event::Reset]), "{events:?}");
    driver.write(0x70, 0);
    assert!(driver.events.try_recv().is_err(), "a device that nobody used need not be reset");

    let memory = driver.guest.memory().clone();
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(memory, &[SIZE]);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.request(), Some(16));
}

#[test]
fn queues_that_cannot_be_need_a_reset() {
    let good = Guest::new(&[SIZE]).addresses(0);
    let end = MEMORY_BYTES;
    for (size, [descriptors, available, used]) in [
        (0, good),
        (3, good),
        (128, good),
        (SIZE, [good[0] + 8, good[1], good[2]]),
        (SIZE, [good[0], good[1] + 1, good[2]]),
        (SIZE, [good[0], good[1], good[2] + 2]),
        (SIZE, [end - 16 * u64::from(SIZE) + 16, good[1], good[2]]),
        (SIZE, [good[0], end, good[2]]),
        (SIZE, [good[0], good[1], u64::MAX - 3]),
        (SIZE, [1 << 63, good[1], good[2]]),
    ] {
        let driver = Driver::new();
        assert!(driver.negotiate(driver.features()));
        driver.set_up_queue(0, size, [descriptors, available, used]);
        assert_eq!((driver.read(0x44), driver.status()), (0, 11 | NEEDS_RESET), "{size} {descriptors:#x}");
        driver.write(0x70, 15);
        driver.kick(0);
        assert!(driver.events.try_recv().is_err(), "it is not activated");
    }
}

#[test]
fn a_queue_may_end_where_memory_ends() {
    let mut driver = Driver::new();
    assert!(driver.negotiate(driver.features()));
    let bytes = u64::from(SIZE) * 16;
    driver.set_up_queue(0, SIZE, [MEMORY_BYTES - bytes, 0x2000, 0x3000]);
    assert_eq!((driver.read(0x44), driver.status()), (1, 11));
    driver.write(0x70, 15);
    assert_eq!(driver.request(), None, "the ring in the middle of nowhere is empty");
}

#[test]
fn a_broken_ring_needs_a_reset_and_interrupts_once() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.guest.set_available_index(0, SIZE + 1);
    driver.kick(0);
    assert_eq!((driver.status(), driver.interrupt()), (15 | NEEDS_RESET, Some(2)));
    driver.guest.set_available_index(0, 0);
    assert_eq!(driver.request(), None);
    assert_eq!(driver.interrupt(), None);
    driver.write(0x70, 0);
    driver.start(&[SIZE]);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16, "what was asked for meanwhile");
}

#[test]
fn a_queue_that_moves_under_the_devices_feet_needs_a_reset() {
    for (offset, value) in [(0x80, 0x4000), (0x84, 1), (0x90, 0), (0x94, 7), (0xa0, 0), (0xa4, 9), (0x38, 8)]
    {
        let mut driver = Driver::new();
        driver.start(&[SIZE]);
        assert_eq!(driver.request(), Some(16));
        assert_eq!(driver.interrupt(), Some(1));
        driver.write(offset, value);
        assert_eq!(driver.status(), 15 | NEEDS_RESET, "{offset:#x}");
        assert_eq!(driver.interrupt(), Some(2));
        assert_eq!(driver.request(), None);
    }
    // What is written again as it is moves nothing.
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.write(0x38, u32::from(SIZE));
    driver.write(0x80, low(driver.guest.addresses(0)[0]));
    assert_eq!(driver.request(), Some(16));
}

#[test]
fn a_queue_is_taken_out_of_use_and_back_into_it() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));
    driver.write(0x44, 0);
    assert_eq!(driver.request(), None);
    let memory = driver.guest.memory().clone();
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(memory, &[SIZE]);
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.write(0x44, 1);
    driver.settle();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16, "what is in it is looked at without a kick");
}

#[test]
fn a_driver_that_gives_up_is_left_alone() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.write(0x70, 15 | 128);
    assert_eq!(driver.request(), None);
    assert_eq!(driver.status(), 15 | 128);
}

#[test]
fn writes_of_another_width_and_to_nothing_are_ignored() {
    let driver = Driver::new();
    driver.device.write(0x70, &[1]);
    driver.device.write(0x70, &[1, 0, 0, 0, 0, 0, 0, 0]);
    driver.device.write(0x72, &[1, 0, 0, 0]);
    driver.device.write(0x70, &[]);
    driver.write(0x74, 1);
    driver.write(0x00, 1);
    assert_eq!((driver.status(), driver.read(0x00)), (0, 0x7472_6976));
    let mut bytes = [7; 2];
    driver.device.read(0x00, &mut bytes);
    assert_eq!(bytes, [0; 2]);
}

#[test]
fn the_host_side_is_watched_while_the_driver_is_there() {
    let (device, handle) = VsockDevice::new(3).unwrap();
    let sizes = [256, 256, 16];
    let (_sender, events) = channel();
    let mut driver = Driver::with(Box::new(device), events, &sizes);
    driver.start(&sizes);
    let space = driver.guest.allocate(4096);
    driver.guest.add(0, &[Buffer::Writable(space, 4096)]);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    handle.connect(1024, theirs).unwrap();
    driver.settle();
    // A request for a connection came without any kick.
    assert_eq!(driver.guest.take_used(0), Some((0, 44)));
    assert_eq!(driver.interrupt(), Some(1));
    driver.write(0x70, 0);
    assert!(handle.connect(1024, UnixStream::pair().unwrap().0).is_err());
    ours.write_all(b"nobody").unwrap_or(());
    assert!(!driver.is_ready(), "a device without a driver does not wake the loop");
    assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_thread_serves_until_it_is_dropped() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    let bus = std::mem::replace(&mut driver.bus, EventLoop::new().unwrap());
    let running = bus.start("test", Role::DeviceLoop).unwrap();
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.write(0x50, 0);
    let mut sources = [PollFd::new(driver.device.interrupt(), PollFlags::IN)];
    rustix::event::poll(&mut sources, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
    assert!(matches!(driver.events.recv().unwrap(), Event::Activated(_)));
    drop(running);
    assert_eq!(driver.events.recv().unwrap(), Event::Reset);
}

proptest! {
    /// The check agrees with arithmetic that cannot overflow.
    #[test]
    fn a_ring_fits_if_its_last_byte_does(
        exponent in 0_u32..=10,
        descriptors in address(),
        available in address(),
        used in address(),
    ) {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0x1000), 0x3000), (GuestAddress(0x8000), 0x1000)]).unwrap();
        let mut queue = Queue::new(1024).unwrap();
        let size = 1_u16 << exponent;
        queue.try_set_size(size).unwrap();
        let [descriptors, available, used] = [(descriptors, 16), (available, 2), (used, 4)].map(|(place, align)| place / align * align);
        queue.try_set_desc_table_address(GuestAddress(descriptors)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
        let inside = |place: u64, length: u128| {
            let (begin, end) = (u128::from(place), u128::from(place) + length);
            [(0x1000, 0x4000), (0x8000, 0x9000)].iter().any(|(first, last)| begin >= *first && end <= *last)
        };
        let entries = u128::from(size);
        let expected = inside(descriptors, 16 * entries) && inside(available, 6 + 2 * entries) && inside(used, 6 + 8 * entries);
        prop_assert_eq!(round::fits(&queue, &memory), expected);
    }

    /// Whatever is written to the registers, nothing panics, and a reset always brings the device back.
    #[test]
    fn any_writes_leave_a_device_that_a_reset_mends(
        writes in prop::collection::vec((register(), any::<u32>().prop_map(small_or_any)), 0..60),
    ) {
        let mut driver = Driver::new();
        for (offset, value) in writes {
            driver.write(offset, value);
            driver.read(offset);
        }
        driver.settle();
        driver.write(0x70, 0);
        driver.guest.write(0, &[0; 0x20000]);
        driver.start(&[SIZE]);
        prop_assert_eq!(driver.request(), Some(16));
    }
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..0xa000, any::<u64>(), u64::MAX - 0x2000..=u64::MAX]
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![(0_u64..0x40).prop_map(|index| index * 4), Just(0x70), Just(0x44), 0_u64..0x200]
}

/// Half of all values are small ones, which mean something.
fn small_or_any(value: u32) -> u32 {
    if value & 0x8000_0000 == 0 { value % 16 } else { value }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap()
}
