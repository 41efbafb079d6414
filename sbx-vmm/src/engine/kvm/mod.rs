//! The `kvm` engine: this process is the machine monitor, on /dev/kvm.
//!
//! ```text
//!   vcpu0 … vcpuN   one thread each ──exits──▶ Bus ──▶ console (a log), virtio-mmio registers
//!   virtio          the devices' thread   ◀── kick eventfds ── KVM ◀── interrupt eventfds ──┐
//!   virtio-fs       the file system's     ──────────────────────────────────────────────────┤
//!   virtio-net      the network card's    ──────────────────────────────────────────────────┘
//!   kvm             waits for the end of any of them, ends the others
//! ```
//!
//! Interrupt controllers and timer are KVM's. A guest ends by a reset of its machine (a triple fault, the keyboard
//! controller), by a panic of its kernel, which resets it, by KVM giving up, or because the host says so.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;

use kvm_ioctls::{Cap, Kvm};
use rustix::event::{EventfdFlags, eventfd};
use vm_memory::GuestMemoryMmap;

use super::{Logs, RunningGuest, parameters};
use crate::arch;
use crate::config::MachineConfig;
use crate::machine::StartError;
use crate::seccomp::Role;
use crate::sys::vm::{Vm, from_kvm};
use crate::virtio::mmio::{EventLoop, LoopHandle, MmioDevice, QUEUE_NOTIFY, WINDOW_BYTES};
use crate::virtio::{DeviceKind, VirtioDevice};

mod boot;
mod bus;
mod guest;
mod memory;
mod serial;
mod vcpu;

pub use boot::BootError;

use bus::Bus;
use guest::{Event, Keeper, KvmGuest};
use serial::Console;
use vcpu::{Signals, VcpuThread};

/// Builds the machine of `config`, whose processors wait for the guest to begin.
pub(super) fn build(
    config: &MachineConfig,
    devices: Vec<Box<dyn VirtioDevice>>,
    logs: Logs,
) -> Result<Box<dyn RunningGuest>, StartError> {
    let kvm = Kvm::new().map_err(from_kvm).map_err(host("open /dev/kvm"))?;
    check(&kvm, config)?;
    let memory_bytes = u64::from(config.memory_mib) << 20;
    let memory = memory::guest_memory(memory_bytes).map_err(host("make guest memory"))?;
    let vm = Vm::new(&kvm, memory.clone()).map_err(host("make a virtual machine"))?;
    arch::set_up_machine(vm.fd()).map_err(host("make interrupt controllers"))?;
    let (devices, loops) = attach(&vm, devices).map_err(host("attach the devices"))?;
    let entry = load(config, &memory, devices.len())?;

    let (console_tail, log) = (logs.console.tail(), logs.engine);
    let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let console =
        Console::new(logs.console, interrupt.map_err(io::Error::from).map_err(host("make an eventfd"))?);
    vm.interrupt_on_ring(console.interrupt(), arch::CONSOLE_LINE).map_err(host("attach the console"))?;
    let bus = Arc::new(Bus::new(console, devices));

    let mut keeper = Keeper {
        processors: Vec::new(),
        vm,
        signals: Signals::default(),
        loops,
        bus: Arc::clone(&bus),
        console: console_tail,
        log,
    };
    let (events, received) = channel();
    let common = arch::Processors::ask(&kvm, config.vcpus).map_err(host("ask KVM for its processors"))?;
    let mut vcpus = Vec::with_capacity(usize::from(config.vcpus));
    for number in 0..config.vcpus {
        let vcpu = keeper.vm.create_vcpu(number).map_err(host("make a processor"))?;
        common.set_up(vcpu.fd(), number, entry).map_err(host("set a processor up"))?;
        vcpus.push(vcpu);
    }
    for (number, vcpu) in (0..).zip(vcpus) {
        let (signals, sender) = (keeper.signals.clone(), events.clone());
        let tell = move |stop| {
            let _ = sender.send(Event::Stopped(stop));
        };
        let bus = Arc::clone(&bus);
        let processor = VcpuThread::start(vcpu, number, bus, memory.clone(), signals, tell);
        keeper.processors.push(processor.map_err(host("start a thread"))?);
    }
    Ok(Box::new(KvmGuest::watch(keeper, events, received).map_err(host("start a thread"))?))
}

