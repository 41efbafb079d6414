//! Guests without an operating system: a list of steps, carried out by real processors.
//!
//! ```
//! # #[cfg(target_arch = "x86_64")] {
//! use sbx_vmm::testing::bare_metal::Steps;
//! let mut steps = Steps::new();
//! steps.say("hello\n").reset();
//! # }
//! ```

use std::path::Path;

use kvm_ioctls::Kvm;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::arch::{DEVICE_LINES, DEVICE_WINDOWS};
use crate::config::{Extent, IdMap, MachineConfig, Share};
use crate::console::Log;
use crate::engine::{Engine, Logs};
use crate::machine::{ExitReason, StartError};
use crate::sys::bare_metal::program;
use crate::sys::vm::{Vm, from_kvm};
use crate::virtio::mmio::WINDOW_BYTES;

/// Where the program is linked; it needs no particular address.
const PROGRAM: u64 = 0x10_0000;

/// Bytes of a step.
const STEP_BYTES: u64 = 32;

/// Where steps may keep what they need: behind the program, before the steps themselves.
pub const MEMORY: u64 = 0x20_0000;

/// Registers of the local and the I/O APIC (Intel SDM volume 3, 11.4; 82093AA data sheet).
const APIC_SPURIOUS: u64 = 0xfee0_00f0;
const APIC_COMMAND_LOW: u64 = 0xfee0_0300;
const APIC_COMMAND_HIGH: u64 = 0xfee0_0310;
const IO_APIC_SELECT: u64 = 0xfec0_0000;
const IO_APIC_DATA: u64 = 0xfec0_0010;

/// The first interrupt vector that is not a fault.
const VECTOR: u64 = 32;

/// What a guest does, one step after the other.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    steps: Vec<[u64; 4]>,
}

impl Steps {
    /// Nothing yet. Steps that end without a reset run into whatever follows them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn step(&mut self, what: u64, operands: [u64; 3]) -> &mut Self {
        let [first, second, third] = operands;
        self.steps.push([what, first, second, third]);
        self
    }

    /// Writes a byte to a port.
    pub fn port(&mut self, port: u16, value: u8) -> &mut Self {
        self.step(0, [u64::from(port), u64::from(value), 0])
    }

    /// Says `text` on the console.
    pub fn say(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            self.port(0x3f8, byte);
        }
        self
    }

    /// Resets the machine through the keyboard controller: the orderly end.
    pub fn reset(&mut self) -> &mut Self {
        self.port(0x64, 0xfe)
    }

    /// Writes `value` to `address` in `width` bytes: 1, 2, 4 or 8.
    pub fn put(&mut self, address: u64, value: u64, width: u64) -> &mut Self {
        self.step(1, [address, value, width])
    }

    /// Writes `bytes` to `address`, eight at a time; zeros may follow them.
    pub fn put_bytes(&mut self, address: u64, bytes: &[u8]) -> &mut Self {
        for (place, chunk) in (address..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(place, u64::from_le_bytes(word), 8);
        }
        self
    }

    /// Copies `length` bytes.
    pub fn copy(&mut self, to: u64, from: u64, length: u64) -> &mut Self {
        self.step(5, [to, from, length])
    }

    /// Fails unless the `width` bytes at `address` are `value`.
    pub fn expect(&mut self, address: u64, value: u64, width: u64) -> &mut Self {
        self.step(2, [address, value, width])
    }

    /// Fails unless the `width` bytes at `address` have all bits of `value`.
    pub fn expect_bits(&mut self, address: u64, value: u64, width: u64) -> &mut Self {
        self.step(15, [address, value, width])
    }

    /// Waits until the `width` bytes at `address` are `value`.
    pub fn until(&mut self, address: u64, value: u64, width: u64) -> &mut Self {
        self.step(3, [address, value, width])
    }

    /// Waits until the two bytes at both addresses are the same.
    pub fn until_same(&mut self, one: u64, other: u64) -> &mut Self {
        self.step(10, [one, other, 0])
    }

    /// Sleeps until there were `count` interrupts in all.
    pub fn interrupted(&mut self, count: u64) -> &mut Self {
        self.step(4, [count, 0, 0])
    }

    /// Sleeps, for ever.
    pub fn sleep(&mut self) -> &mut Self {
        self.step(14, [0; 3])
    }

    /// Says the `length` bytes at `address` on the console.
    pub fn say_memory(&mut self, address: u64, length: u64) -> &mut Self {
        self.step(8, [address, length, 0])
    }

    /// Adds `value` to the two bytes at `address`.
    pub fn add(&mut self, address: u64, value: u64) -> &mut Self {
        self.step(9, [address, value, 0])
    }

    /// Writes a random number to `address`, of which the bits of `mask` are kept.
    pub fn random(&mut self, address: u64, mask: u64) -> &mut Self {
        self.step(11, [address, mask, 0])
    }

    /// Repeats the last `steps` steps until the number at `counter`, which is counted down, is 0.
    pub fn repeat(&mut self, counter: u64, steps: u64) -> &mut Self {
        self.step(12, [counter, (steps + 1) * STEP_BYTES, 0])
    }

    /// Goes to `address`, and never comes back.
    pub fn go_to(&mut self, address: u64) -> &mut Self {
        self.step(13, [address, 0, 0])
    }

    /// A triple fault.
    pub fn triple_fault(&mut self) -> &mut Self {
        self.step(6, [0; 3])
    }

    /// Does nothing, for ever, with interrupts off.
    pub fn spin(&mut self) -> &mut Self {
        self.step(7, [0; 3])
    }

    /// How many steps there are so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.steps.len() as u64
    }

    /// Switches the local APIC on, and lets line `line` interrupt this processor.
    pub fn enable_line(&mut self, line: u32) -> &mut Self {
        let entry = 0x10 + 2 * u64::from(line);
        self.put(APIC_SPURIOUS, 0x1ff, 4)
            .put(IO_APIC_SELECT, entry + 1, 4)
            .put(IO_APIC_DATA, 0, 4)
            .put(IO_APIC_SELECT, entry, 4)
            .put(IO_APIC_DATA, VECTOR + u64::from(line), 4)
    }

    /// Starts processor `number` in real mode at `page` × 4096 (Intel SDM volume 3, 9.4.4).
    pub fn start_processor(&mut self, number: u8, page: u8) -> &mut Self {
        let target = u64::from(number) << 24;
        self.put(APIC_SPURIOUS, 0x1ff, 4)
            .put(APIC_COMMAND_HIGH, target, 4)
            .put(APIC_COMMAND_LOW, 0x4500, 4)
            .put(APIC_COMMAND_HIGH, target, 4)
            .put(APIC_COMMAND_LOW, 0x4600 | u64::from(page), 4)
    }

    /// The device in window `number`.
    #[must_use]
    pub fn device(number: u64) -> Device {
        let window = DEVICE_WINDOWS + number * WINDOW_BYTES;
        Device { window, line: DEVICE_LINES[usize::try_from(number).unwrap_or(usize::MAX)] }
    }

    /// As the bytes of an initramfs.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.steps.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// A virtio device as the guest sees it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    window: u64,
    /// Its interrupt line.
    pub line: u32,
}

