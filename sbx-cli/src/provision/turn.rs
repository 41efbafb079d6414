//! Whose turn it is to make a step.
//!
//! ```text
//! look: not there ─▶ Turn::take ─ free ──────────────────▶ make it, record it, let go
//!                        └ another sbx is at it: wait ─▶ look again: there, or it failed or was killed and it is our turn
//! ```
//! The turn is a lock on a file of the store, and goes with the process however that ends. Nobody has two, so that nobody waits
//! for somebody who waits.

use sbx_image::store::Lock;

use super::{builder::Builder, progress::StepProgress};
use crate::{error::Result, images::store_failed};

/// The right to make a step, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Lock,
    /// Whether it had to be waited for: what was not there may be there now.
    pub(super) waited: bool,
}

impl Turn {
    /// Takes the turn of the step with this key; `leave` is called before another sbx is waited for.
    ///
    /// # Errors
    /// If the store gives no lock.
    pub(super) fn take(
        builder: &Builder<'_>,
        key: &str,
        progress: &StepProgress,
        leave: impl FnOnce(),
    ) -> Result<Self> {
        let mut waited = false;
        let lock = builder.bench.store.lock_step(key, || {
            leave();
            progress.doing("another sbx is making this; waiting", true);
            waited = true;
        });
        Ok(Self { _lock: lock.map_err(store_failed)?, waited })
    }
}
