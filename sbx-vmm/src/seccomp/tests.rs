//! Threads under each filter, in processes of their own: what they may not do ends those.
//!
//! A test runs its own program again, with only [`in_a_process_of_its_own`] in it, and looks at how that ends.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use vm_memory::mmap::MmapRegion;

use super::*;
use crate::sys::kvm::CountingGuest;

mod uses;

/// Tells the program that runs again which case it is.
const CASE: &str = "SBX_TEST_SECCOMP_CASE";

const BLOCK: Role = Role::VhostUser(DeviceKind::Block);
const FS: Role = Role::VhostUser(DeviceKind::Fs);
const NET: Role = Role::VhostUser(DeviceKind::Net);
const VSOCK: Role = Role::VhostUser(DeviceKind::Vsock);
const RNG: Role = Role::VhostUser(DeviceKind::Rng);

const ROLES: [Role; 16] = [
    Role::Owner,
    Role::Control,
    Role::Guest,
    Role::Waiting,
    Role::Log,
    BLOCK,
    FS,
    NET,
    VSOCK,
    RNG,
    Role::DeviceLoop,
    Role::FsWorker,
    Role::NetWorker,
    Role::Vcpu,
    Role::Keeper,
    Role::Qemu,
];

/// A function that tries something and does not care how it goes.
macro_rules! tries {
    ($attempt:expr) => {
        || {
            let _ = $attempt;
        }
    };
}

/// What a thread does that it may not. That it fails or succeeds means nothing: it must not return.
const OFFENCES: &[(&str, fn())] = &[
    ("makes a directory", tries!(fs::create_dir("/tmp/sbx-test-seccomp"))),
    ("starts a program", tries!(Command::new("/bin/true").spawn())),
    ("makes a socket", tries!(UnixDatagram::unbound())),
    (
        "makes memory executable",
        tries!({
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            MmapRegion::<()>::build(None, 4096, libc::PROT_READ | libc::PROT_EXEC, flags)
        }),
    ),
    ("asks a device for something", tries!(rustix::io::ioctl_fionread(io::stderr()))),
    ("changes its root", tries!(std::os::unix::fs::chroot("/"))),
    #[cfg(target_arch = "x86_64")]
    ("uses the other set of calls", tries!(crate::sys::x32::process_id())),
];

/// What only some may do, and these not.
const OFFENCES_OF_SOME: &[(Role, &str, fn())] = &[
    (BLOCK, "makes a connection", tries!(UnixStream::pair())),
    (FS, "makes a connection", tries!(UnixStream::pair())),
    (FS, "sends", tries!(rustix::net::send(io::stderr(), b"x", rustix::net::SendFlags::empty()))),
    (Role::FsWorker, "takes a connection", tries!(rustix::net::accept(io::stderr()))),
    (
        BLOCK,
        "removes a file",
        tries!(rustix::fs::unlinkat(rustix::fs::CWD, "none", rustix::fs::AtFlags::empty())),
    ),
    (VSOCK, "reads a file", tries!(rustix::io::preadv(io::stderr(), &mut [], 0))),
    (VSOCK, "makes a socket of the internet", tries!(UdpSocket::bind("127.0.0.1:0"))),
    (Role::DeviceLoop, "makes a socket of the internet", tries!(TcpListener::bind("127.0.0.1:0"))),
    (NET, "makes a raw socket", tries!(raw_socket(rustix::net::AddressFamily::INET))),
    (Role::NetWorker, "makes a raw socket", tries!(raw_socket(rustix::net::AddressFamily::INET6))),
    (NET, "makes another kind of socket", tries!(raw_socket(rustix::net::AddressFamily::NETLINK))),
    (Role::NetWorker, "makes a connection to itself", tries!(UnixStream::pair())),
    (NET, "writes to a file that it opens", tries!(File::create("/tmp/sbx-test-seccomp"))),
    (RNG, "writes a file", tries!(rustix::io::pwritev(io::stderr(), &[], 0))),
    (RNG, "starts a thread", tries!(thread::Builder::new().spawn(|| ()))),
    (Role::Vcpu, "waits", tries!(rustix::event::poll(&mut [], None))),
    (Role::Waiting, "sends", tries!(rustix::net::send(io::stderr(), b"x", rustix::net::SendFlags::empty()))),
];

fn raw_socket(family: rustix::net::AddressFamily) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket(family, rustix::net::SocketType::RAW, None)?)
}

/// What nobody may, QEMU included.
const OFFENCES_OF_ALL: &[(&str, fn())] = &[
    ("makes a socket of the internet", tries!(UdpSocket::bind("127.0.0.1:0"))),
    ("changes its root", tries!(std::os::unix::fs::chroot("/"))),
    #[cfg(target_arch = "x86_64")]
    ("uses the other set of calls", tries!(crate::sys::x32::process_id())),
];

/// What QEMU may not in a process with a network card, though the process may.
const OFFENCES_OF_QEMU: &[(&str, fn())] = &[
    ("makes a socket of the internet", tries!(UdpSocket::bind("127.0.0.1:0"))),
    ("makes a socket of its successor", tries!(UdpSocket::bind("[::1]:0"))),
    ("makes another kind of socket", tries!(raw_socket(rustix::net::AddressFamily::NETLINK))),
];

/// Which filters a case is under.
#[derive(Clone, Copy)]
enum Filter {
    /// The one of a kind of thread.
    Role(Role),
    /// The one of a process without a network.
    Process,
    /// Those of the thread that starts QEMU in a process with one.
    Qemu,
}

/// Not a test: what the tests below run in processes of their own.
#[test]
#[ignore = "the other tests run it"]
fn in_a_process_of_its_own() {
    let Ok(case) = std::env::var(CASE) else { return };
    let case = case.parse().unwrap();
    thread::spawn(move || run(case)).join().unwrap();
}

