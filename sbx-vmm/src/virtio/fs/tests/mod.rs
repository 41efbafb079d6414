//! Tests of the device through FUSE messages in a fake guest's queue, as the guest's kernel would send them.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use tempfile::TempDir;

use super::{FsDevice, shares};
use crate::config::{IdMap, Share};
use crate::testing::{Buffer, Guest};
use crate::virtio::VirtioDevice;

mod contents;
mod hostile;
mod rules;
mod saved;

const ROOT: u64 = 1;
const REQUESTS: usize = 1;
const AGENT: u32 = 4242;

/// Bytes of the buffers for a request and for its answer.
const BUFFER: u32 = 1 << 20;

/// Opcodes of FUSE (`enum fuse_opcode` in `include/uapi/linux/fuse.h`).
mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const READLINK: u32 = 5;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const SETXATTR: u32 = 21;
    pub(super) const GETXATTR: u32 = 22;
    pub(super) const LISTXATTR: u32 = 23;
    pub(super) const REMOVEXATTR: u32 = 24;
    pub(super) const INIT: u32 = 26;
    pub(super) const READDIR: u32 = 28;
    pub(super) const CREATE: u32 = 35;
    pub(super) const FALLOCATE: u32 = 43;
    pub(super) const READDIRPLUS: u32 = 44;
    pub(super) const RENAME2: u32 = 45;
    pub(super) const LSEEK: u32 = 46;
}

const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
const EXCHANGE: u32 = 2;

/// Bits of `fuse_setattr_in.valid`.
const MODE: u32 = 1;
const UID: u32 = 2;
const GID: u32 = 4;
const SIZE: u32 = 8;
const MTIME: u32 = 32;

type Answer<T> = Result<T, Errno>;

/// `struct fuse_attr`, what tests look at.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    inode: u64,
    size: u64,
    mode: u32,
    links: u32,
    uid: u32,
    gid: u32,
}

/// A node that was looked up.
#[derive(Clone, Copy, Debug)]
struct Found {
    node: u64,
    attributes: Attributes,
}

/// What to set, by the bits above.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    valid: u32,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// A guest's kernel with the device mounted.
struct Client {
    device: FsDevice,
    guest: Guest,
    request: u64,
    answer: u64,
    unique: u64,
}

impl Client {
    fn new(list: &[Share]) -> Self {
        let mut device = shares(list, ids()).unwrap();
        device.activate(0);
        let mut guest = Guest::new(&[1024, 1024]);
        let (request, answer) = (guest.allocate(BUFFER + 4096), guest.allocate(BUFFER + 4096));
        let mut client = Self { device, guest, request, answer, unique: 0 };
        client.call(opcode::INIT, 0, &[words(&[7, 41, 128 << 10, u32::MAX]), vec![0; 48]].concat()).unwrap();
        client
    }

    /// A client of one share, `ws`, over a new directory, with the usual paths protected.
    fn workspace() -> (Self, TempDir) {
        let directory = TempDir::new().unwrap();
        let client = Self::new(&[share("ws", directory.path(), false)]);
        (client, directory)
    }

    fn send(&mut self, opcode: u32, node: u64, arguments: &[u8], length: u32) -> Vec<u8> {
        self.unique += 1;
        let mut message = words(&[40 + u32::try_from(arguments.len()).unwrap(), opcode]);
        message.extend(longs(&[self.unique, node]));
        message.extend(words(&[1000, 1000, 77, 0]));
        message.extend(arguments);
        self.guest.write(self.request, &message);
        let request = Buffer::Readable(self.request, u32::try_from(message.len()).unwrap());
        self.guest.add(REQUESTS, &[request, Buffer::Writable(self.answer, length)]);
        self.guest.kick(&mut self.device, REQUESTS).unwrap();
        let (_, written) = self.guest.take_used(REQUESTS).expect("an answer");
        self.guest.read(self.answer, usize::try_from(written).unwrap())
    }

