//! Is there a KVM that runs guests at the speed of the hardware?
//!
//! `/dev/kvm` alone says little: some clouds and CI runners have one that implements the interface and emulates the
//! guest's kernel mode instruction by instruction, a thousand times slower than hardware and slower than QEMU's
//! translator. So a guest of five bytes counts down, in real mode, and the clock decides:
//!
//! ```text
//! 66 49     dec ecx
//! 75 fc     jnz -4
//! f4        hlt
//! ```
//!
//! It begins with few iterations, which even an emulator finishes in a fraction of a millisecond, and takes more until
//! the time that it needs can be measured; so the guest always comes to its `hlt`, and nothing has to interrupt it.
//! Should KVM never come back at all, the thread that asked is left behind.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sys::kvm::CountingGuest;

/// Where KVM is.
const DEVICE: &str = "/dev/kvm";

/// From here on it is hardware: the slowest processors with virtualization do ten times as much, the fastest emulators a
/// tenth.
const HARDWARE_ITERATIONS_PER_SECOND: u64 = 50_000_000;

/// Iterations of the first run, and how many times more each further run does.
const FIRST_ITERATIONS: u32 = 128;
const GROWTH: u32 = 8;
const MAX_ITERATIONS: u32 = FIRST_ITERATIONS * GROWTH.pow(5);

/// A run that takes longer is worth believing: entering and leaving the guest is a small part of it.
const LONG_ENOUGH: Duration = Duration::from_micros(100);

/// Slow runs in a row that it takes to believe that it is an emulator, and not that somebody else had the processor.
const SLOW_RUNS: u32 = 3;

/// A KVM that has not come back by now never will.
const PATIENCE: Duration = Duration::from_millis(500);

/// Stack of the thread, in bytes.
const STACK_BYTES: usize = 64 * 1024;

/// What KVM is on this computer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kvm", rename_all = "kebab-case")]
pub enum KvmProbe {
    /// There is no `/dev/kvm`.
    Missing,
    /// It is there, but not for this user.
    NoPermission {
        /// The group that may use it, by name, or by number if it has none.
        group: String,
    },
    /// It runs guests by emulation.
    Emulated {
        /// Iterations of the counting loop.
        iterations_per_second: u64,
    },
    /// It runs guests on the hardware.
    Hardware {
        /// Iterations of the counting loop.
        iterations_per_second: u64,
    },
    /// It is there and does not work.
    Failed {
        /// What went wrong.
        what: String,
    },
}

impl fmt::Display for KvmProbe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(formatter, "there is no {DEVICE} (no virtualization, or no kvm module)"),
            Self::NoPermission { group } => {
                write!(formatter, "{DEVICE} is for the group `{group}`, which you are not in")
            }
            Self::Emulated { iterations_per_second } => write!(
                formatter,
                "{DEVICE} is emulated, without hardware behind it ({:.1} million steps per second)",
                millions(*iterations_per_second)
            ),
            Self::Hardware { iterations_per_second } => write!(
                formatter,
                "{DEVICE} runs on the hardware ({:.0} million steps per second)",
                millions(*iterations_per_second)
            ),
            Self::Failed { what } => write!(formatter, "{DEVICE} does not work: {what}"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}

/// Finds out what KVM is worth here, in about two milliseconds.
#[must_use]
pub fn probe() -> KvmProbe {
    let (sender, receiver) = sync_channel(1);
    let worker =
        thread::Builder::new().name("kvm-probe".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let guest = CountingGuest::new();
            let result = match guest {
                Err(error) => unusable(&error),
                Ok(mut guest) => {
                    let result = measure(|iterations| guest.run(iterations));
                    // Taking a machine apart takes KVM longer than all of the above; nobody has to wait for it.
                    let _ = sender.send(result);
                    return;
                }
            };
            let _ = sender.send(result);
        });
    if let Err(error) = worker {
        return KvmProbe::Failed { what: error.to_string() };
    }
    match receiver.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => KvmProbe::Failed { what: "the guest never came back".to_owned() },
        Err(RecvTimeoutError::Disconnected) => KvmProbe::Failed { what: "the probe ended".to_owned() },
    }
}

