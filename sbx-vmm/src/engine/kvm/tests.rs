//! Guests that drive one thing each, on the processors of this computer. Where there is no KVM, they say so.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cage;
use crate::config::MachineConfig;
use crate::engine::{Engine, KvmProbe, probe};
use crate::machine::{ExitReason, Machine, MachineExit, StartError};
use crate::seccomp::{self, Unfiltered, Violation};
use crate::testing::bare_metal::{Device, MEMORY, Ring, Steps, machine};

/// Numbers of the devices.
const ROOT: u64 = 0;
const SCRATCH: u64 = 1;
const SHARES: u64 = 2;
const SOCKETS: u64 = 3;
const ENTROPY: u64 = 4;

/// Pages of the steps' memory.
const RINGS: u64 = MEMORY;
const BUFFERS: u64 = MEMORY + 0x1_0000;

/// More than any guest here takes on an emulated KVM.
const PATIENCE: Duration = Duration::from_secs(20);

/// A descriptor that another one follows, and one that the device writes.
const NEXT: u64 = 1;
const WRITE: u64 = 2;

/// Whether there is a KVM, however slow.
fn has_kvm() -> bool {
    let probe = probe();
    let usable = matches!(probe, KvmProbe::Hardware { .. } | KvmProbe::Emulated { .. });
    if !usable {
        println!("skipped: no /dev/kvm ({probe})");
    }
    usable
}

fn start_in(directory: &Path, steps: &Steps, change: impl FnOnce(&mut MachineConfig)) -> Machine {
    let mut config = machine(directory, steps, 1 << 20);
    change(&mut config);
    Machine::start(&config, &Engine::Kvm).unwrap()
}

/// Runs `steps` to their end, which comes soon.
fn run_in(directory: &Path, steps: &Steps) -> MachineExit {
    end_of(&start_in(directory, steps, |_| ()))
}

fn end_of(machine: &Machine) -> MachineExit {
    let (waiter, (sender, receiver)) = (machine.waiter(), channel());
    std::thread::spawn(move || sender.send(waiter.wait()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        machine.kill();
        panic!("the guest hangs: {:?}", machine.wait());
    })
}

/// Runs `steps`, which end in order, and returns what they said.
fn said(steps: &Steps) -> Vec<String> {
    said_in(TempDir::new().unwrap().path(), steps)
}

fn said_in(directory: &Path, steps: &Steps) -> Vec<String> {
    let exit = run_in(directory, steps);
    assert_eq!(exit.reason, ExitReason::PoweredOff, "{exit:?}");
    assert_eq!(exit.engine_tail, [""; 0]);
    exit.console_tail
}

/// A ring in each of the first `count` pages.
fn rings(count: u64) -> Vec<Ring> {
    (0..count).map(|number| Ring::at(RINGS + number * 0x1000)).collect()
}

fn device(steps: &mut Steps, number: u64) -> Device {
    let device = Steps::device(number);
    steps.enable_line(device.line);
    device
}

/// Describes a block request at `address`: header, `length` bytes of data, status.
fn describe_block(steps: &mut Steps, ring: &Ring, address: u64, length: u64, flags: u64) {
    ring.describe(steps, 0, address, 16, NEXT);
    ring.describe(steps, 1, address + 0x1000, length, NEXT | flags);
    ring.describe(steps, 2, address + 0x10, 1, WRITE);
    steps.put(address + 0x10, 0xee, 1);
}

macro_rules! needs_kvm {
    () => {
        if !has_kvm() {
            return;
        }
    };
}

#[test]
fn a_guest_says_something_and_resets() {
    needs_kvm!();
    let lines = said(Steps::new().say("hello, world\nhalf a line").reset());
    assert_eq!(lines, ["hello, world", "half a line"]);
}

#[test]
fn no_guest_begins_before_every_thread_has_its_filter() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().say("hello\n").reset(), 1 << 20);
    let machine = Machine::build(&config, &Engine::Kvm).unwrap();
    let late = Unfiltered::announce();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| machine.run());
        // Many times what the guest takes to its end.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!running.is_finished());
        let said = std::fs::read_to_string(config.directory.join("console.log")).unwrap();
        assert_eq!(said, "", "the guest waits");
        drop(late);
    });
    let exit = end_of(&machine);
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["hello".to_owned()]));
}

