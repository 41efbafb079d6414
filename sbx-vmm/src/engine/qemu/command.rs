//! QEMU's command line, and the guest kernel's.

use std::ffi::OsString;

use super::frequency;
use crate::arch;
use crate::config::MachineConfig;
use crate::engine::{Accelerator, parameters};
use crate::virtio::{DeviceKind, VirtioDevice};

/// Name of the memory backend in QEMU.
const MEMORY: &str = "memory";

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
    option("-kernel", config.kernel.clone().into());
    option("-initrd", config.initramfs.clone().into());
    option("-append", command_line(config, accelerator).into());
    option("-display", "none".into());
    option("-chardev", "stdio,id=console,signal=off".into());
    option("-serial", "chardev:console".into());
    // QEMU's own cage besides ours: no exec, no fork, no change of user or priority.
    option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    arguments
}

fn command_line(config: &MachineConfig, accelerator: Accelerator) -> String {
    let mut words: Vec<String> = arch::KERNEL_PARAMETERS.iter().map(|&word| word.to_owned()).collect();
    if accelerator == Accelerator::Tcg {
        // The translator finds what it has translated by the code's address. With libraries somewhere else in each
        // process it translates them anew for each: starting `true` takes 17 ms, without this 3 ms.
        words.push("norandmaps".to_owned());
        words.extend(frequency::khz().map(|khz| format!("tsc_early_khz={khz}")));
    }
    parameters::command_line(&words, &config.kernel_parameters)
}

/// The socket, in the machine's directory, on which the device `name` is served.
pub(super) fn socket(name: &str) -> String {
    format!("{name}.sock")
}

/// Arguments that attach `device` under `name`, which is a plain word.
pub(super) fn device(name: &str, device: &dyn VirtioDevice) -> Vec<OsString> {
    // QEMU gives all queues of a device the same size, except that it leaves no choice for some devices.
    let queue_size = device.queue_sizes().iter().min().copied().unwrap_or_default();
    let front_end = match device.kind() {
        // QEMU's network cards are devices of its own, with a vhost-user back end.
        DeviceKind::Net => return network_card(name, device),
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
    let front_end = format!("{front_end},chardev={name}");
    vec!["-chardev".into(), chardev(name).into(), "-device".into(), front_end.into()]
}

fn chardev(name: &str) -> String {
    format!("socket,id={name},path={}", socket(name))
}

/// QEMU answers for the configuration space of a network card, and would offer what our device does not have: a queue for
/// commands and what is asked for by way of it.
fn network_card(name: &str, device: &dyn VirtioDevice) -> Vec<OsString> {
    const NOT_OFFERED: &str = "mq=off,ctrl_vq=off,ctrl_rx=off,ctrl_rx_extra=off,ctrl_vlan=off,ctrl_mac_addr=off,\
        ctrl_guest_offloads=off,guest_announce=off,status=off";
    let [rx, tx] = [0, 1].map(|queue| device.queue_sizes().get(queue).copied().unwrap_or_default());
    let (mac, mtu) = address_and_mtu(device.config());
    let card = format!(
        "virtio-net-device,netdev={name}-end,mac={mac},host_mtu={mtu},rx_queue_size={rx},tx_queue_size={tx},{NOT_OFFERED}"
    );
    let back_end = format!("vhost-user,id={name}-end,chardev={name}");
    let options = ["-chardev", &chardev(name), "-netdev", &back_end, "-device", &card];
    options.map(OsString::from).to_vec()
}

/// What the configuration space of a network card says (virtio 1.2, 5.1.4).
fn address_and_mtu(config: &[u8]) -> (String, u16) {
    let address: Vec<String> = config.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let mtu = config.get(10..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_le_bytes);
    (address.join(":"), mtu)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::IdMap;
    use crate::testing::FakeLink;
    use crate::virtio::net::NetDevice;
    use crate::virtio::rng::RngDevice;

    fn line(accelerator: Accelerator) -> String {
        let config = MachineConfig {
            vcpus: 3,
            memory_mib: 768,
            kernel: PathBuf::from("/a,b/vmlinux"),
            initramfs: PathBuf::from("/a,b/guest.cpio"),
            kernel_parameters: vec!["debug".to_owned()],
            root: Vec::new(),
            scratch: PathBuf::new(),
            shares: Vec::new(),
            network: None,
            ids: IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 },
            directory: PathBuf::new(),
        };
        let arguments = machine(&config, accelerator);
        arguments.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_machine_is_what_the_configuration_says() {
        let emulated = line(Accelerator::Tcg);
        for part in [
            "-accel tcg,thread=multi ",
            "-smp 3 ",
            "-m 768M ",
            "-object memory-backend-memfd,id=memory,size=768M,share=on ",
            "-kernel /a,b/vmlinux -initrd /a,b/guest.cpio ",
            " debug -display ",
        ] {
            assert!(emulated.contains(part), "{part} in {emulated}");
        }
        let accelerated = line(Accelerator::Kvm);
        assert!(accelerated.contains("-accel kvm -cpu host "), "{accelerated}");
        assert!(!accelerated.contains("tsc_early_khz"), "KVM's guests are told by KVM: {accelerated}");
        assert!(emulated.contains(" norandmaps ") && !accelerated.contains("norandmaps"), "{emulated}");
    }

    #[test]
    fn a_device_is_attached_through_its_socket() {
        let arguments = device("rng4", &RngDevice::new());
        let expected =
            ["-chardev", "socket,id=rng4,path=rng4.sock", "-device", "vhost-user-rng,chardev=rng4"];
        assert_eq!(arguments, expected.map(OsString::from));
    }

    #[test]
    fn a_network_card_is_what_its_device_says() {
        let card = NetDevice::new([2, 0, 0, 0, 0xab, 1], 65_520, Box::new(FakeLink::echoing()));
        let arguments = device("net5", &card).join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        let expected = "-chardev socket,id=net5,path=net5.sock -netdev vhost-user,id=net5-end,chardev=net5 \
            -device virtio-net-device,netdev=net5-end,mac=02:00:00:00:ab:01,host_mtu=65520,\
            rx_queue_size=1024,tx_queue_size=256,mq=off,";
        assert!(arguments.starts_with(expected), "{arguments}");
    }

    #[test]
    fn a_tag_ends_where_its_padding_begins() {
        let mut config = b"my,shares".to_vec();
        config.resize(40, 0);
        assert_eq!(escape(&tag(&config)), "my,,shares");
        assert_eq!(tag(&[]), "");
    }
}
