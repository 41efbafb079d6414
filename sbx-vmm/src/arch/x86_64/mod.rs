//! x86-64: a machine like the smallest PC, with a local APIC for each processor, one I/O APIC, and no firmware.
//!
//! Linux is entered in 64-bit mode with a `boot_params` page, as boot loaders that know the kernel's format do it
//! (boot.rst, "64-bit boot protocol"). The other way for an ELF, PVH, begins in 32-bit mode and has the kernel convert
//! what it is told into a `boot_params` first; it would have nothing that this has not.

use std::io;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_cpuid_entry2, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::sys::vm::from_kvm;

mod boot_params;
mod cpuid;
mod layout;
mod mp_table;
mod registers;
mod state;

pub(crate) use layout::{CONSOLE_LINE, DEVICE_LINES, DEVICE_WINDOWS};
pub use state::{ModelSpecific, StateError, VcpuState, VmState};

use layout::{
    BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_BYTES, HIGH_MEMORY, IDENTITY_MAP, LOW_MEMORY_END, MEMORY_BEYOND,
    MP_TABLE, TSS,
};

/// Longest command line in bytes.
pub(crate) const MAX_COMMAND_LINE_BYTES: usize = COMMAND_LINE_BYTES - 1;

/// The least address at which a kernel may be linked.
pub(crate) const KERNEL_START: u64 = HIGH_MEMORY;

/// Words for the kernel that only this architecture knows: the frequency of the APIC's timer, which KVM's is known to
/// have (kernel/patches).
pub(crate) const KERNEL_PARAMETERS: &[&str] = &["apic_khz=1000000"];

/// Address and length of each piece of a memory of `bytes`.
pub(crate) fn memory_ranges(bytes: u64) -> Vec<(u64, u64)> {
    let mut ranges = vec![(0, bytes.min(LOW_MEMORY_END))];
    if let Some(beyond) = bytes.checked_sub(LOW_MEMORY_END).filter(|beyond| *beyond > 0) {
        ranges.push((MEMORY_BEYOND, beyond));
    }
    ranges
}

/// Where the memory ends that an initramfs may be in.
pub(crate) fn initramfs_end(memory_bytes: u64) -> u64 {
    memory_bytes.min(LOW_MEMORY_END)
}

/// Gives the machine what it has besides processors and devices of ours. Before the first processor is made.
pub(crate) fn set_up_machine(vm: &VmFd) -> io::Result<()> {
    vm.set_identity_map_address(IDENTITY_MAP).map_err(from_kvm)?;
    vm.set_tss_address(TSS).map_err(from_kvm)?;
    vm.create_irq_chip().map_err(from_kvm)?;
    // Port 0x61 belongs to the timer, as on a PC; nobody listens to the speaker.
    let timer = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    vm.create_pit2(timer).map_err(from_kvm)
}

/// What the processors of one machine have in common.
#[derive(Debug)]
pub(crate) struct Processors {
    supported: Vec<kvm_cpuid_entry2>,
    tsc_deadline: bool,
    count: u8,
}

impl Processors {
    /// Asks KVM what `count` processors can be.
    pub(crate) fn ask(kvm: &Kvm, count: u8) -> io::Result<Self> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(from_kvm)?;
        Ok(Self {
            supported: supported.as_slice().to_vec(),
            tsc_deadline: kvm.check_extension(Cap::TscDeadlineTimer),
            count,
        })
    }

    /// Prepares processor `number`, of which the first starts the kernel at `entry`.
    pub(crate) fn set_up(&self, vcpu: &VcpuFd, number: u8, entry: u64) -> io::Result<()> {
        let position = cpuid::Position { number, count: self.count, tsc_deadline: self.tsc_deadline };
        registers::set_up_processor(vcpu, &cpuid::leaves(&self.supported, position))?;
        if number == 0 {
            registers::set_up_boot_processor(vcpu, entry)?;
        }
        Ok(())
    }
}

/// What a kernel is to find in memory.
#[derive(Debug)]
pub(crate) struct BootInformation<'a> {
    /// Size of memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Number of processors.
    pub(crate) processors: u8,
    /// At most `MAX_COMMAND_LINE_BYTES`, without a NUL.
    pub(crate) command_line: &'a str,
    /// Where the initramfs is, and its length in bytes.
    pub(crate) initramfs: (u64, u64),
}

impl BootInformation<'_> {
    /// Writes it, and the tables of the boot processor, to `memory`.
    pub(crate) fn write(&self, memory: &GuestMemoryMmap) -> io::Result<()> {
        let number = |value: u64| u32::try_from(value).map_err(io::Error::other);
        let (initramfs, initramfs_bytes) = self.initramfs;
        let command_line = [self.command_line.as_bytes(), b"\0"].concat();
        let params = boot_params::zero_page(
            self.memory_bytes,
            number(initramfs)?,
            number(initramfs_bytes)?,
            u32::try_from(command_line.len()).map_err(io::Error::other)?,
        );
        let write = |place: u64, bytes: &[u8]| {
            memory.write_slice(bytes, GuestAddress(place)).map_err(io::Error::other)
        };
        memory.write_obj(params, GuestAddress(BOOT_PARAMS)).map_err(io::Error::other)?;
        write(COMMAND_LINE, &command_line)?;
        write(MP_TABLE, &mp_table::mp_table(self.processors))?;
        registers::write_tables(memory)
    }
}
