//! A device is saved in the middle of its work, and another one goes on in its place under the same driver.

use std::os::unix::fs::FileExt;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::*;
use crate::seccomp::Role;
use crate::virtio::block::BlockDevice;
use crate::virtio::events;
use crate::virtio::mmio::MmioState;

const SECTOR: u32 = 512;

impl Driver {
    /// The same driver with `device` in the place of its device, which goes on from the saved state by way of bytes.
    fn resumed(self, device: Box<dyn VirtioDevice>) -> Self {
        let bytes = postcard::to_stdvec(&self.device.save()).unwrap();
        let state: MmioState = postcard::from_bytes(&bytes).unwrap();
        let mut bus = EventLoop::new().unwrap();
        let next = bus.attach(device, self.guest.memory()).unwrap();
        next.restore(state.clone()).unwrap();
        assert_eq!(next.save(), state, "what was restored is saved as the same");
        Self { bus, device: next, ..self }
    }

    /// Makes a write of `byte` to a sector of a disk available, and returns where its status will be.
    fn write_sector(&mut self, sector: u64, byte: u8) -> u64 {
        let header = [&1_u32.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        let header = Buffer::Readable(self.guest.store(&header), 16);
        let data = Buffer::Readable(self.guest.store(&[byte; SECTOR as usize]), SECTOR);
        let status = self.guest.store(&[0xee]);
        self.guest.add(0, &[header, data, Buffer::Writable(status, 1)]);
        status
    }

    fn answers(&mut self) -> usize {
        std::iter::from_fn(|| self.guest.take_used(0)).count()
    }
}

fn disk(file: &NamedTempFile) -> Box<dyn VirtioDevice> {
    Box::new(BlockDevice::from_file("scratch", file.path()).unwrap())
}

fn watched() -> (Box<dyn VirtioDevice>, Receiver<Event>) {
    let (device, events) = Watched::new(DeviceKind::Rng);
    (Box::new(device), events)
}

fn scratch() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * u64::from(SECTOR)).unwrap();
    file
}

#[test]
fn a_disk_goes_on_with_rings_that_are_half_consumed() {
    let file = scratch();
    let (_events, received) = channel();
    let mut driver = Driver::with(disk(&file), received, &[128]);
    driver.start(&[128]);
    let mut statuses: Vec<u64> = (0..5).map(|sector| driver.write_sector(sector, 1)).collect();
    driver.kick(0);
    // Two answers are taken, three are on their way, and three requests wait for a kick to be noticed.
    assert_eq!([driver.guest.take_used(0), driver.guest.take_used(0)].map(|used| used.unwrap().1), [1; 2]);
    statuses.extend((5..8).map(|sector| driver.write_sector(sector, 2)));
    driver.write(0x50, 0);
    assert_eq!(driver.read(0x60), 1);

    let mut driver = driver.resumed(disk(&file));
    assert_eq!(driver.interrupt(), Some(1), "the interrupt that was not acknowledged comes again");
    driver.settle();
    assert_eq!(driver.interrupt(), None, "the driver has not come to what the last one was for");
    assert_eq!(driver.answers(), 6);
    assert!(statuses.iter().all(|status| driver.guest.read(*status, 1) == [0]));
    let mut content = [0; 9 * SECTOR as usize];
    file.as_file().read_exact_at(&mut content, 0).unwrap();
    let first: Vec<u8> = content.iter().copied().step_by(SECTOR as usize).collect();
    assert_eq!(first, [1, 1, 1, 1, 1, 2, 2, 2, 0]);

    // And once around the ring.
    for _ in 0..60 {
        driver.write_sector(8, 3);
        driver.kick(0);
        assert_eq!((driver.answers(), driver.interrupt()), (1, Some(1)));
    }
}

