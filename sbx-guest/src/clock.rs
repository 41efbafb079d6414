//! Keeping the guest's clock at the host's.
//!
//! The machine has no clock chip; the host sends its time at boot, after it was suspended, and now and then.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Differences up to this are left alone: the message itself takes about as long, and a clock that is stepped back
/// confuses `make`.
const TOLERANCE_NANOSECONDS: u64 = 20_000_000;

/// Steps the clock to the host's time, if it is off.
///
/// # Errors
/// If the kernel does not take the time.
pub(crate) fn set(unix_nanoseconds: u64) -> Result<(), Errno> {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    let now = seconds.saturating_mul(NANOSECONDS_PER_SECOND).saturating_add(nanoseconds);
    if now.abs_diff(unix_nanoseconds) <= TOLERANCE_NANOSECONDS {
        return Ok(());
    }
    clock_settime(
        ClockId::Realtime,
        Timespec {
            tv_sec: (unix_nanoseconds / NANOSECONDS_PER_SECOND).cast_signed(),
            tv_nsec: (unix_nanoseconds % NANOSECONDS_PER_SECOND).cast_signed(),
        },
    )
}
