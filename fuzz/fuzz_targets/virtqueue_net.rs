//! A driver that does anything at all with the queues of the network card, whose other end sends everything back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_vmm::testing::{FakeLink, Guest, misbehave};
use sbx_vmm::virtio::VirtioDevice;
use sbx_vmm::virtio::net::NetDevice;

fuzz_target!(|bytes: &[u8]| {
    let [features, bytes @ ..] = bytes else { return };
    let mut device = NetDevice::new([2, 0, 0, 0, 0, 1], 65_520, Box::new(FakeLink::echoing()));
    let mut guest = Guest::new(device.queue_sizes());
    // With and without checksums and buffers that are put together.
    let wanted = u64::from(features & 3) | u64::from(features >> 2 & 1) << 15;
    device.activate(device.features() & wanted);
    misbehave(&mut guest, &mut device, bytes);
});
