//! One processor.

use kvm_bindings::{
    kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};
use serde::{Deserialize, Serialize};

use super::{ModelSpecific, Raw, StateError, msrs, restored, saved};
use crate::sys::xsave::set_xsave;

/// Names of the parts in errors.
const ACTIVITY: &str = "what the processor does";
const REGISTERS: &str = "the general registers";
const SPECIAL: &str = "the segment and control registers";
const EXTENDED_CONTROL: &str = "the extended control registers";
const EXTENDED: &str = "the floating point and vector registers";
const DEBUG: &str = "the debug registers";
const APIC: &str = "the local APIC";
const EVENTS: &str = "the pending events";
const FREQUENCY: &str = "the frequency of the time stamp counter";

/// Everything that KVM holds of a processor.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct VcpuState {
    /// Whether it runs, sleeps, or waits to be started by another one.
    pub(super) activity: Raw<kvm_mp_state>,
    pub(super) registers: Raw<kvm_regs>,
    pub(super) special: Raw<kvm_sregs>,
    pub(super) extended_control: Raw<kvm_xcrs>,
    pub(super) extended: Raw<kvm_xsave>,
    pub(super) debug: Raw<kvm_debugregs>,
    pub(super) apic: Raw<kvm_lapic_state>,
    /// Index and value.
    pub(super) model_specific: Vec<(u32, u64)>,
    pub(super) events: Raw<kvm_vcpu_events>,
    /// Frequency of the time stamp counter, in kHz.
    pub(super) frequency: u32,
}

impl VcpuState {
    /// Of a processor that does not run. What it left the guest for has been done: its result, if there is one, is in
    /// the page that is shared with KVM.
    ///
    /// # Errors
    /// [`StateError::Unfinished`] if that was only the first part of an access that comes in several. It is to be run
    /// until it was stopped from outside.
    pub fn save(vcpu: &mut VcpuFd, list: &ModelSpecific) -> Result<Self, StateError> {
        finish_exit(vcpu)?;
        // KVM may deliver a start of the processor when asked for the first of these, and an event that it holds back
        // may change the others, so that is the last.
        let activity = saved(ACTIVITY, vcpu.get_mp_state())?;
        forgive(vcpu);
        Ok(Self {
            activity: Raw::of(&activity),
            registers: Raw::of(&saved(REGISTERS, vcpu.get_regs())?),
            special: Raw::of(&saved(SPECIAL, vcpu.get_sregs())?),
            extended_control: Raw::of(&saved(EXTENDED_CONTROL, vcpu.get_xcrs())?),
            extended: Raw::of(&saved(EXTENDED, vcpu.get_xsave())?),
            debug: Raw::of(&saved(DEBUG, vcpu.get_debug_regs())?),
            apic: Raw::of(&saved(APIC, vcpu.get_lapic())?),
            model_specific: msrs::save(vcpu, list)?,
            events: Raw::of(&saved(EVENTS, vcpu.get_vcpu_events())?),
            frequency: saved(FREQUENCY, vcpu.get_tsc_khz())?,
        })
    }

    /// Goes on with a processor that was set up and has not run yet.
    ///
    /// # Errors
    /// If a part is none, or KVM does not take it.
    pub fn restore(&self, kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), StateError> {
        if saved(FREQUENCY, vcpu.get_tsc_khz())? != self.frequency {
            restored(FREQUENCY, vcpu.set_tsc_khz(self.frequency))?;
        }
        restored(ACTIVITY, vcpu.set_mp_state(self.activity.get(ACTIVITY)?))?;
        restored(REGISTERS, vcpu.set_regs(&self.registers.get(REGISTERS)?))?;
        restored(SPECIAL, vcpu.set_sregs(&self.special.get(SPECIAL)?))?;
        restored(EXTENDED_CONTROL, vcpu.set_xcrs(&self.extended_control.get(EXTENDED_CONTROL)?))?;
        set_xsave(kvm, vcpu, &self.extended.get(EXTENDED)?).map_err(|source| StateError::Kvm {
            doing: "restore",
            what: EXTENDED,
            source,
        })?;
        restored(DEBUG, vcpu.set_debug_regs(&self.debug.get(DEBUG)?))?;
        // Its base address is among the special registers, and the deadline of its timer a model-specific one.
        restored(APIC, vcpu.set_lapic(&self.apic.get(APIC)?))?;
        msrs::restore(vcpu, &self.model_specific)?;
        // Everything above may take an event away.
        restored(EVENTS, vcpu.set_vcpu_events(&self.events.get(EVENTS)?))?;
        forgive(vcpu);
        Ok(())
    }
}

/// Lets a guest with a paravirtual clock know that it stood still, so that it does not take it for a hang. One without has
/// no use for that, and KVM says so.
fn forgive(vcpu: &VcpuFd) {
    let _ = vcpu.kvmclock_ctrl();
}

/// Lets KVM end the instruction for which the processor left the guest. It does so when it is entered again, and then does
/// not enter the guest.
fn finish_exit(vcpu: &mut VcpuFd) -> Result<(), StateError> {
    let before = vcpu.get_kvm_run().immediate_exit;
    vcpu.set_kvm_immediate_exit(1);
    let result = vcpu.run().map(|_| ());
    vcpu.set_kvm_immediate_exit(before);
    match result {
        Ok(()) => Err(StateError::Unfinished),
        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(()),
        Err(error) => saved(ACTIVITY, Err(error)),
    }
}
