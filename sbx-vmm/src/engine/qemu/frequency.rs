//! The frequency of the host's time stamp counter, which under emulation is the guest's, too.
//!
//! QEMU's TCG answers RDTSC with the host's counter. A guest kernel that is not told its frequency measures it against an
//! emulated timer: that takes 70 ms, and on a busy host it fails, after which the guest's clock advances in steps of
//! 10 ms. Measured here against the host's clock it takes a few milliseconds and does not fail.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::tsc;

/// Between the two readings. A reading of counter and clock together is exact to less than 100 ns, so the frequency is
/// to 40 ppm, less than what the clocks of most hosts are off; and the host sets the guest's clock now and then.
const INTERVAL: Duration = Duration::from_millis(5);
/// Readings of which the one counts that took least time.
const READINGS: usize = 5;
/// What the host's kernel says of its clock.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Clocks that are read from the counter; with any other the host's kernel may have found it unfit.
const FIT: [&str; 3] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page"];
/// No processor counts slower or faster, in kHz.
const PLAUSIBLE_KHZ: std::ops::RangeInclusive<u128> = 200_000..=10_000_000;

/// The frequency in kHz, if the counter is fit to be a clock.
pub(super) fn khz() -> Option<u32> {
    let source = fs::read_to_string(CLOCK_SOURCE).ok()?;
    if !FIT.contains(&source.trim()) {
        return None;
    }
    let (first, begin) = reading()?;
    thread::sleep(INTERVAL);
    let (last, end) = reading()?;
    frequency(last.checked_sub(first)?, end.checked_duration_since(begin)?)
}

/// Counter and clock at one moment.
fn reading() -> Option<(u64, Instant)> {
    let readings = (0..READINGS).map(|_| {
        let before = Instant::now();
        let counter = tsc::now();
        let taken = before.elapsed();
        (taken, counter, before.checked_add(taken / 2).unwrap_or(before))
    });
    readings.min_by_key(|(taken, _, _)| *taken).map(|(_, counter, moment)| (counter, moment))
}

fn frequency(ticks: u64, time: Duration) -> Option<u32> {
    let khz = u128::from(ticks).checked_mul(1_000_000)?.checked_div(time.as_nanos())?;
    PLAUSIBLE_KHZ.contains(&khz).then(|| u32::try_from(khz).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_is_ticks_by_time() {
        assert_eq!(frequency(13_000_000, Duration::from_millis(5)), Some(2_600_000));
        assert_eq!(frequency(0, Duration::from_millis(5)), None);
        assert_eq!(frequency(5, Duration::ZERO), None);
        assert_eq!(frequency(u64::MAX, Duration::from_nanos(1)), None);
    }

    #[test]
    fn two_measurements_agree() {
        if let (Some(one), Some(other)) = (khz(), khz()) {
            assert!(one.abs_diff(other) < one / 1_000, "{one} kHz and {other} kHz");
        }
    }
}
