//! What each kind of thread is there for, done under its filter, rare things among it. A call that a list lacks ends the
//! test.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, StatxFlags,
    Timestamps, XattrFlags,
};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown as HowShut};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::*;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Does `body` in a thread that may do what `role` needs, with what was prepared before, in a directory with a `file`.
fn do_as<T: Send + 'static>(role: Role, prepared: T, body: fn(&Path, T)) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), [7; 8192]).unwrap();
    let path = directory.path().to_path_buf();
    let thread = thread::spawn(move || {
        forbid(Violation::Kill, matches!(role, NET | Role::NetWorker)).unwrap();
        permit(role, Violation::Kill).unwrap();
        body(&path, prepared);
    });
    thread.join().unwrap();
}

#[test]
fn the_owner_records_answers_and_starts_threads() {
    do_as(Role::Owner, UnixStream::pair().unwrap(), |path, (mut ours, theirs)| {
        let mut file = tempfile::NamedTempFile::new_in(path).unwrap();
        file.write_all(b"state").unwrap();
        file.as_file().sync_all().unwrap();
        file.persist(path.join("state.json")).unwrap();
        File::open(path).unwrap().sync_all().unwrap();
        drop(tempfile::NamedTempFile::new_in(path).unwrap());
        ours.write_all(b"answer").unwrap();
        let mut lease = ours.try_clone().unwrap();
        let watching = thread::Builder::new().name("lease".to_owned()).spawn(move || {
            permit(Role::Waiting, Violation::Kill).unwrap();
            lease.read(&mut [0; 64])
        });
        theirs.shutdown(Shutdown::Both).unwrap();
        assert_eq!(watching.unwrap().join().unwrap().unwrap(), 0);
    });
}

#[test]
fn control_takes_connections() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    do_as(Role::Control, listener, |_, listener| {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"answer").unwrap();
        connection.set_nonblocking(true).unwrap();
        assert!(connection.read(&mut [0; 1]).is_err());
    });
}

#[test]
fn the_end_of_a_program_is_waited_for() {
    let child = Command::new("/bin/true").spawn().unwrap();
    do_as(Role::Qemu, child, |_, mut child| assert!(child.wait().unwrap().success()));
}

#[test]
fn logs_are_written_and_turned() {
    let (pipe, mut writer) = io::pipe().unwrap();
    writer.write_all(b"line").unwrap();
    drop(writer);
    do_as(Role::Log, pipe, |path, mut pipe| {
        let mut line = [0; 64];
        assert_eq!(pipe.read(&mut line).unwrap(), 4);
        fs::rename(path.join("file"), path.join("file.1")).unwrap();
        let mut log =
            OpenOptions::new().write(true).create(true).truncate(true).open(path.join("file")).unwrap();
        log.write_all(&line).unwrap();
    });
}

#[test]
fn disks_are_read_written_flushed_and_trimmed() {
    for role in [BLOCK, Role::DeviceLoop] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        do_as(role, file, |_, file| {
            let mut bytes = [0; 16];
            rustix::io::preadv(&file, &mut [IoSliceMut::new(&mut bytes)], 0).unwrap();
            rustix::io::pwritev(&file, &[IoSlice::new(&bytes)], 0).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Whether this file system can make holes is not what is asked.
            let _ = rustix::fs::fallocate(&file, hole, 0, 4096);
            file.sync_data().unwrap();
        });
    }
}

/// What wakes a thread that serves devices.
fn bell() -> (OwnedFd, OwnedFd) {
    (epoll::create(CreateFlags::CLOEXEC).unwrap(), eventfd(1, EventfdFlags::NONBLOCK).unwrap())
}

fn wait_for_bell(epoll: &OwnedFd, bell: &OwnedFd) {
    epoll::add(epoll, bell, EventData::new_u64(1), EventFlags::IN).unwrap();
    let mut events = Vec::with_capacity(4);
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&NOW)).unwrap();
    assert_eq!(events.len(), 1);
    rustix::io::read(bell, &mut [0_u8; 8]).unwrap();
    rustix::io::write(bell, &1_u64.to_ne_bytes()).unwrap();
    epoll::delete(epoll, bell).unwrap();
}

#[test]
fn devices_wait_for_events() {
    for role in [BLOCK, FS, NET, VSOCK, RNG, Role::DeviceLoop, Role::FsWorker, Role::NetWorker] {
        do_as(role, bell(), |_, (epoll, bell)| wait_for_bell(&epoll, &bell));
    }
    for role in [BLOCK, FS, NET, VSOCK, RNG] {
        do_as(role, bell(), |_, (_, bell)| {
            poll(&mut [PollFd::new(&bell, PollFlags::IN)], None).unwrap();
        });
    }
}

#[test]
fn the_socket_device_makes_and_ends_streams() {
    for role in [VSOCK, Role::DeviceLoop] {
        do_as(role, (), |_, ()| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            rustix::net::send(&ours, b"data", SendFlags::NOSIGNAL).unwrap();
            rustix::net::shutdown(&ours, HowShut::Write).unwrap();
            let mut bytes = [0; 16];
            assert_eq!(rustix::io::readv(&theirs, &mut [IoSliceMut::new(&mut bytes)]).unwrap(), 4);
            assert_eq!(theirs.read(&mut bytes).unwrap(), 0);
        });
    }
}

