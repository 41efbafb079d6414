//! Processors of this computer's KVM, stopped, saved and restored. Where there is no KVM, the tests say so.

use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{Msrs, kvm_debugregs, kvm_msr_entry, kvm_regs, kvm_vcpu_events, kvm_xcrs};
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::{Processors, registers, set_up_machine};
use super::*;
use crate::saved::SavedMachine;
use crate::sys::vm::{Vcpu, Vm};
use crate::sys::xsave::set_xsave;

const MEMORY_BYTES: usize = 4 << 20;

/// Where programs are, what they count, and the byte that ends them.
const PROGRAM: u64 = 0x10_0000;
const COUNT: GuestAddress = GuestAddress(0x20_0000);
const END: GuestAddress = GuestAddress(0x20_0008);

/// Adds up all numbers until it is told to stop.
///
/// ```text
/// 48 ff c1                  inc rcx
/// 48 01 c8                  add rax, rcx
/// 48 89 0c 25 00 00 20 00   mov [0x200000], rcx
/// 80 3c 25 08 00 20 00 00   cmp byte ptr [0x200008], 0
/// 74 e8                     je the beginning
/// e6 11                     out 0x11, al
/// ```
const ADD_UP: &[u8] = &[
    0x48, 0xff, 0xc1, 0x48, 0x01, 0xc8, 0x48, 0x89, 0x0c, 0x25, 0, 0, 0x20, 0, 0x80, 0x3c, 0x25, 8, 0, 0x20,
    0, 0, 0x74, 0xe8, 0xe6, 0x11,
];

/// Reads a port and passes on what was read: `in al, 0x10; mov [0x200000], al; out 0x11, al`.
const PASS_ON: &[u8] = &[0xe4, 0x10, 0x88, 0x04, 0x25, 0, 0, 0x20, 0, 0xe6, 0x11];

/// Where XMM3 is in the layout of XSAVE, in words of 32 bits.
const XMM3: usize = (160 + 3 * 16) / 4;

/// Registers that change while nothing happens: the time stamp counter and its adjustment.
const MOVING: [u32; 2] = [0x10, 0x3b];

/// Makes another state of one.
type Change = dyn Fn(&mut SavedMachine);

/// A machine of one processor, in 64-bit mode at `PROGRAM`, and one that waits to be started.
struct Machine {
    kvm: Kvm,
    // In the order in which they may go.
    vcpu: Vcpu,
    other: Vcpu,
    vm: Vm,
}

impl Machine {
    fn new(memory: &GuestMemoryMmap) -> Option<Self> {
        let Ok(kvm) = Kvm::new() else {
            println!("skipped: no /dev/kvm");
            return None;
        };
        let vm = Vm::new(&kvm, memory.clone()).unwrap();
        set_up_machine(vm.fd()).unwrap();
        let processors = Processors::ask(&kvm, 2).unwrap();
        let [vcpu, other] = [0, 1].map(|number| {
            let vcpu = vm.create_vcpu(number).unwrap();
            processors.set_up(vcpu.fd(), number, PROGRAM).unwrap();
            vcpu
        });
        Some(Self { kvm, vcpu, other, vm })
    }

    fn save(&mut self) -> SavedMachine {
        let list = ModelSpecific::ask(&self.kvm).unwrap();
        let vcpus = [&mut self.vcpu, &mut self.other]
            .map(|vcpu| VcpuState::save(vcpu.fd_mut(), &list).unwrap())
            .to_vec();
        SavedMachine { vcpus, vm: VmState::save(self.vm.fd()).unwrap(), devices: Vec::new() }
    }

    fn restore(&self, kept: &SavedMachine) -> Result<(), StateError> {
        kept.vm.restore(self.vm.fd())?;
        kept.vcpus[0].restore(&self.kvm, self.vcpu.fd())?;
        kept.vcpus[1].restore(&self.kvm, self.other.fd())
    }

    /// Another machine with a copy of `memory`, which goes on where this one stands, by way of bytes.
    fn move_on(mut self, memory: &GuestMemoryMmap) -> (Self, GuestMemoryMmap, SavedMachine) {
        let kept = self.save();
        let bytes = kept.to_bytes().unwrap();
        let mut content = vec![0; MEMORY_BYTES];
        memory.read_slice(&mut content, GuestAddress(0)).unwrap();
        drop(self);
        let copy = new_memory();
        copy.write_slice(&content, GuestAddress(0)).unwrap();
        let parsed = SavedMachine::from_bytes(&bytes).unwrap();
        assert_eq!(parsed, kept);
        let next = Self::new(&copy).unwrap();
        next.restore(&parsed).unwrap();
        (next, copy, kept)
    }

