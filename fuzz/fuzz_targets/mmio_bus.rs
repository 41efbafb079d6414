//! A guest that writes anything to the registers of any device on the bus, and anything to its rings: nothing panics, and
//! a reset always brings a device back.
//!
//! ```text
//! input:  device u8, then
//! 0 offset:u16 width:u8 value:u64   write to the device's window     3 queue set up as it should be, and started
//! 1 offset:u16 width:u8             read from it                     4 let the devices run
//! 2 place:u16 value:u64             write to memory                  5 offer a chain and kick
//! ```

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sbx_vmm::config::{IdMap, Share};
use sbx_vmm::testing::{Buffer, FakeLink, Guest};
use sbx_vmm::virtio::block::BlockDevice;
use sbx_vmm::virtio::mmio::{EventLoop, MmioDevice};
use sbx_vmm::virtio::net::NetDevice;
use sbx_vmm::virtio::rng::RngDevice;
use sbx_vmm::virtio::vsock::VsockDevice;
use sbx_vmm::virtio::{VirtioDevice, fs};

/// Rounds of the devices in one input; a loop of unfinished work must not look like a hang.
const ROUNDS: usize = 64;

fn device(number: u8) -> Box<dyn VirtioDevice> {
    let path = std::env::temp_dir().join(format!("sbx-fuzz-mmio-{}", std::process::id()));
    match number % 5 {
        0 => Box::new(RngDevice::new()),
        1 => {
            let disk = path.with_extension("disk");
            std::fs::File::create(&disk).and_then(|file| file.set_len(1 << 20)).expect("a disk");
            Box::new(BlockDevice::from_file("fuzz", &disk).expect("a disk"))
        }
        2 => Box::new(VsockDevice::new(3).expect("a device").0),
        3 => Box::new(NetDevice::new([2, 0, 0, 0, 0, 1], 65_520, Box::new(FakeLink::echoing()))),
        _ => {
            std::fs::create_dir_all(&path).expect("a directory");
            let share = Share { name: "s".into(), host: path, read_only: true, protected: Vec::new() };
            let ids = IdMap { host_uid: 0, host_gid: 0, guest_uid: 1000, guest_gid: 1000 };
            Box::new(fs::shares(&[share], ids).expect("a device"))
        }
    }
}

fn write(device: &MmioDevice, offset: u64, value: u32) {
    device.write(offset, &value.to_le_bytes());
}

/// What a driver does that knows what it wants.
fn start(device: &MmioDevice, guest: &Guest, sizes: &[u16]) {
    for status in [0, 1, 3] {
        write(device, 0x70, status);
    }
    write(device, 0x24, 1);
    write(device, 0x20, 1);
    write(device, 0x70, 11);
    for (queue, size) in (0_u32..).zip(sizes) {
        write(device, 0x30, queue);
        write(device, 0x38, u32::from(*size));
        for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(guest.addresses(queue as usize)) {
            write(device, offset, address as u32);
            write(device, offset + 4, (address >> 32) as u32);
        }
        write(device, 0x44, 1);
    }
    write(device, 0x70, 15);
}

fn settle(bus: &EventLoop) {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    for _ in 0..ROUNDS {
        bus.turn(Some(&now)).expect("epoll");
        if !bus.has_pending() {
            break;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [number, bytes @ ..] = bytes else { return };
    let device = device(*number);
    let sizes: Vec<u16> = device.queue_sizes().to_vec();
    let mut guest = Guest::new(&sizes);
    let mut bus = EventLoop::new().expect("a bus");
    let device: Arc<MmioDevice> = bus.attach(device, guest.memory()).expect("a device");
    let mut bytes = bytes.iter().copied();
    let mut run = || -> Option<()> {
        let mut byte = || bytes.next();
        match byte()? % 6 {
            0 => {
                let offset = u64::from(u16::from_le_bytes([byte()?, byte()?]) % 0x140);
                // Most writes are of the one width that means something, to an offset that can.
                let width = byte()?;
                let (offset, width) =
                    if width & 7 == 0 { (offset, width >> 3 & 15) } else { (offset & !3, 4) };
                let value = [byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?];
                device.write(offset, value.get(..usize::from(width)).unwrap_or(&value));
            }
            1 => {
                let offset = u64::from(u16::from_le_bytes([byte()?, byte()?]));
                let mut value = [0; 8];
                device.read(offset, value.get_mut(..usize::from(byte()? & 15)).unwrap_or_default());
            }
            2 => {
                let place = 0x1_0000 + u64::from(u16::from_le_bytes([byte()?, byte()?])) * 4;
                let value = [byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?, byte()?];
                guest.write(place, &value);
            }
            3 => start(&device, &guest, &sizes),
            4 => settle(&bus),
            _ => {
                let queue = usize::from(byte()?) % sizes.len();
                let length = u32::from(byte()?);
                let readable = guest.store(&[byte()?; 64]);
                let writable = guest.allocate(length);
                guest.add(queue, &[Buffer::Readable(readable, 64), Buffer::Writable(writable, length)]);
                write(&device, 0x50, queue as u32);
            }
        }
        Some(())
    };
    while run().is_some() {}
    settle(&bus);
    write(&device, 0x70, 0);
    let mut status = [0xff; 4];
    device.read(0x70, &mut status);
    assert_eq!(status, [0; 4], "a reset is a reset");
    start(&device, &guest, &sizes);
    device.read(0x70, &mut status);
    assert_eq!(status, [15, 0, 0, 0], "it starts again");
});