#[test]
fn a_guest_that_never_began_can_be_ended() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().reset(), 1 << 20);
    let machine = Machine::build(&config, &Engine::Kvm).unwrap();
    let waiter = machine.waiter();
    drop(machine);
    assert_eq!(waiter.wait().reason, ExitReason::Killed);
}

#[test]
fn a_guest_that_fails_says_where() {
    needs_kvm!();
    let lines = said(Steps::new().put(MEMORY, 7, 4).expect(MEMORY, 8, 4).spin());
    assert_eq!(lines, ["FAILED at step 0000000000000001 0000000000000007"]);
}

#[test]
fn the_machine_is_described_to_the_kernel() {
    needs_kvm!();
    let mut steps = Steps::new();
    // The signature of the boot protocol, the number of pieces of memory, the MP table.
    steps.expect(0x7000 + 0x202, u64::from(u32::from_le_bytes(*b"HdrS")), 4);
    steps.expect(0x7000 + 0x1e8, 3, 1).expect(0xf_0000, u64::from(u32::from_le_bytes(*b"_MP_")), 4);
    steps.say_memory(0x2_0000, 4 + 12);
    steps.say("\n").reset();
    assert_eq!(said(&steps), ["console=ttyS0 qu"]);
}

#[test]
fn a_triple_fault_is_a_reset() {
    needs_kvm!();
    assert_eq!(said(Steps::new().say("now\n").triple_fault()), ["now"]);
}

#[test]
fn a_panic_on_the_console_is_told_from_a_power_off() {
    needs_kvm!();
    let mut steps = Steps::new();
    steps.say("[    0.1] Kernel panic - not syncing: no init\n").triple_fault();
    let exit = run_in(TempDir::new().unwrap().path(), &steps);
    assert_eq!(exit.reason, ExitReason::Panicked { message: "no init".to_owned() });
}

#[test]
fn a_guest_that_never_yields_is_stopped() {
    needs_kvm!();
    for vcpus in [1, 3] {
        let directory = TempDir::new().unwrap();
        let machine =
            start_in(directory.path(), Steps::new().say("spinning\n").spin(), |config| config.vcpus = vcpus);
        wait_for(directory.path(), "spinning");
        let begin = Instant::now();
        machine.kill();
        assert_eq!(machine.wait().reason, ExitReason::Killed);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        machine.kill();
        assert_eq!(machine.wait().reason, ExitReason::Killed, "whoever asks later gets the same answer");
    }
}

#[test]
fn a_guest_runs_in_the_cage() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), Steps::new().say("caged\n").reset(), 1 << 20);
    let exit = std::thread::scope(|scope| {
        let machine = scope.spawn(|| {
            cage::confine_thread(&config, &Engine::Kvm, &[]).unwrap();
            seccomp::forbid(Violation::Kill).unwrap();
            Machine::start(&config, &Engine::Kvm).unwrap().wait()
        });
        machine.join().unwrap()
    });
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["caged".to_owned()]));
}

#[test]
fn a_guest_that_sleeps_for_ever_ends_when_it_is_dropped() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let machine = start_in(directory.path(), Steps::new().say("asleep\n").sleep(), |_| ());
    wait_for(directory.path(), "asleep");
    let waiter = machine.waiter();
    drop(machine);
    assert_eq!(waiter.wait().reason, ExitReason::Killed);
}