    /// Runs the first processor until it writes to port 0x11, and returns what it wrote.
    fn run(&mut self) -> u8 {
        loop {
            match self.vcpu.fd_mut().run() {
                Ok(VcpuExit::IoOut(0x11, [byte])) => return *byte,
                Ok(exit) => panic!("the guest stopped with {exit:?}"),
                Err(error) => assert_eq!(error.errno(), libc::EINTR),
            }
        }
    }

    fn registers(&self) -> kvm_regs {
        self.vcpu.fd().get_regs().unwrap()
    }
}

fn new_memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
}

fn memory(program: &[u8]) -> GuestMemoryMmap {
    let memory = new_memory();
    registers::write_tables(&memory).unwrap();
    memory.write_slice(program, GuestAddress(PROGRAM)).unwrap();
    memory
}

/// Runs the program until it has counted a little, and stops it from outside in the middle.
fn interrupted(mut machine: Machine, memory: &GuestMemoryMmap) -> Machine {
    let Machine { kvm, mut vcpu, other, vm } = machine;
    let brake = vcpu.brake().unwrap();
    let thread = thread::spawn(move || {
        match vcpu.fd_mut().run() {
            Err(error) => assert_eq!(error.errno(), libc::EINTR),
            Ok(exit) => panic!("the guest stopped with {exit:?}"),
        }
        vcpu
    });
    let patience = Instant::now() + Duration::from_secs(20);
    while memory.read_obj::<u64>(COUNT).unwrap() < 100 {
        assert!(Instant::now() < patience && !thread.is_finished(), "the guest does not count");
        thread::sleep(Duration::from_millis(1));
    }
    brake.pull(&thread);
    vcpu = thread.join().unwrap();
    machine = Machine { kvm, vcpu, other, vm };
    machine
}

fn model_specific(state: &VcpuState) -> Vec<(u32, u64)> {
    state.model_specific.iter().copied().filter(|(index, _)| !MOVING.contains(index)).collect()
}

#[test]
fn a_processor_goes_on_in_another_machine() {
    let original = memory(ADD_UP);
    let Some(machine) = Machine::new(&original) else { return };
    let fd = machine.vcpu.fd();
    // XMM3 in the layout of XSAVE, and the bits that say that vector registers, and MXCSR, are in use (Intel SDM volume 1,
    // 13.4).
    let mut extended = fd.get_xsave().unwrap();
    extended.region[XMM3..][..4].copy_from_slice(&[1, 2, 3, 4]);
    extended.region[6] = 0x1f80;
    extended.region[128] |= 2;
    set_xsave(&machine.kvm, fd, &extended).unwrap();
    let debug = kvm_debugregs { db: [0x1000, 0x2000, 0x3000, 0x4000], ..fd.get_debug_regs().unwrap() };
    fd.set_debug_regs(&debug).unwrap();
    let base = kvm_msr_entry { index: 0xc000_0102, data: 0x1234_5000, ..Default::default() };
    assert_eq!(fd.set_msrs(&Msrs::from_entries(&[base]).unwrap()).unwrap(), 1);
    fd.set_regs(&kvm_regs { r15: 0xfeed_f00d, ..fd.get_regs().unwrap() }).unwrap();

    let machine = interrupted(machine, &original);
    let before = machine.registers();
    assert!(before.rcx >= 100);
    let (mut machine, copy, kept) = machine.move_on(&original);

    // What was restored is saved as the same.
    let again = machine.save();
    for (one, other) in again.vcpus.iter().zip(&kept.vcpus) {
        assert_eq!(model_specific(one), model_specific(other));
        let (mut one, mut other) = (one.clone(), other.clone());
        one.model_specific.clear();
        other.model_specific.clear();
        assert!(one == other, "{:?}\n{:?}", one.events.get(""), other.events.get(""));
    }
    assert_eq!(machine.registers(), before);
    assert_eq!(machine.vcpu.fd().get_xsave().unwrap().region[XMM3..][..4], [1, 2, 3, 4]);
    assert_eq!(machine.vcpu.fd().get_debug_regs().unwrap().db, debug.db);
    assert!(kept.vcpus[0].model_specific.contains(&(0xc000_0102, 0x1234_5000)));

    copy.write_obj(1_u8, END).unwrap();
    machine.run();
    let after = machine.registers();
    let sum = |count: u64| u128::from(count) * (u128::from(count) + 1) / 2;
    assert_eq!(
        u128::from(after.rax),
        sum(after.rcx) & u128::from(u64::MAX),
        "none was left out or added twice"
    );
    assert!(after.rcx >= before.rcx);
    assert_eq!(copy.read_obj::<u64>(COUNT).unwrap(), after.rcx);
    assert_eq!(after.r15, 0xfeed_f00d);
}

