//! A driver that does anything at all with the queues of the socket device.

#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use sbx_vmm::testing::{Guest, misbehave};
use sbx_vmm::virtio::VirtioDevice;
use sbx_vmm::virtio::vsock::VsockDevice;

fuzz_target!(|bytes: &[u8]| {
    let (mut device, handle) = VsockDevice::new(3).expect("a device");
    let mut guest = Guest::new(device.queue_sizes());
    device.activate(0);
    let _listener = handle.listen(0);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.write_all(b"something to send").expect("room for a few bytes");
    handle.connect(0, theirs).expect("the device is active");
    misbehave(&mut guest, &mut device, bytes);
});