fn wait_for(directory: &Path, text: &str) {
    let log = directory.join("run/console.log");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&log).unwrap_or_default().contains(text) {
        assert!(Instant::now() < deadline, "the guest does not say {text:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_guest_that_kvm_cannot_run_ends_with_the_reason() {
    needs_kvm!();
    // There is no memory behind the devices from which instructions could come.
    let exit = run_in(TempDir::new().unwrap().path(), Steps::new().go_to(0xd010_0000));
    let ExitReason::ProcessorFailed { what } = &exit.reason else { panic!("{exit:?}") };
    assert!(what.starts_with("processor 0: ") && what.contains("rip 0x00000000d0100000"), "{what}");
    assert!(exit.engine_tail.iter().any(|line| line.contains("instruction bytes")), "{exit:?}");
    assert!(exit.engine_tail.iter().any(|line| line.contains("cr3 0x9000")), "{exit:?}");
}

#[test]
fn the_second_processor_starts_when_the_first_one_says_so() {
    needs_kvm!();
    const PAGE: u8 = 8;
    const FLAG: u64 = 0x6000;
    // mov al, 'A'; mov dx, 0x3f8; out dx, al; mov al, 10; out dx, al; mov byte [0x6000], 1; cli; hlt
    const CODE: &[u8] = b"\xb0A\xba\xf8\x03\xee\xb0\x0a\xee\xc6\x06\x00\x60\x01\xfa\xf4";
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    steps.put(FLAG, 0, 1).put_bytes(u64::from(PAGE) << 12, CODE);
    steps.start_processor(1, PAGE).until(FLAG, 1, 1).say("B\n").reset();
    let exit = end_of(&start_in(directory.path(), &steps, |config| config.vcpus = 2));
    assert_eq!((exit.reason, exit.console_tail), (ExitReason::PoweredOff, vec!["A".into(), "B".into()]));
}

#[test]
fn ports_and_addresses_that_are_nobodys_read_as_ones() {
    needs_kvm!();
    let mut steps = Steps::new();
    steps.put(0xd010_0000, 1, 4).expect(0xd010_0000, 0xffff_ffff, 4);
    steps.expect(0xd000_5000, 0xff, 1).expect(0xffff_f000, u64::MAX, 8);
    steps.port(0x80, 1).port(0x64, 0xd1).say("fine\n").reset();
    assert_eq!(said(&steps), ["fine"]);
}

#[test]
fn devices_are_where_the_command_line_says_and_agree_on_features() {
    needs_kvm!();
    let mut steps = Steps::new();
    for (number, kind) in [(ROOT, 2), (SCRATCH, 2), (SHARES, 26), (SOCKETS, 19), (ENTROPY, 4)] {
        let device = Steps::device(number);
        steps.expect(device.register(0), 0x7472_6976, 4).expect(device.register(4), 2, 4);
        steps.expect(device.register(8), kind, 4);
        device.set(&mut steps, 0x14, 1);
        steps.expect_bits(device.register(0x10), 1, 4);
        device.negotiate(&mut steps, 1 << 32);
        device.set(&mut steps, 0x70, 0);
        // Without version 1 there is no agreement.
        for status in [1, 3, 11] {
            device.set(&mut steps, 0x70, status);
        }
        steps.expect(device.register(0x70), 3, 4);
    }
    // A sector count of eight, the tag of the file system, the guest's address.
    steps.expect(Steps::device(ROOT).register(0x100), 8, 8);
    steps.say_memory(Steps::device(SHARES).register(0x100), 6).say("\n");
    steps.expect(Steps::device(SOCKETS).register(0x100), 3, 8);
    assert_eq!(said(steps.reset()), ["shares"]);
}

#[test]
fn blocks_are_written_and_read_back_with_interrupts() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let (disk, ring) = (device(&mut steps, SCRATCH), rings(1)[0]);
    disk.start(&mut steps, &[ring]);
    // Write sector 5.
    describe_block(&mut steps, &ring, BUFFERS, 512, 0);
    steps.put(BUFFERS, 1, 8).put(BUFFERS + 8, 5, 8).put_bytes(BUFFERS + 0x1000, b"written by a guest");
    ring.offer(&mut steps, 0, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(1);
    disk.acknowledge(&mut steps, 1);
    ring.expect_used(&mut steps, 0, 0, 1);
    steps.expect(BUFFERS + 0x10, 0, 1);
    // Read it to another place.
    let other = BUFFERS + 0x2000;
    describe_block(&mut steps, &ring, other, 512, WRITE);
    steps.put(other, 0, 8).put(other + 8, 5, 8);
    ring.offer(&mut steps, 1, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(2);
    disk.acknowledge(&mut steps, 1);
    ring.expect_used(&mut steps, 1, 0, 513);
    steps.say_memory(other + 0x1000, 18).say("\n").reset();
    assert_eq!(said_in(directory.path(), &steps), ["written by a guest"]);
    let bytes = std::fs::read(directory.path().join("scratch")).unwrap();
    assert!(bytes[..5 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[5 * 512..][..20], b"written by a guest\0\0");
}

#[test]
fn a_disk_that_is_read_only_stays_as_it_is() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let (disk, ring) = (device(&mut steps, ROOT), rings(1)[0]);
    disk.start(&mut steps, &[ring]);
    describe_block(&mut steps, &ring, BUFFERS, 512, 0);
    steps.put(BUFFERS, 1, 8).put(BUFFERS + 8, 0, 8);
    ring.offer(&mut steps, 0, 0);
    disk.kick(&mut steps, 0);
    steps.interrupted(1).expect(BUFFERS + 0x10, 1, 1).say("refused\n").reset();
    assert_eq!(said_in(directory.path(), &steps), ["refused"]);
    assert!(std::fs::read(directory.path().join("root")).unwrap() == [7; 4096]);
}

#[test]
fn entropy_comes() {
    needs_kvm!();
    let mut steps = Steps::new();
    let (entropy, ring) = (device(&mut steps, ENTROPY), rings(1)[0]);
    entropy.start(&mut steps, &[ring]);
    ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    for position in 0..3 {
        ring.offer(&mut steps, position, 0);
        entropy.kick(&mut steps, 0);
        steps.interrupted(position + 1);
        entropy.acknowledge(&mut steps, 1);
        ring.expect_used(&mut steps, position, 0, 64);
        steps.say_memory(BUFFERS, 64);
    }
    let directory = TempDir::new().unwrap();
    said_in(directory.path(), steps.reset());
    let said = std::fs::read(directory.path().join("run/console.log")).unwrap();
    assert_eq!(said.len(), 3 * 64);
    assert!(said.chunks(8).all(|bytes| bytes != [0; 8]), "{said:?}");
    assert!(said[..64] != said[64..128] && said[64..128] != said[128..]);
}

#[test]
fn a_host_that_connects_is_answered() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let sockets = device(&mut steps, SOCKETS);
    let rings = rings(3);
    let (rx, tx) = (rings[0], rings[1]);
    sockets.start(&mut steps, &rings);
    let (request, data, answer) = (BUFFERS, BUFFERS + 0x1000, BUFFERS + 0x2000);
    for (position, place) in [(0, request), (1, data)] {
        rx.describe(&mut steps, position, place, 0x1000, WRITE);
        rx.offer(&mut steps, position, position);
    }
    sockets.kick(&mut steps, 0);
    steps.say("listening\n");
    // A request for a connection to port 1024 of context 3 (virtio 1.2, 5.10.6): its stream and operation.
    steps.until(rx.indexes()[1], 1, 2).expect(request + 8, 3, 8).expect(request + 20, 1024, 4);
    steps.expect(request + 28, 1 << 16 | 1, 4);
    // The answer goes back where it came from: the port is copied by a write of the device's own bytes.
    let send = |steps: &mut Steps, operation: u64, length: u64, position: u64| {
        steps.put(answer, 3, 8).put(answer + 8, 2, 8).put(answer + 16, 1024, 4);
        steps.copy(answer + 20, request + 16, 4).put(answer + 24, length, 4);
        steps.put(answer + 28, operation << 16 | 1, 4).put(answer + 32, 0, 4);
        steps.put(answer + 36, 0x1_0000, 4).put(answer + 40, 0, 4);
        tx.describe(steps, 0, answer, 44 + length, 0);
        tx.offer(steps, position, 0);
        sockets.kick(steps, 1);
        steps.until(tx.indexes()[1], position + 1, 2);
    };
    send(&mut steps, 2, 0, 0);
    // What the host says comes back.
    steps.until(rx.indexes()[1], 2, 2).expect(data + 24, 5, 4).expect(data + 28, 5 << 16 | 1, 4);
    steps.copy(answer + 44, data + 44, 5);
    send(&mut steps, 5, 5, 1);
    steps.say("echoed\n").spin();

    let machine = start_in(directory.path(), &steps, |_| ());
    wait_for(directory.path(), "listening");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    machine.vsock().connect(1024, theirs).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ours.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    ours.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    wait_for(directory.path(), "echoed");
    machine.kill();
    assert_eq!(machine.wait().reason, ExitReason::Killed);
}

/// A FUSE message (fuse_in_header of Linux's include/uapi/linux/fuse.h): header, then `body`.
fn fuse(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let mut message = u32::try_from(40 + body.len()).unwrap().to_le_bytes().to_vec();
    message.extend(opcode.to_le_bytes());
    message.extend(unique.to_le_bytes());
    message.extend(node.to_le_bytes());
    message.extend([0; 16]);
    message.extend(body);
    message
}

#[test]
fn a_file_is_looked_up_and_read() {
    needs_kvm!();
    const LOOKUP: u32 = 1;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const INIT: u32 = 26;
    let directory = TempDir::new().unwrap();
    let mut steps = Steps::new();
    let shares = device(&mut steps, SHARES);
    let rings = rings(2);
    let requests = rings[1];
    shares.start(&mut steps, &rings);
    let answer_at = |number: u64| BUFFERS + 0x4000 * number + 0x1000;
    let mut number = 0;
    // `handle` is where a file handle is, for the arguments of the message.
    let mut send = |steps: &mut Steps, opcode: u32, node: u64, body: &[u8], handle: Option<u64>| {
        let (question, answer) = (answer_at(number) - 0x1000, answer_at(number));
        let message = fuse(opcode, number + 1, node, body);
        steps.put_bytes(question, &message);
        if let Some(handle) = handle {
            steps.copy(question + 40, handle, 8);
        }
        requests.describe(steps, 0, question, message.len() as u64, NEXT);
        requests.describe(steps, 1, answer, 0x2000, WRITE);
        requests.offer(steps, number, 0);
        shares.kick(steps, 1);
        number += 1;
        steps.interrupted(number);
        shares.acknowledge(steps, 1);
        // No error, and the number of the message.
        steps.expect(answer + 4, 0, 4).expect(answer + 8, number, 8);
        answer + 16
    };
    let version = [7_u32, 31, 0x2_0000, 0].map(u32::to_le_bytes).concat();
    let answer = send(&mut steps, INIT, 0, &version, None);
    steps.expect(answer, 7, 4);
    let (shared, file) = (2, 3);
    let answer = send(&mut steps, LOOKUP, 1, b"shared\0", None);
    steps.expect(answer, shared, 8);
    let answer = send(&mut steps, LOOKUP, shared, b"file\0", None);
    steps.expect(answer, file, 8);
    let handle = send(&mut steps, OPEN, file, &[0; 8], None);
    // Handle, offset, size, four words without meaning here.
    let wanted = [&[0; 16][..], &4096_u32.to_le_bytes(), &[0; 20]].concat();
    let answer = send(&mut steps, READ, file, &wanted, Some(handle));
    steps.expect(answer - 16, 16 + 14, 4).say_memory(answer, 14).reset();
    std::fs::create_dir_all(directory.path().join("shared")).unwrap();
    std::fs::write(directory.path().join("shared/file"), "from the host\n").unwrap();
    assert_eq!(said_in(directory.path(), &steps), ["from the host"]);
}

#[test]
fn a_device_with_a_broken_ring_needs_a_reset_and_works_after_it() {
    needs_kvm!();
    let mut steps = Steps::new();
    let (entropy, ring) = (device(&mut steps, ENTROPY), rings(1)[0]);
    entropy.start(&mut steps, &[ring]);
    // More chains than there can be, a head that is not in the table.
    for (interrupts, (index, head)) in [(1, (100, 0)), (2, (1, 77))] {
        steps.put(ring.available + 4, head, 2).put(ring.available + 2, index, 2);
        entropy.kick(&mut steps, 0);
        steps.interrupted(interrupts);
        entropy.acknowledge(&mut steps, 2);
        steps.expect(entropy.register(0x70), 15 | 64, 4);
        steps.put(ring.available + 2, 0, 2).put(ring.indexes()[1], 0, 2);
        entropy.start(&mut steps, &[ring]);
    }
    ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    ring.offer(&mut steps, 0, 0);
    entropy.kick(&mut steps, 0);
    steps.interrupted(3);
    ring.expect_used(&mut steps, 0, 0, 64);
    assert_eq!(said(steps.say("mended\n").reset()), ["mended"]);
}

#[test]
fn rings_outside_of_memory_need_a_reset() {
    needs_kvm!();
    let mut steps = Steps::new();
    let entropy = device(&mut steps, ENTROPY);
    for page in [0xd000_0000, 0xfee0_0000, 1 << 32, 1 << 60, 0xff_fc00] {
        entropy.negotiate(&mut steps, 1 << 32);
        entropy.set(&mut steps, 0x30, 0);
        entropy.set(&mut steps, 0x38, 16);
        for (offset, address) in [(0x80, page), (0x90, page + 0x400), (0xa0, page + 0x800)] {
            entropy.set(&mut steps, offset, address & 0xffff_ffff);
            entropy.set(&mut steps, offset + 4, address >> 32);
        }
        entropy.set(&mut steps, 0x44, 1);
        steps.expect(entropy.register(0x44), 0, 4).expect(entropy.register(0x70), 11 | 64, 4);
    }
    assert_eq!(said(steps.say("refused\n").reset()), ["refused"]);
}

#[test]
fn a_queue_that_moves_under_the_devices_feet_is_not_followed() {
    needs_kvm!();
    let mut steps = Steps::new();
    let entropy = device(&mut steps, ENTROPY);
    let rings = rings(2);
    let (ring, elsewhere) = (rings[0], rings[1]);
    entropy.start(&mut steps, &[ring]);
    for ring in [ring, elsewhere] {
        ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    }
    elsewhere.offer(&mut steps, 0, 0);
    entropy.set(&mut steps, 0x90, elsewhere.available);
    steps.interrupted(1);
    entropy.acknowledge(&mut steps, 2);
    steps.expect(entropy.register(0x70), 15 | 64, 4);
    entropy.kick(&mut steps, 0);
    // It touches neither.
    steps.put(BUFFERS + 0x100, 0, 8);
    steps.expect(elsewhere.indexes()[1], 0, 2).expect(ring.indexes()[1], 0, 2);
    assert_eq!(said(steps.say("left alone\n").reset()), ["left alone"]);
}

#[test]
fn a_kernel_that_cannot_be_booted_is_an_error_at_once() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let config = machine(directory.path(), &Steps::new(), 1 << 20);
    let start = |change: &dyn Fn(&mut MachineConfig)| {
        let mut config = config.clone();
        change(&mut config);
        Machine::start(&config, &Engine::Kvm).unwrap_err()
    };
    let error = start(&|config| config.kernel = "/nowhere/vmlinux".into());
    assert_eq!(error.to_string(), "cannot boot /nowhere/vmlinux");
    let error = start(&|config| config.kernel.clone_from(&config.root[0].file));
    assert!(matches!(error, StartError::Boot { .. }), "{error}");
    let error = start(&|config| config.kernel_parameters = vec!["x".repeat(2000)]);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.starts_with("the kernel takes a command line of 2047 bytes, and this one has 2"),
        "{cause}"
    );
}

#[test]
fn words_of_the_caller_reach_the_kernel_last() {
    needs_kvm!();
    let directory = TempDir::new().unwrap();
    let words = super::command_line(5, &["last=1".to_owned()]);
    let mut steps = Steps::new();
    steps.say_memory(0x2_0000, words.len() as u64).say("\n").reset();
    let exit = end_of(&start_in(directory.path(), &steps, |config| {
        config.kernel_parameters = vec!["last=1".to_owned()];
    }));
    assert_eq!(exit.console_tail, [words.as_str()]);
    assert!(words.ends_with("virtio_mmio.device=0x1000@0xd0004000:10 last=1"), "{words}");
}
