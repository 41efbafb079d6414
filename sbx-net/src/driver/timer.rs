//! The moment at which the gateway has something to do by itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer that becomes readable. It is set only when what it is set to is too late, since most of what a connection waits for
/// comes before: a timer that goes off too early costs one look.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: OwnedFd,
    set: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { descriptor: timerfd_create(TimerfdClockId::Monotonic, flags)?, set: None })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// It went off.
    pub(super) fn clear(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.descriptor, &mut count);
        self.set = None;
    }

    /// Has it go off at `deadline`, or a little before.
    pub(super) fn set(&mut self, deadline: Option<Instant>, now: Instant) {
        let Some(deadline) = deadline else { return };
        if self.set.is_some_and(|set| set <= deadline) {
            return;
        }
        // Zero would turn it off.
        let after = deadline.saturating_duration_since(now).max(Duration::from_micros(1));
        let Ok(it_value) = Timespec::try_from(after) else { return };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        if timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once).is_ok() {
            self.set = Some(deadline);
        }
    }
}
