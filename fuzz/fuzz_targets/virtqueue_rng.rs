//! A driver that does anything at all with the entropy device.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_vmm::testing::{Guest, misbehave};
use sbx_vmm::virtio::VirtioDevice;
use sbx_vmm::virtio::rng::RngDevice;

fuzz_target!(|bytes: &[u8]| {
    let mut device = RngDevice::new();
    let mut guest = Guest::new(device.queue_sizes());
    device.activate(0);
    misbehave(&mut guest, &mut device, bytes);
});
