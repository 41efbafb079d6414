//! Machines that really run, with a guest of a few instructions as their init.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;
use crate::config::{Extent, IdMap, Share};
use crate::engine::Accelerator;
use crate::seccomp::{self, Unfiltered, Violation};
use crate::{cage, scratch};

/// Directory of the machine that [`child_machine`] starts, in the environment of a test that starts itself again.
const CHILD_DIRECTORY: &str = "SBX_VMM_TEST_DIRECTORY";

/// How init ends.
#[derive(Clone, Copy)]
enum Init {
    /// reboot(2)
    Restart,
    /// exit(2), on which the kernel panics
    Exit,
    /// Not at all.
    Spin,
}

/// A static program that writes a greeting and ends as `init` says.
fn program(init: Init) -> Vec<u8> {
    const GREETING: &[u8] = b"hello from init\n";
    const ADDRESS: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let end: &[u8] = match init {
        // mov eax, 169; mov edi, 0xfee1dead; mov esi, 0x28121969; mov edx, 0x1234567; syscall
        Init::Restart => {
            b"\xb8\xa9\0\0\0\xbf\xad\xde\xe1\xfe\xbe\x69\x19\x12\x28\xba\x67\x45\x23\x01\x0f\x05\xeb\xfe"
        }
        // mov eax, 60; mov edi, 7; syscall
        Init::Exit => b"\xb8\x3c\0\0\0\xbf\x07\0\0\0\x0f\x05\xeb\xfe",
        // jmp .
        Init::Spin => b"\xeb\xfe",
    };
    // mov eax, 1; mov edi, 1; lea rsi, [rip + end]; mov edx, length; syscall
    let mut code = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35".to_vec();
    code.extend(u32::try_from(7 + end.len()).unwrap().to_le_bytes());
    code.extend(b"\xba");
    code.extend(u32::try_from(GREETING.len()).unwrap().to_le_bytes());
    code.extend(b"\x0f\x05");
    code.extend(end);
    code.extend(GREETING);
    let size = HEADERS + code.len() as u64;
    // ELF header and one program header (System V ABI, AMD64 supplement).
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend((ADDRESS + HEADERS).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend(b"\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x01\0\x40\0\0\0\0\0");
    elf.extend(b"\x01\0\0\0\x05\0\0\0");
    for field in [0, ADDRESS, ADDRESS, size, size, 4096] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// A cpio archive (initramfs buffer format, "newc") with an executable `/init`.
fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in [("init", 0o100_755, init), ("TRAILER!!!", 0, &[][..])] {
        archive.extend(b"070701");
        for field in [1, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0] {
            archive.extend(format!("{field:08x}").bytes());
        }
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// The guest kernel: `SBX_TEST_KERNEL`, or the newest that was built.
fn kernel() -> PathBuf {
    if let Some(kernel) = std::env::var_os("SBX_TEST_KERNEL") {
        return PathBuf::from(kernel);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
    let store = std::env::var_os("SBX_HOME").map_or_else(|| data.join("sbx"), PathBuf::from);
    let kernels = std::fs::read_dir(store.join("kernels")).into_iter().flatten().flatten();
    kernels
        .map(|entry| entry.path().join("vmlinux"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .expect("a guest kernel: build one with `cargo xtask kernel`, or name one in SBX_TEST_KERNEL")
        .1
}

fn config(directory: &Path, init: Init) -> MachineConfig {
    let file = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (run, shared) = (directory.join("run"), directory.join("shared"));
    std::fs::create_dir_all(&run).unwrap();
    std::fs::create_dir_all(&shared).unwrap();
    let disk = directory.join("scratch.ext4");
    scratch::prepare(&disk, scratch::MIN_BYTES).unwrap();
    MachineConfig {
        vcpus: 1,
        memory_mib: 128,
        kernel: kernel(),
        initramfs: file("initramfs", &archive(&program(init))),
        kernel_parameters: Vec::new(),
        root: vec![Extent { file: file("rootfs", &[0; 4096]), offset: 0, length: 4096 }],
        scratch: disk,
        shares: vec![Share {
            name: "shared".to_owned(),
            host: shared,
            read_only: false,
            protected: Vec::new(),
        }],
        network: None,
        ids: IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 },
        directory: run,
    }
}

fn emulator() -> Engine {
    let program = crate::engine::qemu::inspect(None).unwrap().program;
    Engine::Qemu { program, accelerator: Accelerator::Tcg }
}

/// A shell script in the place of QEMU.
fn fake(directory: &Path, script: &str) -> Engine {
    let program = directory.join("fake-qemu");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Engine::Qemu { program, accelerator: Accelerator::Tcg }
}

/// Waits until the guest has greeted.
fn wait_for_greeting(run: &Path) {
    let log = run.join("console.log");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("hello from init") {
        assert!(Instant::now() < deadline, "the guest does not greet");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_guest_runs_and_powers_off() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Init::Restart);
    let machine = Machine::start(&config, &emulator(), None).unwrap();
    let exit = machine.wait();
    assert_eq!(exit.reason, ExitReason::PoweredOff, "{exit:?}");
    assert!(exit.console_tail.iter().any(|line| line == "hello from init"), "{exit:?}");
    assert_eq!(exit.engine_tail, [""; 0]);
    assert_eq!(machine.waiter().wait(), exit, "whoever asks later gets the same answer");
}

#[test]
fn no_guest_begins_before_every_thread_has_its_filter() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Init::Restart);
    let machine = Machine::build(&config, &emulator(), None).unwrap();
    let late = Unfiltered::announce();
    thread::scope(|scope| {
        let running = scope.spawn(|| machine.run());
        // Several times what the guest takes to its end.
        thread::sleep(Duration::from_secs(4));
        assert!(!running.is_finished());
        let said = std::fs::read_to_string(config.directory.join("console.log")).unwrap();
        assert_eq!(said, "", "the guest waits");
        drop(late);
    });
    assert_eq!(machine.wait().reason, ExitReason::PoweredOff);
}

#[test]
fn a_guest_that_never_began_can_be_ended() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::build(&config(directory.path(), Init::Restart), &emulator(), None).unwrap();
    let waiter = machine.waiter();
    drop(machine);
    assert_eq!(waiter.wait().reason, ExitReason::Killed);
}

#[test]
fn a_panic_is_told_from_a_power_off() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Machine::start(&config(directory.path(), Init::Exit), &emulator(), None).unwrap();
    let exit = machine.wait();
    assert_eq!(
        exit.reason.to_string(),
        "the guest's kernel panicked: Attempted to kill init! exitcode=0x00000700"
    );
    assert!(exit.console_tail.iter().any(|line| line.contains("Kernel panic")), "{exit:?}");
}

#[test]
fn a_machine_is_killed_from_another_thread_than_the_one_that_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Init::Spin);
    let machine = thread::scope(|scope| {
        scope.spawn(|| Machine::start(&config, &emulator(), None).unwrap()).join().unwrap()
    });
    // QEMU outlives the thread that asked for it.
    wait_for_greeting(&config.directory);
    machine.kill();
    assert_eq!(machine.wait().reason, ExitReason::Killed);
    machine.kill();
}