/// Whether this KVM and this engine can do what `config` says.
fn check(kvm: &Kvm, config: &MachineConfig) -> Result<(), StartError> {
    for (capability, name) in [
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
        (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
        (Cap::Irqfd, "KVM_CAP_IRQFD"),
        (Cap::Pit2, "KVM_CAP_PIT2"),
    ] {
        if !kvm.check_extension(capability) {
            let lacking = io::Error::other(format!("it lacks {name}; Linux has it since 4.13"));
            return Err(host("use /dev/kvm")(lacking));
        }
    }
    let most = kvm.get_max_vcpus();
    if usize::from(config.vcpus) > most {
        return Err(host("make the processors")(io::Error::other(format!(
            "KVM gives a machine at most {most}"
        ))));
    }
    Ok(())
}

/// Puts the devices on the bus: those that may have to wait for a file system on a thread of their own, and those that may
/// use the host's network.
fn attach(
    vm: &Vm,
    devices: Vec<Box<dyn VirtioDevice>>,
) -> io::Result<(Vec<Arc<MmioDevice>>, Vec<LoopHandle>)> {
    let (mut quick, mut slow, mut network) = (EventLoop::new()?, EventLoop::new()?, EventLoop::new()?);
    let mut attached = Vec::with_capacity(devices.len());
    let windows = (arch::DEVICE_WINDOWS..).step_by(usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX));
    let mut places = windows.zip(arch::DEVICE_LINES);
    for device in devices {
        let (window, line) = places.next().ok_or_else(|| io::Error::other("there are too many devices"))?;
        let served_by = match device.kind() {
            DeviceKind::Fs => &mut slow,
            DeviceKind::Net => &mut network,
            DeviceKind::Block | DeviceKind::Rng | DeviceKind::Vsock => &mut quick,
        };
        let device = served_by.attach(device, vm.memory())?;
        vm.interrupt_on_ring(device.interrupt(), line)?;
        for (queue, kick) in (0..).zip(device.kicks()) {
            vm.ring_on_write(kick, window.saturating_add(QUEUE_NOTIFY), queue)?;
        }
        attached.push(device);
    }
    let mut loops = Vec::new();
    for (devices, name, role) in [
        (quick, "virtio", Role::DeviceLoop),
        (slow, "virtio-fs", Role::FsWorker),
        (network, "virtio-net", Role::NetWorker),
    ] {
        if !devices.is_empty() {
            loops.push(devices.start(name, role)?);
        }
    }
    Ok((attached, loops))
}

/// Loads kernel, initramfs and what the kernel is told; returns where it begins.
fn load(config: &MachineConfig, memory: &GuestMemoryMmap, devices: usize) -> Result<u64, StartError> {
    let failed = |path: &std::path::Path| {
        let path = path.to_path_buf();
        move |source| StartError::Boot { path, source }
    };
    let memory_bytes = u64::from(config.memory_mib) << 20;
    let kernel = boot::load_kernel(memory, &config.kernel).map_err(failed(&config.kernel))?;
    let initramfs = boot::load_initramfs(memory, &config.initramfs, kernel, memory_bytes)
        .map_err(failed(&config.initramfs))?;
    let command_line = command_line(devices, &config.kernel_parameters);
    let (bytes, most) = (command_line.len(), arch::MAX_COMMAND_LINE_BYTES);
    if bytes > most {
        return Err(failed(&config.kernel)(BootError::CommandLine { bytes, most }));
    }
    let information = arch::BootInformation {
        memory_bytes,
        processors: config.vcpus,
        command_line: &command_line,
        initramfs,
    };
    information.write(memory).map_err(host("write to guest memory"))?;
    Ok(kernel.entry)
}

fn command_line(devices: usize, of_caller: &[String]) -> String {
    let mut words: Vec<String> = arch::KERNEL_PARAMETERS.iter().map(|&word| word.to_owned()).collect();
    let windows = (arch::DEVICE_WINDOWS..).step_by(usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX));
    for (window, line) in windows.zip(arch::DEVICE_LINES).take(devices) {
        words.push(format!("virtio_mmio.device={WINDOW_BYTES:#x}@{window:#x}:{line}"));
    }
    parameters::command_line(&words, of_caller)
}

fn host(doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Host { doing, source }
}

#[cfg(test)]
mod tests;