    fn call(&mut self, opcode: u32, node: u64, arguments: &[u8]) -> Answer<Vec<u8>> {
        let answer = self.send(opcode, node, arguments, BUFFER);
        let error = i32::from_le_bytes(answer[4..8].try_into().unwrap());
        assert_eq!(long(&answer, 8), self.unique, "the answer is to this request");
        if error == 0 { Ok(answer[16..].to_vec()) } else { Err(Errno::from_raw_os_error(-error)) }
    }

    fn lookup(&mut self, parent: u64, name: &str) -> Answer<Found> {
        self.lookup_bytes(parent, name.as_bytes())
    }

    fn lookup_bytes(&mut self, parent: u64, name: &[u8]) -> Answer<Found> {
        match found(&self.call(opcode::LOOKUP, parent, &text(name))?) {
            Found { node: 0, .. } => Err(Errno::NOENT),
            found => Ok(found),
        }
    }

    /// The node of a path from the device's root.
    fn walk(&mut self, path: &str) -> u64 {
        path.split('/').fold(ROOT, |node, name| self.lookup(node, name).unwrap().node)
    }

    fn attributes(&mut self, node: u64) -> Answer<Attributes> {
        Ok(attributes(&self.call(opcode::GETATTR, node, &[0; 16])?[16..]))
    }

    fn create(&mut self, parent: u64, name: &str, flags: u32, mode: u32) -> Answer<(Found, u64)> {
        let mut arguments = words(&[flags | 0o100, mode, 0o022, 0]);
        arguments.extend(text(name.as_bytes()));
        let answer = self.call(opcode::CREATE, parent, &arguments)?;
        Ok((found(&answer), long(&answer, 128)))
    }

    fn open(&mut self, node: u64, flags: u32) -> Answer<u64> {
        Ok(long(&self.call(opcode::OPEN, node, &words(&[flags, 0]))?, 0))
    }

    fn release(&mut self, node: u64, handle: u64) -> Answer<()> {
        self.call(opcode::RELEASE, node, &longs(&[handle, 0, 0])).map(drop)
    }

    fn read(&mut self, node: u64, handle: u64, offset: u64, size: u32) -> Answer<Vec<u8>> {
        let mut arguments = longs(&[handle, offset]);
        arguments.extend(words(&[size, 0, 0, 0, 0, 0]));
        self.call(opcode::READ, node, &arguments)
    }

    fn write(&mut self, node: u64, handle: u64, offset: u64, data: &[u8], flags: u32) -> Answer<u32> {
        let mut arguments = longs(&[handle, offset]);
        arguments.extend(words(&[u32::try_from(data.len()).unwrap(), 0, 0, 0, flags, 0]));
        arguments.extend(data);
        Ok(word(&self.call(opcode::WRITE, node, &arguments)?, 0))
    }

    fn mkdir(&mut self, parent: u64, name: &str) -> Answer<Found> {
        let mut arguments = words(&[0o755, 0o022]);
        arguments.extend(text(name.as_bytes()));
        Ok(found(&self.call(opcode::MKDIR, parent, &arguments)?))
    }

    fn mknod(&mut self, parent: u64, name: &str, mode: u32) -> Answer<Found> {
        let mut arguments = words(&[mode, 0x103, 0o022, 0]);
        arguments.extend(text(name.as_bytes()));
        Ok(found(&self.call(opcode::MKNOD, parent, &arguments)?))
    }

    fn symlink(&mut self, parent: u64, name: &str, to: &str) -> Answer<Found> {
        let arguments = [text(name.as_bytes()), text(to.as_bytes())].concat();
        Ok(found(&self.call(opcode::SYMLINK, parent, &arguments)?))
    }

    fn link(&mut self, node: u64, parent: u64, name: &str) -> Answer<Found> {
        let arguments = [longs(&[node]), text(name.as_bytes())].concat();
        Ok(found(&self.call(opcode::LINK, parent, &arguments)?))
    }

    fn unlink(&mut self, parent: u64, name: &str) -> Answer<()> {
        self.call(opcode::UNLINK, parent, &text(name.as_bytes())).map(drop)
    }

