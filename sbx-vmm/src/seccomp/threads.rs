//! Threads on their way to their filter, counted, so that a guest can be held back until there are none.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::{Role, install};

/// How many threads of this process were announced and have no filter of their own yet.
static UNFILTERED: Mutex<usize> = Mutex::new(0);
/// There is one less.
static FILTERED: Condvar = Condvar::new();

/// A thread that has no filter of its own yet. Dropping this says that it has one, or that there is no such thread.
#[derive(Debug)]
pub(crate) struct Unfiltered(());

impl Unfiltered {
    /// Announces a thread, before it exists.
    pub(crate) fn announce() -> Self {
        let mut count = count();
        *count = count.saturating_add(1);
        Self(())
    }
}

impl Drop for Unfiltered {
    fn drop(&mut self) {
        let mut count = count();
        *count = count.saturating_sub(1);
        if *count == 0 {
            FILTERED.notify_all();
        }
    }
}

/// Starts a thread that may do what `role` needs and nothing else, from before `body` on. No guest of this process begins
/// before it has its filter.
///
/// # Errors
/// When the host gives no thread.
pub fn spawn<T: Send + 'static>(
    thread: Builder,
    role: Role,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let unfiltered = Unfiltered::announce();
    thread.spawn(move || {
        install(role);
        drop(unfiltered);
        body()
    })
}

/// Waits until every thread that was announced has its filter.
pub(crate) fn wait_for_filters() {
    let mut count = count();
    while *count > 0 {
        count = FILTERED.wait(count).unwrap_or_else(PoisonError::into_inner);
    }
}

/// A number is right between any two statements.
fn count() -> MutexGuard<'static, usize> {
    UNFILTERED.lock().unwrap_or_else(PoisonError::into_inner)
}