/// Where a queue of a [`Device`] is.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    /// Descriptor table.
    pub descriptors: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
    /// Entries.
    pub size: u64,
}

impl Ring {
    /// A ring of 16 entries in the page at `page`, which nobody else uses.
    #[must_use]
    pub fn at(page: u64) -> Self {
        Self { descriptors: page, available: page + 0x400, used: page + 0x800, size: 16 }
    }

    /// Address of the index of the available ring, and of the used ring.
    #[must_use]
    pub fn indexes(&self) -> [u64; 2] {
        [self.available + 2, self.used + 2]
    }

    /// Writes descriptor `index`: `flags` 1 says that the next one follows, 2 that the device writes.
    pub fn describe(&self, steps: &mut Steps, index: u64, address: u64, length: u64, flags: u64) {
        let place = self.descriptors + index * 16;
        let next = if flags & 1 == 0 { 0 } else { index + 1 };
        steps.put(place, address, 8).put(place + 8, length | flags << 32 | next << 48, 8);
    }

    /// Makes the chain that begins with descriptor `head` available as number `position`.
    pub fn offer(&self, steps: &mut Steps, position: u64, head: u64) {
        let slot = self.available + 4 + position % self.size * 2;
        steps.put(slot, head, 2).put(self.available + 2, position + 1, 2);
    }

    /// Expects that chain number `position` came back, as the one that began with `head`, with `length` bytes written.
    pub fn expect_used(&self, steps: &mut Steps, position: u64, head: u64, length: u64) {
        let slot = self.used + 4 + position % self.size * 8;
        steps.expect(self.used + 2, position + 1, 2).expect(slot, head | length << 32, 8);
    }
}

impl Device {
    /// Address of the register at `offset`.
    #[must_use]
    pub fn register(&self, offset: u64) -> u64 {
        self.window + offset
    }

    /// Writes a register.
    pub fn set(&self, steps: &mut Steps, offset: u64, value: u64) {
        steps.put(self.register(offset), value, 4);
    }

    /// Agrees on `features` as far as FEATURES_OK.
    pub fn negotiate(&self, steps: &mut Steps, features: u64) {
        for (offset, value) in [
            (0x70, 0),
            (0x70, 1),
            (0x70, 3),
            (0x24, 0),
            (0x20, features & 0xffff_ffff),
            (0x24, 1),
            (0x20, features >> 32),
            (0x70, 11),
        ] {
            self.set(steps, offset, value);
        }
        steps.expect(self.register(0x70), 11, 4);
    }

