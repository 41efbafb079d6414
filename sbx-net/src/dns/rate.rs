//! How often names may be asked for that the guest makes up.

use std::time::{Duration, Instant};

/// So many at once.
const BURST: u32 = 200;

/// And then one in this time, 50 a second: far more than programs need, and little for a tunnel.
const INTERVAL: Duration = Duration::from_millis(20);

/// A bucket that fills with time.
#[derive(Debug)]
pub(super) struct Rate {
    left: u32,
    /// Up to when it has been filled.
    filled: Option<Instant>,
}

impl Default for Rate {
    fn default() -> Self {
        Self { left: BURST, filled: None }
    }
}

impl Rate {
    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled);
        let new = u32::try_from(passed.as_nanos().checked_div(INTERVAL.as_nanos()).unwrap_or(0));
        let new = new.unwrap_or(u32::MAX).min(BURST);
        if new > 0 {
            self.left = self.left.saturating_add(new).min(BURST);
            // What is left of an interval counts for the next one, unless the bucket is full anyway.
            let used = if self.left == BURST { passed } else { INTERVAL.saturating_mul(new) };
            self.filled = filled.checked_add(used);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_fifty_a_second() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| rate.take(now)).count(), 200);
        let second = (1..=1000).filter(|ms| rate.take(now + Duration::from_millis(*ms))).count();
        assert_eq!(second, 50);
        assert_eq!((0..1000).filter(|_| rate.take(now + Duration::from_secs(3600))).count(), 200);
    }
}
