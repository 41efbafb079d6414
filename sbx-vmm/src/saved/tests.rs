//! A machine as bytes, and bytes that are none.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::testing::{Buffer, Guest, misbehave};
use crate::virtio::mmio::{EventLoop, MmioDevice};
use crate::virtio::rng::RngDevice;
use crate::virtio::vsock::VsockDevice;
use crate::virtio::{VirtioDevice, fs};

/// Devices on a bus, each with a driver that has set it up.
struct Machine {
    bus: EventLoop,
    guests: Vec<Guest>,
    devices: Vec<Arc<MmioDevice>>,
}

impl Machine {
    fn new() -> Self {
        let ids = crate::config::IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 };
        let list: [Box<dyn VirtioDevice>; 3] = [
            Box::new(RngDevice::new()),
            Box::new(VsockDevice::new(3).unwrap().0),
            Box::new(fs::shares(&[], ids).unwrap()),
        ];
        let mut bus = EventLoop::new().unwrap();
        let (mut guests, mut devices) = (Vec::new(), Vec::new());
        for device in list {
            let guest = Guest::new(device.queue_sizes());
            devices.push(bus.attach(device, guest.memory()).unwrap());
            guests.push(guest);
        }
        Self { bus, guests, devices }
    }

    fn start(&self) {
        for (device, guest) in self.devices.iter().zip(&self.guests) {
            let write = |offset, value: u32| device.write(offset, &value.to_le_bytes());
            // Version 1 and nothing else, then every queue there is.
            for (offset, value) in [(0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11)] {
                write(offset, value);
            }
            for queue in 0..u32::try_from(device.kicks().len()).unwrap() {
                write(0x30, queue);
                let mut largest = [0; 4];
                device.read(0x34, &mut largest);
                write(0x38, u32::from_le_bytes(largest));
                for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(guest.addresses(queue as usize)) {
                    write(offset, u32::try_from(address).unwrap());
                }
                write(0x44, 1);
            }
            write(0x70, 15);
        }
    }

    fn save(&self) -> SavedMachine {
        SavedMachine {
            devices: self.devices.iter().map(|device| device.save()).collect(),
            ..SavedMachine::example()
        }
    }
}

fn bytes() -> Vec<u8> {
    let machine = Machine::new();
    machine.start();
    machine.save().to_bytes().unwrap()
}

#[test]
fn a_machine_goes_through_bytes() {
    let mut machine = Machine::new();
    machine.start();
    let place = machine.guests[0].allocate(16);
    machine.guests[0].add(0, &[Buffer::Writable(place, 16)]);
    let kept = machine.save();
    let bytes = kept.to_bytes().unwrap();
    assert_eq!(bytes[..12], *b"sbxstate\x02\0\0\0");
    let parsed = SavedMachine::from_bytes(&bytes).unwrap();
    assert_eq!(parsed, kept);

    let other = Machine::new();
    for (device, state) in other.devices.iter().zip(parsed.devices) {
        device.restore(state).unwrap();
    }
    assert_eq!(other.save(), kept);
}

#[test]
fn other_versions_and_other_files_are_told_apart() {
    let bytes = bytes();
    let mut newer = bytes.clone();
    newer[8] = 3;
    let error = SavedMachine::from_bytes(&newer).unwrap_err();
    assert_eq!(error.to_string(), "it was saved in version 3 of the format, and this sbx reads version 2");
    for other in [&b""[..], b"sbxstat", b"sbxstate", b"sbxstate\x01\0\0", b"\x7fELF\x02\x01\x01\0\x01\0\0\0"]
    {
        assert!(matches!(SavedMachine::from_bytes(other), Err(SavedMachineError::Magic)), "{other:?}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(matches!(SavedMachine::from_bytes(&longer), Err(SavedMachineError::Length { bytes: 1 })));
}

#[test]
fn no_beginning_of_a_saved_machine_is_one() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        assert!(SavedMachine::from_bytes(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

proptest! {
    /// Whatever the bytes are, they are data or an error; and whatever they say, devices take it or refuse it, and go on.
    #[test]
    fn altered_bytes_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        from_the_end: bool,
        driver in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = bytes();
        // Most of the bytes are the processors'; the devices' are the last ones.
        let range = if from_the_end { bytes.len().saturating_sub(300)..bytes.len() } else { 12..bytes.len() };
        for (place, value) in changes {
            let place = range.start + place.index(range.len());
            bytes[place] = value;
        }
        let Ok(kept) = SavedMachine::from_bytes(&bytes) else { return Ok(()) };
        let machine = Machine::new();
        for (device, state) in machine.devices.iter().zip(kept.devices) {
            let _ = device.restore(state);
        }
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..8 {
            machine.bus.turn(Some(&now)).unwrap();
        }
        for device in &machine.devices {
            for write in driver.chunks_exact(6) {
                device.write(u64::from(write[0]) * 4, &write[2..]);
            }
            device.write(0x70, &[0; 4]);
        }
        machine.start();
        for device in &machine.devices {
            let mut status = [0; 4];
            device.read(0x70, &mut status);
            prop_assert_eq!(status, [15, 0, 0, 0]);
        }
    }

    /// A device that was restored from a state of its own kind bears whatever its driver does.
    #[test]
    fn a_restored_device_bears_any_driver(driver in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut device, _handle) = VsockDevice::new(3).unwrap();
        device.activate(0);
        let state = device.save();
        device.restore(state).unwrap();
        let mut guest = Guest::new(&[256, 256, 16]);
        misbehave(&mut guest, &mut device, &driver);
    }
}
