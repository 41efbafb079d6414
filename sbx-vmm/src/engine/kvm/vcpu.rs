//! The thread of one processor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use kvm_ioctls::VcpuExit;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::bus::{Bus, Verdict};
use crate::gate::Gate;
use crate::seccomp::{self, Role};
use crate::sys::stop::Brake;
use crate::sys::vm::{InternalError, Vcpu};

/// Stack of the thread in bytes; only what is touched becomes resident.
const STACK_BYTES: usize = 256 * 1024;

/// Bytes that the longest instruction has (Intel SDM volume 2, 2.3.11).
const INSTRUCTION_BYTES: usize = 15;

/// Why a processor does not run any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// The guest reset its machine, which is how it powers off.
    Reset,
    /// It was told to.
    Told,
    /// KVM cannot go on. The text is a short sentence, the rest for the log.
    Failed { what: String, details: Vec<String> },
}

/// What all processors of a machine listen to.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    /// Opens when the guest may begin, or is to end before it has.
    pub(super) gate: Gate,
    /// Tells them to stop.
    pub(super) stopping: Arc<AtomicBool>,
}

/// A running processor.
#[derive(Debug)]
pub(super) struct VcpuThread {
    brake: Brake,
    thread: JoinHandle<()>,
}

impl VcpuThread {
    /// Starts processor `number`, which runs when `gate` is open. `tell` is called once, when it stops.
    pub(super) fn start(
        vcpu: Vcpu,
        number: u8,
        bus: Arc<Bus>,
        memory: GuestMemoryMmap,
        signals: Signals,
        tell: impl FnOnce(Stop) + Send + 'static,
    ) -> io::Result<Self> {
        let brake = vcpu.brake()?;
        let Signals { gate, stopping } = signals;
        let processor = Processor { vcpu, number, bus, memory, stopping };
        let thread = thread::Builder::new().name(format!("vcpu{number}")).stack_size(STACK_BYTES);
        let thread = seccomp::spawn(thread, Role::Vcpu, move || {
            gate.pass();
            tell(processor.run());
        })?;
        Ok(Self { brake, thread })
    }

    /// Makes the processor leave the guest, however busy it is. Its flag `stopping` is set already, and its gate open.
    pub(super) fn stop(&self) {
        self.brake.pull(&self.thread);
    }

    /// Waits until the thread has ended.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the thread of a processor panicked");
        }
    }
}

/// What the thread has.
struct Processor {
    vcpu: Vcpu,
    number: u8,
    bus: Arc<Bus>,
    memory: GuestMemoryMmap,
    stopping: Arc<AtomicBool>,
}

impl Processor {
    fn run(mut self) -> Stop {
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return Stop::Told;
            }
            match self.vcpu.fd_mut().run() {
                Ok(VcpuExit::IoOut(port, data)) => {
                    if self.bus.write_port(port, data) == Verdict::Reset {
                        return Stop::Reset;
                    }
                }
                Ok(VcpuExit::IoIn(port, data)) => self.bus.read_port(port, data),
                Ok(VcpuExit::MmioRead(address, data)) => self.bus.read_memory(address, data),
                Ok(VcpuExit::MmioWrite(address, data)) => self.bus.write_memory(address, data),
                // A triple fault, or an event that means the same.
                Ok(VcpuExit::Shutdown | VcpuExit::SystemEvent(..)) => return Stop::Reset,
                Ok(VcpuExit::InternalError) => {
                    let error = self.vcpu.internal_error();
                    return self.internal_error(&error);
                }
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return self
                        .failed(format!("the hardware refused to enter it, reason {reason:#x}"), None);
                }
                Ok(exit) => {
                    let what = format!("KVM stopped it with {exit:?}");
                    return self.failed(what, None);
                }
                // A signal, or a processor that has just been started by another one.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => {
                    let error = io::Error::from_raw_os_error(error.errno());
                    return self.failed(format!("KVM cannot run it: {error}"), None);
                }
            }
        }
    }

    /// KVM gave up: says where and on what.
    fn internal_error(&self, error: &InternalError) -> Stop {
        let what = match error.kind {
            1 => "KVM cannot emulate an instruction".to_owned(),
            2 => "an exception came up while KVM delivered another one".to_owned(),
            3 => "KVM could not deliver an event".to_owned(),
            4 => "KVM did not expect how the hardware left the guest".to_owned(),
            kind => format!("KVM has internal error {kind}"),
        };
        self.failed(what, Some(error))
    }

    fn failed(&self, what: String, error: Option<&InternalError>) -> Stop {
        let number = self.number;
        let mut details = vec![format!("processor {number}: {what}")];
        if let Ok(registers) = self.vcpu.fd().get_regs() {
            let instruction = match error {
                Some(error) if !error.instruction.is_empty() => error.instruction.clone(),
                _ => self.instruction(registers.rip),
            };
            details.push(format!(
                "rip {:#018x}, instruction bytes {}",
                registers.rip,
                hexadecimal(&instruction)
            ));
            details.push(format!("{registers:x?}"));
        }
        if let Ok(special) = self.vcpu.fd().get_sregs() {
            let (cr0, cr2, cr3, cr4) = (special.cr0, special.cr2, special.cr3, special.cr4);
            let (efer, level) = (special.efer, special.cs.dpl);
            details.push(format!(
                "cr0 {cr0:#x} cr2 {cr2:#x} cr3 {cr3:#x} cr4 {cr4:#x} efer {efer:#x} privilege level {level}"
            ));
        }
        if let Some(error) = error {
            details.push(format!("KVM says {:x?}", error.data));
        }
        let place = details.get(1).map(|place| format!(" ({place})")).unwrap_or_default();
        Stop::Failed { what: format!("processor {number}: {what}{place}"), details }
    }

    /// What is in memory where the processor is; nothing if that is not memory.
    fn instruction(&self, rip: u64) -> Vec<u8> {
        let mut bytes = vec![0; INSTRUCTION_BYTES];
        let place = self.vcpu.fd().translate_gva(rip).ok().filter(|place| place.valid != 0);
        let read =
            place.and_then(|place| self.memory.read(&mut bytes, GuestAddress(place.physical_address)).ok());
        bytes.truncate(read.unwrap_or(0));
        bytes
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "unknown".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
