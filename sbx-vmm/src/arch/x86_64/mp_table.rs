//! The table by which a kernel without ACPI finds its processors and interrupt lines (Intel, MultiProcessor
//! Specification 1.4, chapter 4).
//!
//! ```text
//! floating pointer "_MP_" 16 bytes ──▶ header "PCMP" 44 bytes
//!                                      processors 20 bytes each, then entries of 8 bytes:
//!                                      ISA bus, I/O APIC, ISA lines 0 to 15, LINT0 and LINT1 of every local APIC
//! ```

use zerocopy::{Immutable, IntoBytes};

use super::layout::{IO_APIC, ISA_LINES, LOCAL_APIC, MP_TABLE};

/// Version 1.4 of the specification.
const REVISION: u8 = 4;

/// Version of the local APICs (integrated) and the I/O APIC, as KVM's say.
const LOCAL_APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;

/// Kinds of entries.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Flags of a processor and of the I/O APIC.
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;

/// Kinds of interrupts. Trigger and polarity (flags 0) are those of the bus: edges, active high.
const VECTORED: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;

/// To all local APICs.
const EVERY_LOCAL_APIC: u8 = 0xff;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct FloatingPointer {
    signature: [u8; 4],
    table: u32,
    /// In units of 16 bytes.
    length: u8,
    revision: u8,
    checksum: u8,
    features: [u8; 5],
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    length: u16,
    revision: u8,
    checksum: u8,
    maker: [u8; 8],
    product: [u8; 12],
    oem_table: u32,
    oem_table_bytes: u16,
    entries: u16,
    local_apic: u32,
    extended_bytes: u16,
    extended_checksum: u8,
    reserved: u8,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Processor {
    kind: u8,
    apic_id: u8,
    apic_version: u8,
    flags: u8,
    signature: u32,
    features: u32,
    reserved: [u32; 2],
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct IoApic {
    kind: u8,
    id: u8,
    version: u8,
    flags: u8,
    address: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Interrupt {
    kind: u8,
    interrupt: u8,
    flags: u16,
    source_bus: u8,
    source_line: u8,
    apic_id: u8,
    apic_line: u8,
}

/// Pointer and table for `processors`, to be put at `MP_TABLE`.
pub(super) fn mp_table(processors: u8) -> Vec<u8> {
    const ISA: u8 = 0;
    let io_apic_id = processors;
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut add = |entry: &[u8]| {
        entries.extend_from_slice(entry);
        count = count.saturating_add(1);
    };
    for apic_id in 0..processors {
        let flags = if apic_id == 0 { ENABLED | BOOT_PROCESSOR } else { ENABLED };
        // Family and features are CPUID's to tell.
        let processor = Processor {
            kind: PROCESSOR,
            apic_id,
            apic_version: LOCAL_APIC_VERSION,
            flags,
            signature: 0,
            features: 0,
            reserved: [0; 2],
        };
        add(processor.as_bytes());
    }
    add(&[BUS, ISA, b'I', b'S', b'A', b' ', b' ', b' ']);
    let io_apic = IoApic {
        kind: IO_APIC_ENTRY,
        id: io_apic_id,
        version: IO_APIC_VERSION,
        flags: ENABLED,
        address: IO_APIC,
    };
    add(io_apic.as_bytes());
    for line in 0..ISA_LINES {
        add(interrupt(IO_INTERRUPT, VECTORED, line, io_apic_id, line).as_bytes());
    }
    add(interrupt(LOCAL_INTERRUPT, EXTERNAL, 0, EVERY_LOCAL_APIC, 0).as_bytes());
    add(interrupt(LOCAL_INTERRUPT, NON_MASKABLE, 0, EVERY_LOCAL_APIC, 1).as_bytes());

    let pointer_bytes = size_of::<FloatingPointer>();
    let length = size_of::<Header>().saturating_add(entries.len());
    let mut header = Header {
        signature: *b"PCMP",
        length: u16::try_from(length).unwrap_or(u16::MAX),
        revision: REVISION,
        checksum: 0,
        maker: *b"SBX     ",
        product: *b"MICROVM     ",
        oem_table: 0,
        oem_table_bytes: 0,
        entries: count,
        local_apic: LOCAL_APIC,
        extended_bytes: 0,
        extended_checksum: 0,
        reserved: 0,
    };
    header.checksum = complement(&[header.as_bytes(), &entries]);
    let table = MP_TABLE.saturating_add(u64::try_from(pointer_bytes).unwrap_or_default());
    let mut pointer = FloatingPointer {
        signature: *b"_MP_",
        table: u32::try_from(table).unwrap_or_default(),
        length: 1,
        revision: REVISION,
        checksum: 0,
        features: [0; 5],
    };
    pointer.checksum = complement(&[pointer.as_bytes()]);
    [pointer.as_bytes(), header.as_bytes(), &entries].concat()
}

fn interrupt(kind: u8, interrupt: u8, source_line: u8, apic_id: u8, apic_line: u8) -> Interrupt {
    Interrupt { kind, interrupt, flags: 0, source_bus: 0, source_line, apic_id, apic_line }
}

/// What makes the sum of all bytes zero.
fn complement(parts: &[&[u8]]) -> u8 {
    parts.iter().flat_map(|part| part.iter()).fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn the_table_is_what_the_specification_says() {
        for processors in [1_u8, 2, 3, 64, 254] {
            let bytes = mp_table(processors);
            let (pointer, table) = bytes.split_at(16);
            assert_eq!((&pointer[..4], sum(pointer)), (&b"_MP_"[..], 0));
            assert_eq!(pointer[4..8], 0xf_0010_u32.to_le_bytes());
            assert_eq!((&table[..4], sum(table)), (&b"PCMP"[..], 0));
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            assert!(bytes.len() < 0x1_0000, "it ends below 1 MiB");
            let mut rest = &table[44..];
            let mut kinds = Vec::new();
            while let [kind, ..] = rest {
                kinds.push(*kind);
                rest = &rest[if *kind == PROCESSOR { 20 } else { 8 }..];
            }
            assert_eq!(kinds.len(), usize::from(u16::from_le_bytes([table[34], table[35]])));
            assert_eq!(kinds.iter().filter(|kind| **kind == PROCESSOR).count(), usize::from(processors));
            assert!(kinds.is_sorted(), "in the order in which the specification wants them");
            assert_eq!(table[44..48], [0, 0, 0x14, 3], "the first processor boots");
        }
    }
}
