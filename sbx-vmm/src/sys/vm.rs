//! A virtual machine of KVM's and its processors, tied to the guest memory that they use.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::stop::Brake;

/// A machine without processors.
#[derive(Debug)]
pub(crate) struct Vm {
    // In the order in which they may go: KVM uses the memory until its machine is gone.
    fd: VmFd,
    memory: GuestMemoryMmap,
}

impl Vm {
    /// Makes a machine whose memory is `memory`.
    pub(crate) fn new(kvm: &Kvm, memory: GuestMemoryMmap) -> io::Result<Self> {
        let fd = kvm.create_vm().map_err(from_kvm)?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let start = region.start_addr();
            let host_address = memory.get_host_address(start).map_err(io::Error::other)?;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: start.raw_value(),
                memory_size: region.len(),
                userspace_addr: host_address as u64,
            };
            // SAFETY: the region is mapped with this size, and stays so until after the machine is closed: `Vm` and
            // every `Vcpu`, each of which keeps KVM's machine alive, hold the mapping and drop it last.
            unsafe { fd.set_user_memory_region(region) }.map_err(from_kvm)?;
        }
        Ok(Self { fd, memory })
    }

    /// What is asked of KVM for the machine as a whole.
    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Guest memory.
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Makes processor `number`.
    pub(crate) fn create_vcpu(&self, number: u8) -> io::Result<Vcpu> {
        let fd = self.fd.create_vcpu(u64::from(number)).map_err(from_kvm)?;
        Ok(Vcpu { fd, _memory: self.memory.clone() })
    }

    /// Rings `event` whenever the guest writes the 32 bits of `value` to `address`, instead of leaving the guest.
    pub(crate) fn ring_on_write(&self, event: &OwnedFd, address: u64, value: u32) -> io::Result<()> {
        let event = borrowed(event);
        self.fd.register_ioevent(&event, &IoEventAddress::Mmio(address), value).map_err(from_kvm)
    }

    /// Pulses interrupt line `line` whenever `event` is rung.
    pub(crate) fn interrupt_on_ring(&self, event: &OwnedFd, line: u32) -> io::Result<()> {
        self.fd.register_irqfd(&borrowed(event), line).map_err(from_kvm)
    }
}

/// `event` as kvm-ioctls wants it, without giving it away.
fn borrowed(event: &OwnedFd) -> ManuallyDrop<EventFd> {
    // SAFETY: the descriptor is open as long as `event` is borrowed, which callers do longer than they use the result,
    // and it is not closed here since the result is never dropped.
    ManuallyDrop::new(unsafe { EventFd::from_raw_fd(event.as_raw_fd()) })
}

/// A processor. It keeps the machine alive.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
    _memory: GuestMemoryMmap,
}

/// Why KVM gave up on a processor, as far as it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct InternalError {
    /// What kind of failure (`KVM_INTERNAL_ERROR_*`).
    pub(crate) kind: u32,
    /// Bytes of the instruction, if that was the trouble and KVM tells.
    pub(crate) instruction: Vec<u8>,
    /// What else KVM tells, uninterpreted.
    pub(crate) data: Vec<u64>,
}

impl Vcpu {
    /// What is asked of KVM for this processor.
    pub(crate) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// The same to run it.
    pub(crate) fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// What stops it from another thread.
    pub(crate) fn brake(&self) -> io::Result<Brake> {
        Brake::new(&self.fd)
    }

    /// Why the last run ended with `VcpuExit::InternalError`.
    pub(crate) fn internal_error(&mut self) -> InternalError {
        let run = self.fd.get_kvm_run();
        if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
            return InternalError { kind: 0, instruction: Vec::new(), data: Vec::new() };
        }
        // SAFETY: the exit reason says that KVM has written this member of the union; all of its bytes are initialised,
        // because the page is KVM's and zeroed, and any bytes are valid integers.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let count = usize::try_from(internal.ndata).unwrap_or(usize::MAX).min(internal.data.len());
        let data: Vec<u64> = internal.data.iter().take(count).copied().collect();
        // For a failed emulation the words are flags, then one byte of length and the bytes of the instruction
        // (struct kvm_run, emulation_failure, in include/uapi/linux/kvm.h).
        let instruction = match data.split_first() {
            Some((flags, rest))
                if internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                    && flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0 =>
            {
                let mut bytes = rest.iter().flat_map(|word| word.to_ne_bytes());
                let length = bytes.next().map_or(0, usize::from);
                bytes.take(length).collect()
            }
            _ => Vec::new(),
        };
        InternalError { kind: internal.suberror, instruction, data }
    }
}

/// An error of KVM's as one of the standard library's.
pub(crate) fn from_kvm(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