#[test]
fn a_guest_runs_in_the_cage() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), Init::Restart);
    let engine = emulator();
    let exit = thread::scope(|scope| {
        let machine = scope.spawn(|| {
            cage::confine_thread(&config, &engine, &[]).unwrap();
            seccomp::forbid(Violation::Kill, false).unwrap();
            Machine::start(&config, &engine, None).unwrap().wait()
        });
        machine.join().unwrap()
    });
    assert_eq!(exit.reason, ExitReason::PoweredOff, "{exit:?}");
    assert!(exit.console_tail.iter().any(|line| line == "hello from init"), "{exit:?}");
}

/// Not a test by itself: the process that `qemu_dies_with_its_process` kills.
#[test]
fn child_machine() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let machine = Machine::start(&config(Path::new(&directory), Init::Spin), &emulator(), None).unwrap();
    panic!("the guest ended: {:?}", machine.wait());
}

#[test]
fn qemu_dies_with_its_process_and_the_next_machine_starts_over_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "machine::tests::child_machine"])
        .env(CHILD_DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = directory.path().join("run");
    wait_for_greeting(&run);
    let qemu = descendants(child.id());
    assert_eq!(qemu.len(), 1, "one QEMU");
    let qemu = pidfd_open(Pid::from_raw(qemu[0]).unwrap(), PidfdFlags::empty()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut sources = [PollFd::new(&qemu, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut sources, Some(&patience)).unwrap(), 1, "QEMU is gone");
    assert!(run.join("block0.sock").exists(), "what it left is there");

    let config = config(directory.path(), Init::Restart);
    let exit = Machine::start(&config, &emulator(), None).unwrap().wait();
    assert_eq!(exit.reason, ExitReason::PoweredOff, "{exit:?}");
}

/// Children of all threads of `process`.
fn descendants(process: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()).collect()
}

#[test]
fn an_engine_that_fails_is_quoted_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let engine =
        fake(directory.path(), "echo 'qemu: cannot set up guest memory: Cannot allocate memory' >&2; exit 1");
    let started = Instant::now();
    let machine = Machine::start(&config(directory.path(), Init::Restart), &engine, None).unwrap();
    let exit = machine.wait();
    assert_eq!(exit.reason.to_string(), "QEMU ended before the guest ran (exit status 1)");
    assert_eq!(exit.engine_tail, ["qemu: cannot set up guest memory: Cannot allocate memory"]);
    drop(machine);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_engine_that_leaves_a_child_behind_does_not_hold_up_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let engine = fake(directory.path(), "sleep 30 & echo $! > child; echo booting; kill -9 $$");
    let config = config(directory.path(), Init::Restart);
    let exit = Machine::start(&config, &engine, None).unwrap().wait();
    assert_eq!(exit.reason, ExitReason::Crashed { status: "killed by signal 9".to_owned() });
    assert_eq!(exit.console_tail, ["booting"]);
    let left = std::fs::read_to_string(config.directory.join("child")).unwrap();
    let left = Pid::from_raw(left.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_engine_that_is_not_there_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::Qemu { program: "/nowhere/qemu".into(), accelerator: Accelerator::Tcg };
    let error = Machine::start(&config(directory.path(), Init::Restart), &engine, None).unwrap_err();
    assert_eq!(error.to_string(), "cannot run /nowhere/qemu");
}
