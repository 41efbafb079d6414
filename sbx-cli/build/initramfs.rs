//! The initramfs: a cpio archive of format `newc` (kernel Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! ```text
//! dev            directory
//! dev/console    character device 5:1, so that PID 1 has a standard output
//! init           sbx-guest
//! TRAILER!!!
//! ```
//! Inode numbers count up, everything else that could differ between two builds is zero.

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;
const ALIGNMENT: usize = 4;

/// An initramfs whose `/init` is `program`.
pub(crate) fn with_init(program: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.entry("dev", DIRECTORY, (0, 0), &[]);
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    archive.entry("init", PROGRAM, (0, 0), program);
    archive.entry("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(data.len()).expect("the guest is smaller than 4 GiB"),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1).expect("names are short"),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}
