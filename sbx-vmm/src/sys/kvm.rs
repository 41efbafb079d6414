//! The smallest guest: one vCPU in real mode, one page of memory, a loop.

use std::io;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

use super::vm::from_kvm;

/// `dec ecx; jnz -4; hlt` in 16-bit code; [`crate::engine::probe`] spells it out.
const PROGRAM: [u8; 5] = [0x66, 0x49, 0x75, 0xfc, 0xf4];

/// Memory of the guest in bytes: one page.
const MEMORY_BYTES: usize = 4096;

/// A guest that counts down.
#[derive(Debug)]
pub(crate) struct CountingGuest {
    // In the order in which they may go: KVM uses the memory until its machine is gone.
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

impl CountingGuest {
    /// Makes the machine.
    ///
    /// # Errors
    /// What opening `/dev/kvm` or KVM itself says, with its error number.
    pub(crate) fn new() -> io::Result<Self> {
        let kvm = Kvm::new().map_err(from_kvm)?;
        let vm = kvm.create_vm().map_err(from_kvm)?;
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).map_err(io::Error::other)?;
        memory.write_slice(&PROGRAM, GuestAddress(0)).map_err(io::Error::other)?;
        let host_address = memory.get_host_address(GuestAddress(0)).map_err(io::Error::other)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: host_address as u64,
        };
        // SAFETY: the region is mapped with this size, and stays so until after the machine is closed: `memory` is the
        // last field of the struct that owns them all, and on an error below it is dropped after `vm`, too.
        unsafe { vm.set_user_memory_region(region) }.map_err(from_kvm)?;
        let vcpu = vm.create_vcpu(0).map_err(from_kvm)?;
        let mut segments = vcpu.get_sregs().map_err(from_kvm)?;
        segments.cs.base = 0;
        segments.cs.selector = 0;
        vcpu.set_sregs(&segments).map_err(from_kvm)?;
        Ok(Self { vcpu, _vm: vm, _memory: memory })
    }

    /// Counts down from `iterations`, which is not zero.
    ///
    /// # Errors
    /// If the guest did anything but that.
    pub(crate) fn run(&mut self, iterations: u32) -> io::Result<()> {
        self.set(iterations)?;
        self.count()
    }

    /// Sets where the guest begins.
    pub(crate) fn set(&mut self, iterations: u32) -> io::Result<()> {
        let mut registers = self.vcpu.get_regs().map_err(from_kvm)?;
        registers.rip = 0;
        registers.rcx = u64::from(iterations);
        // Bit 1 is always set (Intel SDM volume 1, 3.4.3); interrupts are off.
        registers.rflags = 2;
        self.vcpu.set_regs(&registers).map_err(from_kvm)
    }

    /// Counts down from what was set.
    pub(crate) fn count(&mut self) -> io::Result<()> {
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => return Ok(()),
                Ok(exit) => {
                    return Err(io::Error::other(format!("a guest that counts made KVM stop with {exit:?}")));
                }
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
                Err(error) => return Err(from_kvm(error)),
            }
        }
    }
}
