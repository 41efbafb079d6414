//! Any bytes as the saved state of a machine: they are refused, or devices take them up and go on with an empty guest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::event::Timespec;
use sbx_vmm::config::IdMap;
use sbx_vmm::saved::SavedMachine;
use sbx_vmm::testing::Guest;
use sbx_vmm::virtio::mmio::EventLoop;
use sbx_vmm::virtio::rng::RngDevice;
use sbx_vmm::virtio::vsock::VsockDevice;
use sbx_vmm::virtio::{VirtioDevice, fs};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fuzz_target!(|data: &[u8]| {
    let Ok(machine) = SavedMachine::from_bytes(data) else { return };
    let written = machine.to_bytes().expect("what was read can be written");
    assert_eq!(SavedMachine::from_bytes(&written).expect("and read again"), machine);
    let ids = IdMap { host_uid: 0, host_gid: 0, guest_uid: 1000, guest_gid: 1000 };
    let devices: [Box<dyn VirtioDevice>; 3] = [
        Box::new(RngDevice::new()),
        Box::new(VsockDevice::new(3).expect("a device").0),
        Box::new(fs::shares(&[], ids).expect("a device")),
    ];
    let mut bus = EventLoop::new().expect("a bus");
    for (device, state) in devices.into_iter().zip(machine.devices) {
        let guest = Guest::new(device.queue_sizes());
        let device = bus.attach(device, guest.memory()).expect("a device on the bus");
        if device.restore(state).is_err() {
            let mut status = [0xee; 4];
            device.read(0x70, &mut status);
            assert_eq!(status, [0; 4], "a device that refused is as if no driver had been there");
        }
    }
    for _ in 0..8 {
        bus.turn(Some(&NOW)).expect("events");
    }
});
