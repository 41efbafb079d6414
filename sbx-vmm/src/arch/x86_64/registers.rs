//! The processors' registers at the start: 64-bit mode, memory mapped where it is, interrupts off.

use std::io;

use kvm_bindings::{
    CpuId, Msrs, kvm_cpuid_entry2, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment,
};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout::{BOOT_PARAMS, GDT, PAGE_TABLES, STACK};
use crate::sys::vm::from_kvm;

/// Selectors that Linux wants at its start (boot.rst, "64-bit boot protocol"), and one for the task state.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Descriptors by their selectors: none, none, 64-bit code, data, and a busy task state segment of 64 bits, which is two
/// entries long.
const DESCRIPTORS: [u64; 6] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067, 0];

/// CR0: protected mode, x87 errors of the native kind, paging; bit 4 is always set.
const CR0: u64 = 1 | (1 << 4) | (1 << 5) | (1 << 31);
/// CR4: entries of page tables have 64 bits.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode, enabled and active.
const EFER: u64 = (1 << 8) | (1 << 10);

/// Entries of page tables: present, writable; and a page of 2 MiB.
const PRESENT: u64 = 3;
const LARGE: u64 = 1 << 7;
const PAGE_BYTES: u64 = 4096;
const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// Gigabytes that are mapped, from 0 on.
const MAPPED_GIB: u64 = 4;
const ENTRIES: u64 = 512;

/// RFLAGS: bit 1 is always set.
const RFLAGS: u64 = 2;

/// What the x87 control word and MXCSR are after a reset.
const FCW: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;

/// MSRs: fast string operations, and the type of memory that no range says anything about (write-back, enabled).
const MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
const MTRR_DEFAULT: u32 = 0x2ff;
const WRITE_BACK: u64 = (1 << 11) | 6;

/// Local interrupts of an APIC: where they are in its page, and the modes of delivery.
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const MODE_SHIFT: u32 = 8;
const MODE_MASK: u32 = 7 << MODE_SHIFT;
const MODE_NMI: u32 = 4;
const MODE_EXTERNAL: u32 = 7;

/// Writes descriptors and page tables for the boot processor.
pub(super) fn write_tables(memory: &GuestMemoryMmap) -> io::Result<()> {
    write_words(memory, GDT, DESCRIPTORS)?;
    let page = |number: u64| PAGE_TABLES.saturating_add(number.saturating_mul(PAGE_BYTES));
    write_words(memory, page(0), [page(1) | PRESENT])?;
    write_words(memory, page(1), (0..MAPPED_GIB).map(|number| page(number.saturating_add(2)) | PRESENT))?;
    let pages = (0..MAPPED_GIB.saturating_mul(ENTRIES))
        .map(|number| number.saturating_mul(LARGE_PAGE_BYTES) | PRESENT | LARGE);
    write_words(memory, page(2), pages)
}

fn write_words(memory: &GuestMemoryMmap, place: u64, words: impl IntoIterator<Item = u64>) -> io::Result<()> {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write_slice(&bytes, GuestAddress(place)).map_err(io::Error::other)
}

/// What every processor is given.
pub(super) fn set_up_processor(vcpu: &VcpuFd, leaves: &[kvm_cpuid_entry2]) -> io::Result<()> {
    let cpuid = CpuId::from_entries(leaves).map_err(|error| io::Error::other(format!("{error:?}")))?;
    vcpu.set_cpuid2(&cpuid).map_err(from_kvm)?;
    for (index, data) in [(MISC_ENABLE, FAST_STRINGS), (MTRR_DEFAULT, WRITE_BACK)] {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        let msrs = Msrs::from_entries(&[entry]).map_err(|error| io::Error::other(format!("{error:?}")))?;
        // A processor that does not have one can do without.
        if vcpu.set_msrs(&msrs).is_ok_and(|done| done == 1) {
            continue;
        }
        tracing::debug!(index, "KVM does not know a model-specific register");
    }
    let fpu = kvm_fpu { fcw: FCW, mxcsr: MXCSR, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(from_kvm)?;
    let mut apic = vcpu.get_lapic().map_err(from_kvm)?;
    set_mode(&mut apic, LINT0, MODE_EXTERNAL);
    set_mode(&mut apic, LINT1, MODE_NMI);
    vcpu.set_lapic(&apic).map_err(from_kvm)
}

/// What the processor is given that starts the kernel at `entry`; the others wait for it to start them.
pub(super) fn set_up_boot_processor(vcpu: &VcpuFd, entry: u64) -> io::Result<()> {
    let registers = kvm_regs {
        rip: entry,
        rsi: BOOT_PARAMS,
        rsp: STACK,
        rbp: STACK,
        rflags: RFLAGS,
        ..Default::default()
    };
    vcpu.set_regs(&registers).map_err(from_kvm)?;
    let mut special = vcpu.get_sregs().map_err(from_kvm)?;
    special.cs = segment(CODE, 0xb, true);
    let data = segment(DATA, 0x3, false);
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = kvm_segment { limit: 0x67, selector: TASK, type_: 0xb, present: 1, ..Default::default() };
    special.gdt.base = GDT;
    special.gdt.limit = u16::try_from(size_of_val(&DESCRIPTORS).saturating_sub(1)).unwrap_or_default();
    special.idt.base = 0;
    special.idt.limit = 0;
    special.cr0 = CR0;
    special.cr3 = PAGE_TABLES;
    special.cr4 = CR4_PAE;
    special.efer = EFER;
    vcpu.set_sregs(&special).map_err(from_kvm)
}

/// A flat segment of all addresses: 64-bit code, or data.
fn segment(selector: u16, type_: u8, code: bool) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(code),
        db: u8::from(!code),
        ..Default::default()
    }
}

/// Sets the mode of delivery in the register at `offset` of an APIC's page.
fn set_mode(apic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    let Some(bytes) = apic.regs.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<4>()) else {
        return;
    };
    let value = u32::from_le_bytes(bytes.map(i8::cast_unsigned));
    let value = (value & !MODE_MASK) | (mode << MODE_SHIFT);
    *bytes = value.to_le_bytes().map(u8::cast_signed);
}
