//! Guest physical addresses and interrupt lines.
//!
//! ```text
//! 0x0000_0500  GDT                         0xd000_0000  windows of the virtio devices
//! 0x0000_7000  boot_params                 0xfec0_0000  I/O APIC, 0xfee0_0000 local APIC: KVM's
//! 0x0000_9000  page tables                 0xfffb_c000  identity map, 0xfffb_d000 TSS: KVM's, for real mode
//! 0x0002_0000  kernel command line         0x1_0000_0000 memory beyond 3.25 GiB
//! 0x000f_0000  MP table
//! 0x0010_0000  kernel, where it was linked; the initramfs at the end of the memory below 4 GiB
//! ```

/// Global descriptor table of the boot processor.
pub(super) const GDT: u64 = 0x500;

/// The structure that Linux finds everything else by.
pub(super) const BOOT_PARAMS: u64 = 0x7000;

/// Top of a stack of one page, for kernels that push before they have their own.
pub(super) const STACK: u64 = 0x8ff0;

/// Page tables: one page for each of the two upper levels, then four directories.
pub(super) const PAGE_TABLES: u64 = 0x9000;

/// Where memory that programs may use ends, below 1 MiB: here the extended BIOS data area of a PC begins.
pub(super) const BASE_MEMORY_END: u64 = 0x9_fc00;

/// The kernel's command line, and its longest with the NUL at its end (COMMAND_LINE_SIZE of Linux on x86).
pub(super) const COMMAND_LINE: u64 = 0x2_0000;
pub(super) const COMMAND_LINE_BYTES: usize = 2048;

/// Intel's multiprocessor table, in the range in which it is looked for, up to 1 MiB.
pub(super) const MP_TABLE: u64 = 0xf_0000;

/// From here on memory is the kernel's.
pub(super) const HIGH_MEMORY: u64 = 0x10_0000;

/// Memory below 4 GiB ends here, and the rest follows from 4 GiB on.
pub(super) const LOW_MEMORY_END: u64 = 0xd000_0000;
pub(super) const MEMORY_BEYOND: u64 = 1 << 32;

/// The windows of the virtio devices, one behind the other.
pub(crate) const DEVICE_WINDOWS: u64 = LOW_MEMORY_END;

/// Local and I/O APIC of a PC.
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;
pub(super) const IO_APIC: u32 = 0xfec0_0000;

/// Pages that KVM needs on Intel's processors while they are in real mode.
pub(crate) const IDENTITY_MAP: u64 = 0xfffb_c000;
pub(crate) const TSS: usize = 0xfffb_d000;

/// Interrupt lines: the console's, and those of the devices in their order. All are lines of the ISA bus, of which there
/// are 16; 8 and 13 have owners on a PC.
pub(crate) const CONSOLE_LINE: u32 = 4;
pub(crate) const DEVICE_LINES: [u32; 9] = [5, 6, 7, 9, 10, 11, 12, 14, 15];
pub(super) const ISA_LINES: u8 = 16;
