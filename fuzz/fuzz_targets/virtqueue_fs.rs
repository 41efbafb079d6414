//! A guest's kernel that sends anything to the file system device: no message may make it panic, reach a file outside
//! of the share, or change a protected one.
//!
//! ```text
//! input:  { opcode u8 | node u8 | shape u8 | length u8 | arguments … } …
//! ```

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sbx_vmm::config::{IdMap, Share};
use sbx_vmm::testing::{Buffer, Guest};
use sbx_vmm::virtio::{VirtioDevice, fs};

/// The queue for requests; the other one takes the same messages.
const REQUESTS: usize = 1;

/// Most messages of one input.
const MESSAGES: usize = 64;

const SECRET: &[u8] = b"not for guests";

/// A directory for this process: `share/` is shared, `secret` beside it is not.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("sbx-fuzz-fs-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a temporary directory");
    path
});

fn prepare(directory: &Path) -> Share {
    let share = directory.join("share");
    open_up(&share);
    let _ = std::fs::remove_dir_all(&share);
    std::fs::create_dir_all(share.join(".git/hooks")).expect("the share");
    std::fs::create_dir_all(share.join("d/e")).expect("directories");
    std::fs::write(share.join("sandbox.kdl"), SECRET).expect("a protected file");
    std::fs::write(share.join("f"), b"free").expect("a file");
    std::fs::write(directory.join("secret"), SECRET).expect("a file outside");
    let _ = std::os::unix::fs::symlink("../secret", share.join("l"));
    let protected = ["sandbox.kdl", "sandbox.lock", ".git/hooks"].map(PathBuf::from).to_vec();
    Share { name: "s".into(), host: share, read_only: false, protected }
}

/// Gives back the permissions that the last input may have taken from directories.
fn open_up(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let share = prepare(&DIRECTORY);
    let host = share.host.clone();
    let ids = IdMap { host_uid: 0, host_gid: 0, guest_uid: 1000, guest_gid: 1000 };
    let mut device = fs::shares(&[share], ids).expect("a device");
    device.activate(0);
    let mut guest = Guest::new(&[1024, 1024]);
    let (request, answer) = (guest.allocate(1 << 16), guest.allocate(1 << 16));
    let mut rest = data;
    for unique in 0..MESSAGES as u64 {
        let [opcode, node, shape, length, tail @ ..] = rest else { break };
        let (arguments, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let mut message = Vec::new();
        let length = 40 + arguments.len() as u32;
        // Most messages tell the truth about their length.
        let claimed = if shape & 0x80 == 0 { length } else { u32::from(*shape) << (shape & 31) };
        message.extend(claimed.to_le_bytes());
        message.extend(u32::from(*opcode).to_le_bytes());
        message.extend(unique.to_le_bytes());
        message.extend(u64::from(*node).to_le_bytes());
        message.extend([0; 16]);
        message.extend(arguments);
        guest.write(request, &message);
        let room = match shape & 3 {
            0 => 1 << 16,
            1 => 4096,
            2 => 16,
            _ => u32::from(*shape),
        };
        let buffers = [Buffer::Readable(request, length), Buffer::Writable(answer, room)];
        let queue = usize::from(shape & 4 == 0).min(REQUESTS);
        match shape & 0x18 {
            0x08 => drop(guest.add_indirect(queue, &buffers)),
            0x10 => drop(guest.add_loop(queue)),
            _ => drop(guest.add(queue, &buffers)),
        }
        guest.kick(&mut device, queue).expect("the ring itself is sound");
        while guest.take_used(queue).is_some() {}
    }
    assert_eq!(std::fs::read(DIRECTORY.join("secret")).expect("still there"), SECRET);
    assert_eq!(std::fs::read(host.join("sandbox.kdl")).expect("still there"), SECRET);
    assert!(!host.join("sandbox.lock").exists());
    assert_eq!(std::fs::read_dir(host.join(".git/hooks")).expect("still there").count(), 0);
});
