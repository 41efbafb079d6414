//! What to do about a KVM that is not as it should be.

use std::fs;

use super::KvmProbe;

/// Where Linux tells what the processor can.
const PROCESSORS: &str = "/proc/cpuinfo";

impl KvmProbe {
    /// What the user can do to have a KVM that is worth using, if there is anything.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Hardware { .. } | Self::Failed { .. } => None,
            Self::NoPermission { group } => {
                Some(format!("sudo usermod --append --groups {group} $USER, then log in again"))
            }
            Self::Missing => {
                Some(about_missing(&fs::read_to_string(PROCESSORS).unwrap_or_default()).to_owned())
            }
            Self::Emulated { .. } => Some(
                "a computer with hardware virtualization; here sandboxes are faster with `--engine qemu`"
                    .to_owned(),
            ),
        }
    }
}

/// Whether this computer is a virtual machine itself, so that its guests' exits pass through two hypervisors.
#[must_use]
pub fn is_nested() -> bool {
    has_flag(&fs::read_to_string(PROCESSORS).unwrap_or_default(), "hypervisor")
}

/// What to do without `/dev/kvm`, from the text of `/proc/cpuinfo`.
fn about_missing(processors: &str) -> &'static str {
    if has_flag(processors, "vmx") {
        "sudo modprobe kvm_intel; if that fails, switch VT-x on in the firmware's settings"
    } else if has_flag(processors, "svm") {
        "sudo modprobe kvm_amd; if that fails, switch AMD-V (SVM) on in the firmware's settings"
    } else if has_flag(processors, "hypervisor") {
        "this is a virtual machine: switch nested virtualization on for it"
    } else {
        "switch virtualization (VT-x or AMD-V) on in the firmware's settings, then load kvm_intel or kvm_amd"
    }
}

fn has_flag(processors: &str, flag: &str) -> bool {
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|word| word == flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_about_this_computer() {
        let about = |flags: &str| about_missing(&format!("processor\t: 0\nflags\t\t: fpu {flags} sse\n"));
        assert!(about("vmx").starts_with("sudo modprobe kvm_intel;"));
        assert!(about("svm hypervisor").starts_with("sudo modprobe kvm_amd;"));
        assert!(about("hypervisor").contains("nested virtualization"));
        assert!(about("svm_lock vmxx").contains("firmware"));
        assert!(about_missing("").contains("firmware"));
    }

    #[test]
    fn every_probe_but_a_good_one_says_what_to_do_if_anything_can_be_done() {
        assert_eq!(KvmProbe::Hardware { iterations_per_second: 1 }.advice(), None);
        let advice = KvmProbe::NoPermission { group: "kvm".to_owned() }.advice().unwrap();
        assert_eq!(advice, "sudo usermod --append --groups kvm $USER, then log in again");
        assert!(KvmProbe::Emulated { iterations_per_second: 1 }.advice().unwrap().contains("--engine qemu"));
    }
}