#[test]
fn a_driver_goes_on_in_the_middle_of_setting_up() {
    let driver = Driver::new();
    let features = driver.features();
    assert!(driver.negotiate(features));
    driver.set_up_queue(0, SIZE, driver.guest.addresses(0));
    driver.write(0x30, 7);
    let (device, events) = watched();
    let mut driver = driver.resumed(device);
    assert_eq!((driver.status(), driver.read(0x44)), (11, 0), "queue 7 is selected, and is none");
    driver.write(0x30, 0);
    assert_eq!(driver.read(0x44), 1);
    assert!(events.try_recv().is_err());
    driver.write(0x70, 15);
    assert_eq!(events.try_recv(), Ok(Event::Activated(features)));
    assert_eq!(driver.request(), Some(16));
}

#[test]
fn a_device_is_active_where_it_was_and_nowhere_else() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));
    let (device, events) = watched();
    let mut driver = driver.resumed(device);
    assert!(matches!(events.try_recv(), Ok(Event::Activated(_))));
    assert_eq!(driver.request(), Some(16));

    driver.guest.set_available_index(0, 100);
    driver.kick(0);
    assert_eq!(driver.status(), 15 | NEEDS_RESET);
    let (device, events) = watched();
    let mut driver = driver.resumed(device);
    assert_eq!(driver.status(), 15 | NEEDS_RESET);
    assert!(events.try_recv().is_err());
    driver.write(0x70, 0);
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(driver.guest.memory().clone(), &[SIZE]);
    driver.start(&[SIZE]);
    assert_eq!(driver.request(), Some(16));

    driver.write(0x70, 0);
    let (device, events) = watched();
    let driver = driver.resumed(device);
    assert_eq!(driver.status(), 0);
    assert!(events.try_recv().is_err());
}

#[test]
fn the_host_side_wakes_a_restored_device() {
    let sizes = [256, 256, 16];
    let (_events, received) = channel();
    let driver = Driver::with(Box::new(VsockDevice::new(3).unwrap().0), received, &sizes);
    driver.start(&sizes);
    let (device, handle) = VsockDevice::new(3).unwrap();
    let mut driver = driver.resumed(Box::new(device));
    let [space, event] = [4096, 4].map(|length| driver.guest.allocate(length));
    driver.guest.add(0, &[Buffer::Writable(space, 4096)]);
    driver.guest.add(2, &[Buffer::Writable(event, 4)]);
    // Nobody kicks: a restored device looks at all its queues.
    driver.settle();
    assert_eq!(driver.guest.take_used(2), Some((0, 4)));
    assert_eq!(driver.interrupt(), Some(1));
    driver.guest.offer(2, 0);
    driver.kick(2);
    handle.connect(1024, UnixStream::pair().unwrap().0).unwrap();
    driver.settle();
    assert_eq!(driver.guest.take_used(0), Some((0, 44)));
}

#[test]
fn a_paused_loop_does_nothing_and_is_started_again() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    let place = driver.guest.allocate(16);
    let request = |driver: &mut Driver| driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    let handle = driver.bus.start("devices", Role::DeviceLoop).unwrap();
    let bus = handle.pause().unwrap();
    let state = driver.device.save();
    driver.bus = bus;
    request(&mut driver);
    driver.write(0x50, 0);
    assert_eq!(driver.guest.take_used(0), None, "nobody is there to take the kick");
    assert_eq!(driver.device.save(), state);
    for _ in 0..3 {
        let handle = driver.bus.start("devices", Role::DeviceLoop).unwrap();
        let mut interrupt = [PollFd::new(driver.device.interrupt(), PollFlags::IN)];
        rustix::event::poll(&mut interrupt, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
        driver.bus = handle.pause().unwrap();
        assert_eq!(driver.interrupt(), Some(1));
        assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
        request(&mut driver);
        driver.write(0x50, 0);
    }
    drop(driver.bus.start("devices", Role::DeviceLoop).unwrap());
    assert!(
        driver.events.try_iter().last() == Some(Event::Reset),
        "a loop that is dropped leaves no device active"
    );
}

#[test]
fn a_kick_that_comes_with_the_order_to_stop_is_taken() {
    let mut driver = Driver::new();
    driver.start(&[SIZE]);
    driver.settle();
    events::ring(driver.bus.stop_event()).unwrap();
    let place = driver.guest.allocate(16);
    driver.guest.add(0, &[Buffer::Writable(place, 16)]);
    driver.write(0x50, 0);
    assert!(!driver.bus.turn(Some(&NOW)).unwrap());
    assert_eq!(driver.guest.take_used(0).unwrap().1, 16);
    assert!(driver.bus.turn(Some(&NOW)).unwrap(), "it is told once");
}

