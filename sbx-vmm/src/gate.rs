//! Holds threads back until the guest may begin.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A gate, closed at first. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets everybody through, from now on: the guest begins, or there will be none and whoever waits looks why.
    pub(crate) fn open(&self) {
        *self.shared.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.opened.notify_all();
    }

    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.shared.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
