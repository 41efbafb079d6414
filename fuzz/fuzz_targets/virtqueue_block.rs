//! A driver that does anything at all with a writable disk: the device neither panics nor writes beyond it.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use sbx_vmm::testing::{Guest, misbehave};
use sbx_vmm::virtio::VirtioDevice;
use sbx_vmm::virtio::block::BlockDevice;

const DISK_BYTES: u64 = 1 << 20;

thread_local! {
    /// One disk for all inputs, deleted as soon as it is open.
    static DISK: RefCell<(BlockDevice, std::fs::File)> = RefCell::new({
        let path = std::env::temp_dir().join(format!("sbx-fuzz-block-{}", std::process::id()));
        let file = std::fs::File::create_new(&path).expect("a disk");
        file.set_len(DISK_BYTES).expect("a disk");
        let device = BlockDevice::from_file("fuzz", &path).expect("a disk");
        std::fs::remove_file(&path).expect("a disk");
        (device, file)
    });
}

fuzz_target!(|bytes: &[u8]| {
    DISK.with_borrow_mut(|(device, file)| {
        let mut guest = Guest::new(device.queue_sizes());
        device.activate(0);
        misbehave(&mut guest, device, bytes);
        assert_eq!(file.metadata().expect("a disk").len(), DISK_BYTES);
    });
});
