//! The floating point and vector registers of a processor.

use std::io;

use kvm_bindings::kvm_xsave;
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::vm::from_kvm;

/// Bytes of the struct, which is as large as they were until there were registers that a process has to ask for.
const BYTES: usize = size_of::<kvm_xsave>();

/// Sets them.
pub(crate) fn set_xsave(kvm: &Kvm, vcpu: &VcpuFd, registers: &kvm_xsave) -> io::Result<()> {
    // 0 where KVM is older than such registers.
    let needed = usize::try_from(kvm.check_extension_int(Cap::Xsave2)).unwrap_or_default();
    if needed > BYTES {
        return Err(io::Error::other(format!(
            "this processor has {needed} bytes of them, and {BYTES} are known"
        )));
    }
    // SAFETY: KVM reads as many bytes as it has just said, at most those that `registers` has. The number grows only if
    // the process asks for more registers for its guests (arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM), which nothing here does.
    unsafe { vcpu.set_xsave(registers) }.map_err(from_kvm)
}
