//! QEMU's command line, and the guest kernel's.

use std::ffi::OsString;
use std::path::Path;

use super::frequency;
use crate::config::MachineConfig;
use crate::engine::Accelerator;
use crate::virtio::{DeviceKind, VirtioDevice};

/// Name of the memory backend in QEMU.
const MEMORY: &str = "memory";

/// Kernel parameters that hold under every accelerator, and why.
const KERNEL_PARAMETERS: &[&str] = &[
    // The UART is there from the first instruction on, so that even an early panic reaches the log.
    "console=ttyS0",
    // Each character on the console costs an exit of the guest.
    "quiet",
    // The end of the guest is a reset, which `-no-reboot` turns into the end of QEMU: by the keyboard controller that
    // microvm does not have it would take a second, by a triple fault it is at once. A panic ends it, too.
    "reboot=t",
    "panic=-1",
    // Both emulate an APIC timer of exactly 1 GHz; measuring it takes 200 ms (kernel/patches).
    "apic_khz=1000000",
    // No interrupt of the PIT is lost here, and no other clock is better than the TSC: not checked, not watched.
    "no_timer_check",
    "tsc=reliable",
];

/// Arguments for the machine without its devices.
pub(super) fn machine(config: &MachineConfig, accelerator: Accelerator) -> Vec<OsString> {
    let memory_mib = config.memory_mib;
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
    option("-M", format!("microvm,acpi=off,memory-backend={MEMORY}").into());
    match accelerator {
        Accelerator::Kvm => {
            option("-accel", "kvm".into());
            option("-cpu", "host".into());
        }
        Accelerator::Tcg => {
            option("-accel", "tcg,thread=multi".into());
            // Without fast string operations, of which `rep stosb` is emulated byte by byte: a guest that believes in
            // them clears memory at 400 MB/s instead of 8 GB/s.
            option("-cpu", "max,-erms".into());
        }
    }
    option("-smp", config.vcpus.to_string().into());
    option("-m", format!("{memory_mib}M").into());
    // Shared, so that our devices can map it.
    option("-object", format!("memory-backend-memfd,id={MEMORY},size={memory_mib}M,share=on").into());
    // Without this, virtio-mmio devices are those of virtio 0.9.
    option("-global", "virtio-mmio.force-legacy=false".into());
    option("-kernel", escaped(&config.kernel));
    option("-initrd", escaped(&config.initramfs));
    option("-append", kernel_parameters(accelerator).into());
    option("-display", "none".into());
    option("-chardev", "stdio,id=console,signal=off".into());
    option("-serial", "chardev:console".into());
    // QEMU's own cage besides ours: no exec, no fork, no change of user or priority.
    option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    arguments
}

fn kernel_parameters(accelerator: Accelerator) -> String {
    let mut parameters = KERNEL_PARAMETERS.join(" ");
    if accelerator == Accelerator::Tcg
        && let Some(khz) = frequency::khz()
    {
        parameters.push_str(&format!(" tsc_early_khz={khz}"));
    }
    parameters
}

/// The socket, in the machine's directory, on which the device `name` is served.
pub(super) fn socket(name: &str) -> String {
    format!("{name}.sock")
}

/// Arguments that attach `device` under `name`, which is a plain word.
pub(super) fn device(name: &str, device: &dyn VirtioDevice) -> [OsString; 4] {
    // QEMU gives all queues of a device the same size, except that it leaves no choice for some devices.
    let queue_size = device.queue_sizes().iter().min().copied().unwrap_or_default();
    let front_end = match device.kind() {
        DeviceKind::Block => {
            let queues = device.queue_sizes().len();
            format!("vhost-user-blk,num-queues={queues},queue-size={queue_size}")
        }
        DeviceKind::Fs => {
            format!("vhost-user-fs-device,tag={},queue-size={queue_size}", escape(&tag(device.config())))
        }
        DeviceKind::Rng => "vhost-user-rng".to_owned(),
        DeviceKind::Vsock => "vhost-user-vsock-device".to_owned(),
    };
    [
        "-chardev".into(),
        format!("socket,id={name},path={}", socket(name)).into(),
        "-device".into(),
        format!("{front_end},chardev={name}").into(),
    ]
}

/// The tag in the configuration space of a file system device: 36 bytes, padded with NUL (virtio 1.2, 5.11.4). QEMU
/// does not ask the device for it.
fn tag(config: &[u8]) -> String {
    let tag = config.get(..36).unwrap_or(config);
    let end = tag.iter().position(|&byte| byte == 0).unwrap_or(tag.len());
    String::from_utf8_lossy(tag.get(..end).unwrap_or_default()).into_owned()
}

/// In a value of one of QEMU's option lists a comma is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// A path where QEMU parses an option list of its own: `-kernel` and `-initrd` are properties of the machine.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}
