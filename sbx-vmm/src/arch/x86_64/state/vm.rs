//! What all processors of a machine share.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use super::{Raw, StateError, restored, saved};

/// The interrupt controllers, in the order in which they are kept.
pub(super) const CONTROLLERS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// Names of the parts in errors.
const CONTROLLER: &str = "an interrupt controller";
const TIMER: &str = "the timer";
const CLOCK: &str = "the clock";

/// Interrupt controllers, timer and clock of a machine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct VmState {
    pub(super) controllers: [Raw<kvm_irqchip>; CONTROLLERS.len()],
    pub(super) timer: Raw<kvm_pit_state2>,
    /// Nanoseconds that the guest's clock has run.
    pub(super) clock: u64,
}

impl VmState {
    /// Of a machine none of whose processors runs.
    ///
    /// # Errors
    /// What KVM says.
    pub fn save(vm: &VmFd) -> Result<Self, StateError> {
        let controller = |number| {
            let mut controller = kvm_irqchip { chip_id: number, ..Default::default() };
            saved(CONTROLLER, vm.get_irqchip(&mut controller)).map(|()| Raw::of(&controller))
        };
        let [master, slave, io_apic] = CONTROLLERS;
        Ok(Self {
            controllers: [controller(master)?, controller(slave)?, controller(io_apic)?],
            timer: Raw::of(&saved(TIMER, vm.get_pit2())?),
            clock: saved(CLOCK, vm.get_clock())?.clock,
        })
    }

    /// Goes on with a machine that was just set up; before its processors are restored, whose clocks depend on it. No
    /// time has passed for the guest.
    ///
    /// # Errors
    /// If a part is none, or KVM does not take it.
    pub fn restore(&self, vm: &VmFd) -> Result<(), StateError> {
        for (number, saved) in CONTROLLERS.into_iter().zip(&self.controllers) {
            let controller = kvm_irqchip { chip_id: number, ..saved.get(CONTROLLER)? };
            restored(CONTROLLER, vm.set_irqchip(&controller))?;
        }
        restored(TIMER, vm.set_pit2(&self.timer.get(TIMER)?))?;
        restored(CLOCK, vm.set_clock(&kvm_clock_data { clock: self.clock, ..Default::default() }))
    }
}