    /// Sets queue `number` up.
    pub fn set_up(&self, steps: &mut Steps, number: u64, ring: &Ring) {
        self.set(steps, 0x30, number);
        self.set(steps, 0x38, ring.size);
        for (offset, address) in [(0x80, ring.descriptors), (0x90, ring.available), (0xa0, ring.used)] {
            self.set(steps, offset, address & 0xffff_ffff);
            self.set(steps, offset + 4, address >> 32);
        }
        self.set(steps, 0x44, 1);
        steps.expect(self.register(0x44), 1, 4);
    }

    /// Agrees on nothing but virtio 1, sets up `rings`, and starts.
    pub fn start(&self, steps: &mut Steps, rings: &[Ring]) {
        self.negotiate(steps, 1 << 32);
        for (number, ring) in (0..).zip(rings) {
            self.set_up(steps, number, ring);
        }
        self.set(steps, 0x70, 15);
        steps.expect(self.register(0x70), 15, 4);
    }

    /// Kicks queue `number`.
    pub fn kick(&self, steps: &mut Steps, number: u64) {
        self.set(steps, 0x50, number);
    }

    /// Expects an interrupt with these reasons, and acknowledges it.
    pub fn acknowledge(&self, steps: &mut Steps, reasons: u64) {
        steps.expect(self.register(0x60), reasons, 4);
        self.set(steps, 0x64, reasons);
        steps.expect(self.register(0x60), 0, 4);
    }
}

/// A machine in `directory` whose guest carries out `steps`. Its devices are, by their numbers: a root disk of one page
/// of sevens, a scratch disk of `scratch_bytes`, a file system with `shared/`, sockets, and entropy.
///
/// # Panics
/// If the directory cannot be written to.
#[must_use]
pub fn machine(directory: &Path, steps: &Steps, scratch_bytes: u64) -> MachineConfig {
    let file = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, content).expect("a file");
        path
    };
    let subdirectory = |name: &str| {
        let path = directory.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    };
    let scratch = directory.join("scratch");
    let disk = std::fs::File::create(&scratch).expect("a disk");
    disk.set_len(scratch_bytes).expect("a disk");
    let share = Share {
        name: "shared".to_owned(),
        host: subdirectory("shared"),
        read_only: false,
        protected: Vec::new(),
    };
    MachineConfig {
        vcpus: 1,
        memory_mib: 16,
        kernel: file("kernel", &kernel()),
        initramfs: file("initramfs", &steps.bytes()),
        kernel_parameters: Vec::new(),
        root: vec![Extent { file: file("root", &[7; 4096]), offset: 0, length: 4096 }],
        scratch,
        shares: vec![share],
        network: None,
        ids: IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 },
        directory: subdirectory("run"),
    }
}

/// Runs the machine without its devices, to its end: what the engine itself takes. `ended` is called when the guest has
/// ended and KVM's machine is still to be taken apart.
///
/// # Errors
/// As for [`crate::machine::Machine::start`].
pub fn run_without_devices(config: &MachineConfig, ended: impl FnOnce()) -> Result<ExitReason, StartError> {
    let log = |name: &str| {
        let path = config.directory.join(name);
        Log::create(&path).map_err(|source| StartError::Directory { path, source })
    };
    let logs = Logs { console: log("console.log")?, engine: log("engine.log")? };
    let guest = Engine::Kvm.build(config, Vec::new(), logs)?;
    guest.begin();
    let reason = guest.wait();
    ended();
    Ok(reason)
}

/// Makes the least machine that KVM has, with interrupt controllers and a timer but no processor, and closes it: what no
/// process with a machine can be faster than.
///
/// # Errors
/// What KVM says.
pub fn make_and_close() -> std::io::Result<()> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).map_err(std::io::Error::other)?;
    let vm = Vm::new(&Kvm::new().map_err(from_kvm)?, memory)?;
    crate::arch::set_up_machine(vm.fd())
}

/// The program as an ELF kernel (System V ABI, AMD64 supplement): a header, one program header, the program.
fn kernel() -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + program().len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend((PROGRAM + HEADERS).next_multiple_of(16).to_le_bytes());
    elf.extend(64_u64.to_le_bytes());
    elf.extend(b"\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x01\0\x40\0\0\0\0\0");
    elf.extend(b"\x01\0\0\0\x07\0\0\0");
    for field in [0, PROGRAM, PROGRAM, size + 8, size + 8, 4096] {
        elf.extend(field.to_le_bytes());
    }
    elf.resize(elf.len().next_multiple_of(16), 0);
    elf.extend(program());
    elf
}
