//! Model-specific registers: those that KVM says make up a processor's state, and the types of memory.

use std::ops::RangeInclusive;

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

use super::{StateError, restored, saved};

/// What they are called in errors.
const MSRS: &str = "the model-specific registers";

/// Types of memory (MTRRs), which KVM keeps and does not list: eight variable ranges, eleven fixed ones, the default.
const MEMORY_TYPES: [u32; 28] = [
    0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e,
    0x20f, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff,
];

/// Registers of Hyper-V's interface, which no guest of ours is told to have. KVM lists them all the same, and among them a
/// clock that cannot be set.
const HYPER_V: RangeInclusive<u32> = 0x4000_0000..=0x4000_0fff;

/// The time stamp counter, and the time at which the local APIC's timer is due, which counts in the former.
const TIME_STAMP: u32 = 0x10;
const DEADLINE: u32 = 0x6e0;

/// Registers that KVM takes in one call (KVM_MAX_MSR_ENTRIES).
const AT_ONCE: usize = 256;

/// More registers than any KVM has.
const MOST: usize = 4096;

/// Which registers make up a processor's state on this computer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelSpecific(Vec<u32>);

impl ModelSpecific {
    /// Asks KVM.
    ///
    /// # Errors
    /// What KVM says.
    pub fn ask(kvm: &Kvm) -> Result<Self, StateError> {
        let listed = saved(MSRS, kvm.get_msr_index_list())?;
        let listed = listed.as_slice();
        let types = MEMORY_TYPES.iter().filter(|index| !listed.contains(index));
        Ok(Self(listed.iter().chain(types).copied().filter(|index| !HYPER_V.contains(index)).collect()))
    }
}

/// Index and value of every register that can be read. One that KVM lists and cannot read on this computer is left out.
pub(super) fn save(vcpu: &VcpuFd, list: &ModelSpecific) -> Result<Vec<(u32, u64)>, StateError> {
    let mut values = Vec::with_capacity(list.0.len());
    let mut rest = list.0.as_slice();
    while !rest.is_empty() {
        let asked = rest.get(..AT_ONCE).unwrap_or(rest);
        let read = read(vcpu, asked)?;
        let (count, all) = (read.len(), read.len() == asked.len());
        values.extend(read);
        // KVM stops at the first one that it cannot read.
        let skipped = if all { count } else { count.saturating_add(1) };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    Ok(values)
}

/// Sets every register. One that cannot be set must have the value already.
pub(super) fn restore(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<(), StateError> {
    if values.len() > MOST {
        return Err(StateError::Size { what: MSRS });
    }
    let mut ordered = values.to_vec();
    ordered.sort_by_key(|(index, _)| match *index {
        TIME_STAMP => 0,
        DEADLINE => 2,
        _ => 1,
    });
    let mut rest = ordered.as_slice();
    while !rest.is_empty() {
        let given = rest.get(..AT_ONCE).unwrap_or(rest);
        let written = write(vcpu, given)?;
        if let Some((index, value)) = given.get(written).copied()
            && read(vcpu, &[index])?.first() != Some(&(index, value))
        {
            return Err(StateError::Msr { index, value });
        }
        let done = if written == given.len() { written } else { written.saturating_add(1) };
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(())
}

/// Those of `indexes` that come before the first one that cannot be read.
fn read(vcpu: &VcpuFd, indexes: &[u32]) -> Result<Vec<(u32, u64)>, StateError> {
    let entries = indexes.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() });
    let mut msrs = entries_of(entries)?;
    let count = saved(MSRS, vcpu.get_msrs(&mut msrs))?;
    Ok(msrs.as_slice().iter().take(count).map(|entry| (entry.index, entry.data)).collect())
}

/// Sets registers up to the first one that cannot be set, and returns how many that are.
fn write(vcpu: &VcpuFd, values: &[(u32, u64)]) -> Result<usize, StateError> {
    let entries =
        values.iter().map(|(index, data)| kvm_msr_entry { index: *index, data: *data, ..Default::default() });
    restored(MSRS, vcpu.set_msrs(&entries_of(entries)?))
}

fn entries_of(entries: impl Iterator<Item = kvm_msr_entry>) -> Result<Msrs, StateError> {
    let entries: Vec<kvm_msr_entry> = entries.collect();
    Msrs::from_entries(&entries).map_err(|_| StateError::Size { what: MSRS })
}