/// What `change` makes of the state of a disk in use.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let file = scratch();
    let (_events, received) = channel();
    let mut driver = Driver::with(disk(&file), received, &[128]);
    driver.start(&[128]);
    driver.write_sector(0, 1);
    driver.kick(0);
    let mut state = serde_json::to_value(driver.device.save()).unwrap();
    change(&mut state);
    let mut bus = EventLoop::new().unwrap();
    let next = bus.attach(disk(&file), driver.guest.memory()).unwrap();
    let error = next.restore(serde_json::from_value(state).unwrap()).unwrap_err();
    // And it is there for a driver that begins anew.
    let mut driver = Driver { bus, device: next, ..driver };
    assert_eq!((driver.status(), driver.interrupt(), driver.is_ready()), (0, None, false));
    driver.guest.write(0, &[0; 0x20000]);
    driver.guest = Guest::with_memory(driver.guest.memory().clone(), &[128]);
    driver.start(&[128]);
    driver.write_sector(0, 1);
    driver.kick(0);
    assert_eq!(driver.answers(), 1);
    error.to_string()
}

#[test]
fn states_that_cannot_be_are_refused() {
    let damaged = "the state of the block device is damaged: ";
    let cases: [(&str, Value, &str); 12] = [
        ("/negotiation/status", 1024.into(), "its registers say what they cannot say"),
        ("/negotiation/status", 7.into(), "the driver started without having agreed on features"),
        ("/negotiation/status", 11.into(), "the device was active and was not"),
        ("/negotiation/queues", Value::Array(Vec::new()), "its registers say what they cannot say"),
        ("/negotiation/driver_features", 0.into(), "the driver agreed on features without version 1"),
        ("/queues", Value::Array(Vec::new()), "the device has other queues"),
        ("/queues/0/max_size", 64.into(), "a queue has a size or place that it cannot have"),
        ("/queues/0/size", 3.into(), "a queue has a size or place that it cannot have"),
        ("/queues/0/descriptors", 8.into(), "a queue has a size or place that it cannot have"),
        ("/queues/0/used", MEMORY_BYTES.into(), "a queue does not lie in guest memory"),
        ("/queues/0/available", (u64::MAX - 1).into(), "a queue does not lie in guest memory"),
        ("/device", Value::Null, "the device was active and was not"),
    ];
    for (place, value, what) in cases {
        let error = refused(|state| *state.pointer_mut(place).unwrap() = value);
        assert_eq!(error, format!("{damaged}{what}"), "{place}");
    }
    let error = refused(|state| state["device"] = "Rng".into());
    assert_eq!(error, "the state is that of a rng device, and this is a block device");
    let error = refused(|state| state["device"]["Block"]["size"] = 512.into());
    assert_eq!(error, "the disk has 32768 bytes, and the guest knows one of 512");
    let error = refused(|state| state["negotiation"]["driver_features"] = (1_u64 << 32 | 1 << 5).into());
    let expected = "the guest uses features of the block device that it does not offer any more (0x20)";
    assert_eq!(error, expected);
}

#[test]
fn indexes_that_cannot_be_break_the_ring_and_nothing_else() {
    for field in ["next_available", "next_used"] {
        let mut driver = Driver::new();
        driver.start(&[SIZE]);
        assert_eq!(driver.request(), Some(16));
        let mut state = serde_json::to_value(driver.device.save()).unwrap();
        state["queues"][0][field] = 0x7777.into();
        driver.device.restore(serde_json::from_value(state).unwrap()).unwrap();
        driver.settle();
        driver.request();
        driver.write(0x70, 0);
        driver.guest.write(0, &[0; 0x20000]);
        driver.guest = Guest::with_memory(driver.guest.memory().clone(), &[SIZE]);
        driver.start(&[SIZE]);
        driver.settle();
        assert_eq!(driver.request(), Some(16));
    }
}
