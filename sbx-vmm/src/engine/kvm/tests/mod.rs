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

mod boot;
mod devices;
mod end;
mod rings;

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
    Machine::start(&config, &Engine::Kvm, None).unwrap()
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

fn wait_for(directory: &Path, text: &str) {
    let log = directory.join("run/console.log");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&log).unwrap_or_default().contains(text) {
        assert!(Instant::now() < deadline, "the guest does not say {text:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

macro_rules! needs_kvm {
    () => {
        if !has_kvm() {
            return;
        }
    };
}

use needs_kvm;