#[test]
fn the_network_card_has_the_internet() {
    for role in [NET, Role::NetWorker] {
        do_as(role, (), |path, ()| {
            let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags).unwrap();
            let soon = Itimerspec { it_interval: NOW, it_value: timestamp() };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &soon).unwrap();
            eventfd(0, EventfdFlags::NONBLOCK).unwrap();
            epoll::add(&epoll, &timer, EventData::new_u64(1), EventFlags::IN).unwrap();
            for address in ["127.0.0.1:0", "[::1]:0"] {
                carry(address);
            }
            assert_eq!(fs::read(path.join("file")).unwrap().len(), 8192);
        });
    }
}

/// A connection, and datagrams, from and to `address`, if the host has it.
fn carry(address: &str) {
    let Ok(listener) = TcpListener::bind(address) else { return };
    listener.set_nonblocking(true).unwrap();
    let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    ours.set_nodelay(true).unwrap();
    assert!(ours.take_error().unwrap().is_none());
    assert_eq!(theirs.peer_addr().unwrap(), ours.local_addr().unwrap());
    theirs.set_nonblocking(true).unwrap();
    ours.write_all(b"data").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        ours.try_clone().unwrap().write_vectored(&[IoSlice::new(b"more")]).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    let mut bytes = [0; 16];
    assert_eq!(theirs.read_vectored(&mut [IoSliceMut::new(&mut bytes)]).unwrap(), 4);
    let (one, other) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
    one.send_to(b"data", other.local_addr().unwrap()).unwrap();
    assert_eq!(other.recv_from(&mut bytes).unwrap().0, 4);
    other.connect(one.local_addr().unwrap()).unwrap();
    let mut none = rustix::net::SendAncillaryBuffer::default();
    rustix::net::sendmsg(&other, &[IoSlice::new(b"data")], &mut none, SendFlags::empty()).unwrap();
    let mut none = rustix::net::RecvAncillaryBuffer::default();
    let mut space = [IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(&one, &mut space, &mut none, rustix::net::RecvFlags::empty()).unwrap();
}

#[test]
fn shared_directories_are_served() {
    for role in [FS, Role::FsWorker] {
        let links =
            rustix::fs::open("/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        do_as(role, links, |path, links| serve_files(path, &links));
    }
}

/// Everything that the server of shared directories asks of the host, through descriptors as it does.
fn serve_files(path: &Path, links: &OwnedFd) {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()).unwrap();
    rustix::fs::mkdirat(&root, "directory", Mode::RWXU).unwrap();
    rustix::fs::mknodat(&root, "fifo", FileType::Fifo, mode, 0).unwrap();
    rustix::fs::symlinkat("file", &root, "link").unwrap();
    assert_eq!(rustix::fs::readlinkat(&root, "link", Vec::new()).unwrap().as_bytes(), b"file");
    rustix::fs::linkat(&root, "file", &root, "other", AtFlags::empty()).unwrap();
    rustix::fs::renameat_with(&root, "other", &root, "another", RenameFlags::NOREPLACE).unwrap();
    rustix::fs::unlinkat(&root, "another", AtFlags::empty()).unwrap();
    rustix::fs::unlinkat(&root, "directory", AtFlags::REMOVEDIR).unwrap();
    rustix::fs::openat2(&root, "file", OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH).unwrap();
    rustix::fs::statx(&root, "file", AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).unwrap();
    rustix::fs::fstatvfs(&root).unwrap();

    let entries = rustix::fs::openat(&root, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut space = Vec::with_capacity(4096);
    assert!(RawDir::new(&entries, space.spare_capacity_mut()).next().is_some());
    rustix::fs::fsync(&entries).unwrap();

    let file = rustix::fs::openat(&root, "file", OFlags::RDWR, Mode::empty()).unwrap();
    let mut bytes = [0; 16];
    rustix::io::preadv(&file, &mut [IoSliceMut::new(&mut bytes)], 0).unwrap();
    rustix::io::pwritev(&file, &[IoSlice::new(&bytes)], 0).unwrap();
    rustix::fs::seek(&file, SeekFrom::Data(0)).unwrap();
    rustix::fs::ftruncate(&file, 4096).unwrap();
    let _ = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 8192);
    rustix::fs::fchmod(&file, mode).unwrap();
    let appending = rustix::fs::fcntl_getfl(&file).unwrap() | OFlags::APPEND;
    rustix::fs::fcntl_setfl(&file, appending).unwrap();
    let never = Timestamps { last_access: timestamp(), last_modification: timestamp() };
    rustix::fs::utimensat(&root, "file", &never, AtFlags::empty()).unwrap();
    rustix::fs::fdatasync(&file).unwrap();

    let number = rustix::path::DecInt::from_fd(file.as_fd());
    rustix::fs::chmodat(links, number.as_c_str(), mode, AtFlags::empty()).unwrap();
    let alias = CString::new(format!("/proc/self/fd/{}", number.as_c_str().to_str().unwrap())).unwrap();
    // What attributes there are depends on the file system.
    let _ = rustix::fs::setxattr(&alias, "user.test", b"value", XattrFlags::empty());
    let _ = rustix::fs::getxattr(&alias, "user.test", &mut bytes);
    let _ = rustix::fs::listxattr(&alias, &mut bytes);
    let _ = rustix::fs::removexattr(&alias, "user.test");
    assert_eq!(rustix::fs::openat(&root, "none", OFlags::PATH, Mode::empty()).unwrap_err(), Errno::NOENT);
}

fn timestamp() -> Timespec {
    Timespec { tv_sec: 1, tv_nsec: 0 }
}