/// A filter and what is done under it, by number.
fn run(case: usize) {
    let (filter, body) = cases().swap_remove(case);
    match filter {
        Filter::Process => forbid(Violation::Kill, false).unwrap(),
        Filter::Qemu => {
            forbid(Violation::Kill, true).unwrap();
            drop(UdpSocket::bind("127.0.0.1:0").unwrap());
            go_offline().unwrap();
            drop(UnixDatagram::unbound().unwrap());
        }
        Filter::Role(role) => permit(role, Violation::Kill).unwrap(),
    }
    body();
}

fn cases() -> Vec<(Filter, fn())> {
    let everybody =
        ROLES.iter().flat_map(|role| OFFENCES.iter().map(|(_, body)| (Filter::Role(*role), *body)));
    let some = OFFENCES_OF_SOME.iter().map(|(role, _, body)| (Filter::Role(*role), *body));
    let all = OFFENCES_OF_ALL.iter().map(|(_, body)| (Filter::Process, *body));
    let qemu = OFFENCES_OF_QEMU.iter().map(|(_, body)| (Filter::Qemu, *body));
    let lives = ROLES.iter().map(|role| (Filter::Role(*role), live as fn()));
    everybody.chain(some).chain(all).chain(qemu).chain(lives).collect()
}

/// Runs case `number` and says how it ended, and what it said.
fn end_of(number: usize) -> (ExitStatus, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "seccomp::tests::in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(CASE, number.to_string())
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
    )
}

#[track_caller]
fn dies(number: usize, what: impl std::fmt::Debug) {
    let (status, said) = end_of(number);
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{what:?}: {status}\n{said}");
}

#[test]
fn a_thread_that_does_what_no_role_needs_takes_its_process_along() {
    let mut number = 0;
    for role in ROLES {
        for (what, _) in OFFENCES {
            dies(number, (role, what));
            number += 1;
        }
    }
}

#[test]
fn a_thread_that_does_what_another_role_needs_takes_its_process_along() {
    let first = ROLES.len() * OFFENCES.len();
    for (number, (role, what, _)) in (first..).zip(OFFENCES_OF_SOME) {
        dies(number, (role, what));
    }
}

#[test]
fn a_process_cannot_do_what_nobody_needs() {
    let first = ROLES.len() * OFFENCES.len() + OFFENCES_OF_SOME.len();
    for (number, (what, _)) in (first..).zip(OFFENCES_OF_ALL.iter().chain(OFFENCES_OF_QEMU)) {
        dies(number, what);
    }
}

#[test]
fn every_thread_can_allocate_wait_panic_and_end() {
    let first = cases().len() - ROLES.len();
    for (number, role) in (first..).zip(ROLES) {
        let (status, said) = end_of(number);
        assert!(status.success(), "{role:?}: {status}\n{said}");
        assert!(said.contains("the last words"), "{role:?}: {said}");
    }
}

/// What every thread may do, whatever its role, the C library's own doings among it.
fn live() {
    // Arenas grow, shrink and are given back, and large blocks move.
    for size in [100, 4 << 10, 50 << 10, 300 << 10] {
        let mut blocks: Vec<Vec<u8>> = (0..16).map(|_| vec![1; size]).collect();
        blocks.iter_mut().for_each(|block| block.resize(3 * size, 2));
        blocks.retain(|block| block.first() == Some(&2));
    }
    assert_eq!(HashSet::from([1, 2]).len(), 2, "with random keys");
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let patience = std::time::Duration::from_millis(1);
    assert!(receiver.recv_timeout(patience).is_err());
    drop(sender);
    assert!(std::time::SystemTime::now().elapsed().is_ok());
    let panicked = std::panic::catch_unwind(|| panic!("the last words"));
    assert!(panicked.is_err());
}

#[test]
fn what_the_c_library_can_do_without_is_refused_and_no_offence() {
    let opened = thread::spawn(|| {
        permit(RNG, Violation::Kill).unwrap();
        File::open("/etc/passwd").map(drop)
    });
    assert_eq!(opened.join().unwrap().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_thread_that_makes_threads_gives_them_less() {
    let done = thread::spawn(|| {
        forbid(Violation::Kill, false).unwrap();
        permit(Role::Control, Violation::Kill).unwrap();
        let inner = thread::Builder::new().name("inner".to_owned()).spawn(|| {
            permit(Role::Waiting, Violation::Kill).unwrap();
            File::open("/etc/passwd").is_err()
        });
        inner.unwrap().join().unwrap()
    });
    assert!(done.join().unwrap());
}

#[test]
fn violations_can_be_logged_instead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let bound = thread::spawn(move || {
        permit(RNG, Violation::Log).unwrap();
        UnixListener::bind(path).map(drop)
    });
    bound.join().unwrap().unwrap();
}

#[test]
fn a_virtual_processor_runs_under_its_filter() {
    // Where there is no KVM, there is nothing to run.
    let Ok(mut guest) = CountingGuest::new() else { return };
    let ran = thread::spawn(move || {
        guest.set(10)?;
        permit(Role::Vcpu, Violation::Kill).unwrap();
        guest.count()
    });
    ran.join().unwrap().unwrap();
}

#[test]
fn a_list_takes_microseconds() {
    // Far above what it takes, so that only a change of kind fails it.
    let begin = std::time::Instant::now();
    for role in ROLES {
        let rules = Rules::read(role.lists()).unwrap();
        assert!(!rules.permitting(SeccompAction::KillProcess).unwrap().is_empty());
    }
    let elapsed = begin.elapsed();
    println!("{elapsed:?} for {} roles", ROLES.len());
    assert!(elapsed < std::time::Duration::from_secs(1), "{elapsed:?}");
}
