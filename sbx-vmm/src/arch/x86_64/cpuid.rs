//! What the guest's processors say of themselves.
//!
//! It is what KVM supports, with four changes: topology is the guest's own, what only means something on the host is
//! left out, so are the services of KVM that are called by hypercalls, and the timer that KVM emulates well is added.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaves that are left out: serial number (3), performance counters that a guest would share with the host (0xa), SGX
/// (0x12), processor trace (0x14), frequencies of the host's processor (0x16), encrypted memory (0x8000_001f), extended
/// performance monitoring (0x8000_0022).
const WITHHELD: [u32; 7] = [0x3, 0xa, 0x12, 0x14, 0x16, 0x8000_001f, 0x8000_0022];

/// Thermal and power management (6): only that the APIC's timer runs always (ARAT, EAX bit 2).
const POWER: u32 = 0x6;
const ARAT: u32 = 1 << 2;

/// Bits of leaf 1.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HYPER_THREADING: u32 = 1 << 28;

/// Leaf 7, EDX: MSR_ARCH_CAPABILITIES can be read.
const ARCH_CAPABILITIES: u32 = 1 << 29;

/// KVM's own services: waking a processor that waits for a lock (bit 7), interrupts to several processors (11), yielding
/// to a processor (13), telling of memory's sharing (16). All are called by a hypercall, on which the emulated KVMs of
/// some clouds loop for ever; on hardware they save exits of guests with more processors than their host has.
const KVM_SERVICES: u32 = 0x4000_0001;
const HYPERCALLS: u32 = (1 << 7) | (1 << 11) | (1 << 13) | (1 << 16);

/// Leaves whose subleaves enumerate topology (0xb and 0x1f) or caches (4, AMD's 0x8000_001d).
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
const INTEL_CACHES: u32 = 0x4;
const AMD_CACHES: u32 = 0x8000_001d;

/// A processor of the guest. All are cores of one package.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Its number, which is its APIC id, too.
    pub(super) number: u8,
    /// How many there are.
    pub(super) count: u8,
    /// Whether KVM has the APIC timer's deadline mode, which it does not tell among what it supports.
    pub(super) tsc_deadline: bool,
}

/// The leaves for one processor, from those that KVM supports.
pub(super) fn leaves(supported: &[kvm_cpuid_entry2], position: Position) -> Vec<kvm_cpuid_entry2> {
    let kept =
        |leaf: &&kvm_cpuid_entry2| !WITHHELD.contains(&leaf.function) && !TOPOLOGY.contains(&leaf.function);
    let mut leaves: Vec<kvm_cpuid_entry2> = supported.iter().filter(kept).copied().collect();
    for leaf in &mut leaves {
        adapt(leaf, position);
    }
    let highest = supported.iter().map(|leaf| leaf.function).filter(|leaf| *leaf < 0x4000_0000).max();
    for function in TOPOLOGY.into_iter().filter(|leaf| highest.is_some_and(|highest| *leaf <= highest)) {
        leaves.extend(topology(function, position));
    }
    leaves
}

fn adapt(leaf: &mut kvm_cpuid_entry2, position: Position) {
    let (number, count) = (u32::from(position.number), u32::from(position.count));
    match leaf.function {
        0x1 => {
            // APIC id, processors in the package, and the size of a cache line that CLFLUSH flushes stays.
            leaf.ebx = (leaf.ebx & 0xffff) | (count << 16) | (number << 24);
            leaf.ecx |= HYPERVISOR;
            if position.tsc_deadline {
                leaf.ecx |= TSC_DEADLINE;
            }
            set(&mut leaf.edx, HYPER_THREADING, count > 1);
        }
        POWER => {
            leaf.eax &= ARAT;
            (leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0);
        }
        // Level 1 and 2 belong to one processor, level 3 to all.
        INTEL_CACHES if leaf.eax & 0x1f != 0 => {
            let sharing = if (leaf.eax >> 5) & 7 < 3 { 1 } else { count };
            leaf.eax = (leaf.eax & 0x3fff) | (shared_by(sharing) << 14) | (shared_by(count).min(0x3f) << 26);
        }
        AMD_CACHES if leaf.eax & 0x1f != 0 => {
            let sharing = if (leaf.eax >> 5) & 7 < 3 { 1 } else { count };
            leaf.eax = (leaf.eax & 0x3fff) | (sharing.saturating_sub(1) << 14);
        }
        0x7 if leaf.index == 0 => set(&mut leaf.edx, ARCH_CAPABILITIES, false),
        KVM_SERVICES => leaf.eax &= !HYPERCALLS,
        // Number of processors in the package less one, bits of the APIC id that number them.
        0x8000_0008 => leaf.ecx = count.saturating_sub(1) | (bits(count) << 12),
        // Extended APIC id, core id with one thread per core, one node.
        0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (number, number, 0),
        _ => {}
    }
}