    fn rmdir(&mut self, parent: u64, name: &str) -> Answer<()> {
        self.call(opcode::RMDIR, parent, &text(name.as_bytes())).map(drop)
    }

    fn rename(&mut self, from: (u64, &str), to: (u64, &str), flags: u32) -> Answer<()> {
        let mut arguments = longs(&[to.0]);
        arguments.extend(words(&[flags, 0]));
        arguments.extend([text(from.1.as_bytes()), text(to.1.as_bytes())].concat());
        self.call(opcode::RENAME2, from.0, &arguments).map(drop)
    }

    fn set(&mut self, node: u64, wanted: Wanted) -> Answer<Attributes> {
        let mut arguments = words(&[wanted.valid, 0]);
        arguments.extend(longs(&[0, wanted.size, 0, 0, 0, 0]));
        arguments.extend(words(&[0, 0, 0, wanted.mode, 0, wanted.uid, wanted.gid, 0]));
        Ok(attributes(&self.call(opcode::SETATTR, node, &arguments)?[16..]))
    }

    fn set_xattr(&mut self, node: u64, name: &str, value: &[u8]) -> Answer<()> {
        let mut arguments = words(&[u32::try_from(value.len()).unwrap(), 0]);
        arguments.extend([text(name.as_bytes()), value.to_vec()].concat());
        self.call(opcode::SETXATTR, node, &arguments).map(drop)
    }

    fn xattr(&mut self, node: u64, name: &str) -> Answer<Vec<u8>> {
        self.call(opcode::GETXATTR, node, &[words(&[4096, 0]), text(name.as_bytes())].concat())
    }

    /// Names and next positions of one answer to READDIR.
    fn list(&mut self, node: u64, position: u64, size: u32) -> Answer<Vec<(Vec<u8>, u64)>> {
        let mut arguments = longs(&[0, position]);
        arguments.extend(words(&[size, 0, 0, 0, 0, 0]));
        let answer = self.call(opcode::READDIR, node, &arguments)?;
        let mut entries = Vec::new();
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let length = usize::try_from(word(rest, 16)).unwrap();
            entries.push((rest[24..24 + length].to_vec(), long(rest, 8)));
            rest = &rest[(24 + length).next_multiple_of(8)..];
        }
        Ok(entries)
    }

    /// Closes all descriptors that can be opened again, as when there are too many.
    fn device_reopens(&mut self) {
        self.device.file_system().lock().close_spare();
    }

    fn forget(&mut self, node: u64, count: u64) {
        self.send(opcode::FORGET, node, &longs(&[count]), 0);
    }
}

/// The user who runs the tests is the agent.
fn ids() -> IdMap {
    IdMap {
        host_uid: rustix::process::geteuid().as_raw(),
        host_gid: rustix::process::getegid().as_raw(),
        guest_uid: AGENT,
        guest_gid: AGENT,
    }
}

/// A share with the paths protected that sbx protects.
fn share(name: &str, host: &Path, read_only: bool) -> Share {
    let protected = ["sandbox.kdl", "sandbox.lock", ".git/hooks"].map(PathBuf::from).to_vec();
    Share { name: name.into(), host: host.into(), read_only, protected }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"\0"].concat()
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn long(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn found(entry: &[u8]) -> Found {
    Found { node: long(entry, 0), attributes: attributes(&entry[40..]) }
}

fn attributes(bytes: &[u8]) -> Attributes {
    Attributes {
        inode: long(bytes, 0),
        size: long(bytes, 8),
        mode: word(bytes, 60),
        links: word(bytes, 64),
        uid: word(bytes, 68),
        gid: word(bytes, 72),
    }
}

/// Runs the other tests of this module once more as a user without any rights.
#[test]
fn all_of_it_holds_without_privileges() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args(["virtio::fs::tests::", "--skip", "all_of_it_holds_without_privileges"])
        .current_dir("/")
        .env("TMPDIR", std::env::temp_dir())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!report.contains("running 0 tests"), "{report}");
}