#[test]
fn what_a_processor_waits_for_is_done_before_it_is_saved() {
    let original = memory(PASS_ON);
    let Some(mut machine) = Machine::new(&original) else { return };
    match machine.vcpu.fd_mut().run().unwrap() {
        VcpuExit::IoIn(0x10, data) => data[0] = 0x5a,
        exit => panic!("{exit:?}"),
    }
    let (mut machine, copy, kept) = machine.move_on(&original);
    let registers = kept.vcpus[0].registers.get("").unwrap();
    assert_eq!((registers.rax & 0xff, registers.rip), (0x5a, PROGRAM + 2));
    assert_eq!(machine.run(), 0x5a);
    assert_eq!(copy.read_obj::<u8>(COUNT).unwrap(), 0x5a);
}

#[test]
fn interrupt_controllers_timer_and_clock_go_on() {
    let memory = memory(ADD_UP);
    let Some(machine) = Machine::new(&memory) else { return };
    let mut state = VmState::save(machine.vm.fd()).unwrap();
    // The masks of both PICs, line 5 of the I/O APIC: vector 77, an edge, masked.
    state.controllers[0].bytes[8 + 2] = 0xfb;
    state.controllers[1].bytes[8 + 2] = 0x7f;
    state.controllers[2].bytes[8 + 24 + 5 * 8..][..8].copy_from_slice(&0x1_004d_u64.to_le_bytes());
    // Channel 2 of the timer counts from 1000.
    state.timer.bytes[48..52].copy_from_slice(&1000_u32.to_le_bytes());
    state.clock = 3_000_000_000;
    state.restore(machine.vm.fd()).unwrap();
    let again = VmState::save(machine.vm.fd()).unwrap();
    assert!(again.controllers == state.controllers);
    assert_eq!(again.timer.get("").unwrap().channels[2].count, 1000);
    let elapsed = again.clock - state.clock;
    assert!(elapsed < 60_000_000_000, "{elapsed} ns");
}

#[test]
fn parts_that_cannot_be_are_refused() {
    let memory = memory(ADD_UP);
    let Some(mut machine) = Machine::new(&memory) else { return };
    let kept = machine.save();
    let refused = |change: &Change| {
        let mut changed = kept.clone();
        change(&mut changed);
        machine.restore(&changed).unwrap_err()
    };
    let cases: [(&str, &Change); 4] = [
        ("the general registers", &|changed| changed.vcpus[0].registers.bytes.truncate(143)),
        ("the local APIC", &|changed| changed.vcpus[0].apic.bytes.push(0)),
        ("the floating point and vector registers", &|changed| changed.vcpus[1].extended.bytes.clear()),
        ("an interrupt controller", &|changed| changed.vm.controllers[1].bytes.truncate(100)),
    ];
    for (part, change) in cases {
        let error = refused(change);
        assert!(matches!(error, StateError::Size { what } if what == part), "{error}");
    }
    let error = refused(&|changed| changed.vcpus[0].model_specific = vec![(0xdead_0000, 7)]);
    assert_eq!(error.to_string(), "KVM could not set the model-specific register 0xdead0000 to 0x7");
    let error = refused(&|changed| changed.vcpus[0].model_specific = vec![(0x10, 0); 4097]);
    assert!(matches!(error, StateError::Size { .. }), "{error}");
    machine.restore(&kept).unwrap();
}

impl SavedMachine {
    /// One with two processors that says little, for tests without KVM.
    pub(crate) fn example() -> Self {
        let vcpu = VcpuState {
            activity: Raw::of(&kvm_bindings::kvm_mp_state { mp_state: 3 }),
            registers: Raw::of(&kvm_regs { rip: PROGRAM, ..Default::default() }),
            special: Raw::of(&kvm_bindings::kvm_sregs::default()),
            extended_control: Raw::of(&kvm_xcrs::default()),
            extended: Raw::of(&kvm_bindings::kvm_xsave::default()),
            debug: Raw::of(&kvm_debugregs::default()),
            apic: Raw::of(&kvm_bindings::kvm_lapic_state::default()),
            model_specific: vec![(0x10, u64::MAX), (0x6e0, 1)],
            events: Raw::of(&kvm_vcpu_events::default()),
            frequency: 2_000_000,
        };
        let controller = Raw::of(&kvm_bindings::kvm_irqchip::default());
        let vm = VmState {
            controllers: [controller.clone(), controller.clone(), controller],
            timer: Raw::of(&kvm_bindings::kvm_pit_state2::default()),
            clock: 7,
        };
        Self { vcpus: vec![vcpu.clone(), vcpu], vm, devices: Vec::new() }
    }
}