/// Intel's leaf of topology: one thread in a core, all cores in one package.
fn topology(function: u32, position: Position) -> [kvm_cpuid_entry2; 3] {
    const SUBLEAVES_MATTER: u32 = 1;
    // Kind of a level, in ECX bits 8 to 15.
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let count = u32::from(position.count);
    let level = |index: u32, shift: u32, below: u32, kind: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: SUBLEAVES_MATTER,
        eax: shift,
        ebx: below,
        ecx: index | (kind << 8),
        edx: u32::from(position.number),
        ..Default::default()
    };
    [level(0, 0, 1, THREADS), level(1, bits(count), count, CORES), level(2, 0, 0, 0)]
}

/// How many APIC ids a group of `count` spans, less one: they are counted in powers of two.
fn shared_by(count: u32) -> u32 {
    count.next_power_of_two().saturating_sub(1)
}

/// Bits that number `count` things.
fn bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

fn set(word: &mut u32, bit: u32, value: bool) {
    *word = if value { *word | bit } else { *word & !bit };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn registers(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<[u32; 4]> {
        let mut found = leaves.iter().filter(|leaf| (leaf.function, leaf.index) == (function, index));
        let result = found.next().map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
        assert!(found.next().is_none(), "{function:#x} is there twice");
        result
    }

    const HOST: [u32; 4] = [u32::MAX; 4];

    #[test]
    fn topology_is_the_guests_own() {
        let supported = [
            leaf(0x1, 0, [0x306c3, 0x1234_0800, 0, 0]),
            // A cache of level 1, and one of level 3 that 16 processors of the host share.
            leaf(0x4, 0, [0x1c00_4121, 1, 2, 3]),
            leaf(0x4, 3, [0x1c03_c163, 1, 2, 3]),
            leaf(0x4, 4, [0, 0, 0, 0]),
            leaf(0xb, 0, HOST),
            leaf(0xb, 1, HOST),
            leaf(0x8000_0008, 0, [0x3027, 0, 0x4010, 0]),
            leaf(0x8000_001e, 0, HOST),
        ];
        let leaves = leaves(&supported, Position { number: 2, count: 3, tsc_deadline: true });
        assert_eq!(
            registers(&leaves, 0x1, 0),
            Some([0x306c3, 0x0203_0800, HYPERVISOR | TSC_DEADLINE, HYPER_THREADING])
        );
        assert_eq!(registers(&leaves, 0x4, 0), Some([0x0c00_0121, 1, 2, 3]));
        assert_eq!(registers(&leaves, 0x4, 3), Some([0x0c00_c163, 1, 2, 3]));
        assert_eq!(registers(&leaves, 0x4, 4), Some([0; 4]));
        assert_eq!(registers(&leaves, 0xb, 0), Some([0, 1, 0x100, 2]));
        assert_eq!(registers(&leaves, 0xb, 1), Some([2, 3, 0x201, 2]));
        assert_eq!(registers(&leaves, 0xb, 2), Some([0, 0, 2, 2]));
        assert_eq!(registers(&leaves, 0x1f, 0), None, "a leaf that the processor does not have");
        assert_eq!(registers(&leaves, 0x8000_0008, 0), Some([0x3027, 0, 0x2002, 0]));
        assert_eq!(registers(&leaves, 0x8000_001e, 0), Some([2, 2, 0, u32::MAX]));
    }

    #[test]
    fn a_single_processor_is_alone() {
        let leaves = leaves(&[leaf(0x1, 0, HOST)], Position { number: 0, count: 1, tsc_deadline: false });
        let [_, ebx, _, edx] = registers(&leaves, 0x1, 0).unwrap();
        assert_eq!((ebx >> 16, edx & HYPER_THREADING), (1, 0));
        assert_eq!(bits(1), 0);
    }

    #[test]
    fn what_is_the_hosts_is_not_told() {
        let supported: Vec<_> =
            WITHHELD.into_iter().chain([0x6, 0x7]).map(|function| leaf(function, 0, HOST)).collect();
        let leaves = leaves(&supported, Position { number: 0, count: 1, tsc_deadline: false });
        for function in WITHHELD {
            assert_eq!(registers(&leaves, function, 0), None, "{function:#x}");
        }
        assert_eq!(registers(&leaves, 0x6, 0), Some([ARAT, 0, 0, 0]));
        assert_eq!(registers(&leaves, 0x7, 0).unwrap()[3] & ARCH_CAPABILITIES, 0);
    }

    #[test]
    fn the_rest_is_as_kvm_supports_it() {
        // The signature of KVM and its features, a brand, extended features.
        let supported = [
            leaf(0x4000_0000, 0, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
            leaf(0x4000_0001, 0, [0x0100_567b, 0, 0, 0]),
            leaf(0x8000_0002, 0, HOST),
            leaf(0xd, 1, HOST),
        ];
        let leaves = leaves(&supported, Position { number: 1, count: 2, tsc_deadline: true });
        assert!(supported.iter().all(|leaf| leaves.contains(leaf)));
    }
}
