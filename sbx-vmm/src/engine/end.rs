//! The end of a guest: set once, waited for by anybody.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::machine::ExitReason;

/// How the guest ended, once it has.
#[derive(Debug, Default)]
pub(super) struct End {
    reason: Mutex<Option<ExitReason>>,
    ended: Condvar,
}

impl End {
    /// Wakes all who wait. What is set first, stands.
    pub(super) fn set(&self, reason: ExitReason) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.ended.notify_all();
    }

    /// Waits for the end.
    pub(super) fn wait(&self) -> ExitReason {
        let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*reason {
                Some(reason) => return reason.clone(),
                None => reason = self.ended.wait(reason).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