fn unusable(error: &io::Error) -> KvmProbe {
    match error.kind() {
        io::ErrorKind::NotFound => KvmProbe::Missing,
        io::ErrorKind::PermissionDenied => KvmProbe::NoPermission { group: group_of_device() },
        // ENXIO, ENODEV: the device node is there, the module is not.
        _ if matches!(error.raw_os_error(), Some(6 | 19)) => KvmProbe::Missing,
        _ => KvmProbe::Failed { what: error.to_string() },
    }
}

/// Runs the loop until its speed is known.
fn measure(mut run: impl FnMut(u32) -> io::Result<()>) -> KvmProbe {
    let mut iterations = FIRST_ITERATIONS;
    let mut slow_runs = 0;
    let mut best = 0;
    loop {
        let started = Instant::now();
        if let Err(error) = run(iterations) {
            return KvmProbe::Failed { what: error.to_string() };
        }
        let elapsed = started.elapsed();
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        best = best.max(u64::from(iterations).saturating_mul(1_000_000_000) / nanoseconds);
        if best >= HARDWARE_ITERATIONS_PER_SECOND && (elapsed >= LONG_ENOUGH || iterations >= MAX_ITERATIONS)
        {
            return KvmProbe::Hardware { iterations_per_second: best };
        }
        if elapsed < LONG_ENOUGH && iterations < MAX_ITERATIONS {
            iterations = iterations.saturating_mul(GROWTH);
            continue;
        }
        slow_runs += 1;
        if slow_runs == SLOW_RUNS {
            return KvmProbe::Emulated { iterations_per_second: best };
        }
    }
}

/// The group that `/dev/kvm` belongs to.
fn group_of_device() -> String {
    let Ok(metadata) = std::fs::metadata(DEVICE) else { return "kvm".to_owned() };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    group_name(&groups, metadata.gid()).unwrap_or_else(|| metadata.gid().to_string())
}

/// The name of `gid` in the text of `/etc/group` (group(5)).
fn group_name(groups: &str, gid: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_guest_is_an_emulator() {
        let mut asked = Vec::new();
        let verdict = measure(|iterations| {
            asked.push(iterations);
            thread::sleep(Duration::from_micros(u64::from(iterations) * 2));
            Ok(())
        });
        let KvmProbe::Emulated { iterations_per_second } = verdict else { panic!("{verdict}") };
        assert!((10_000..=500_000).contains(&iterations_per_second), "{iterations_per_second}");
        assert_eq!(asked, [FIRST_ITERATIONS; 3]);
    }

    #[test]
    fn a_fast_guest_is_hardware_although_it_was_interrupted_once() {
        let mut first = true;
        let verdict = measure(|_| {
            if std::mem::take(&mut first) {
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        assert!(matches!(verdict, KvmProbe::Hardware { .. }), "{verdict}");
    }

    #[test]
    fn a_failing_guest_is_reported() {
        let verdict = measure(|_| Err(io::Error::other("internal error")));
        assert_eq!(verdict.to_string(), "/dev/kvm does not work: internal error");
    }

    #[test]
    fn errors_of_opening_are_told_apart() {
        assert_eq!(unusable(&io::Error::from_raw_os_error(2)), KvmProbe::Missing);
        assert_eq!(unusable(&io::Error::from_raw_os_error(19)), KvmProbe::Missing);
        assert!(matches!(unusable(&io::Error::from_raw_os_error(13)), KvmProbe::NoPermission { .. }));
        assert!(matches!(unusable(&io::Error::from_raw_os_error(12)), KvmProbe::Failed { .. }));
    }

    #[test]
    fn groups_have_names() {
        let groups = "root:x:0:\nkvm:x:106:me,you\nbroken\n";
        assert_eq!(group_name(groups, 106).unwrap(), "kvm");
        assert_eq!(group_name(groups, 7), None);
    }

    #[test]
    fn this_computer_answers() {
        let verdict = probe();
        assert!(!matches!(&verdict, KvmProbe::Failed { what } if what.contains("never")), "{verdict}");
    }
}
