//! Standard input, as fast as the command reads it.

use std::{
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use sbx_proto::{AgentRequest, MAX_CHUNK_BYTES, STDIN_WINDOW_BYTES};

use super::Agent;

/// How many bytes of stdin the guest still takes.
#[derive(Debug)]
pub(super) struct Window {
    /// None once the command closed its stdin.
    left: Mutex<Option<u64>>,
    grown: Condvar,
}

impl Window {
    /// As large as the protocol says that it is at the beginning.
    pub(super) fn new() -> Self {
        Self { left: Mutex::new(Some(u64::from(STDIN_WINDOW_BYTES))), grown: Condvar::new() }
    }

    /// The guest takes `bytes` more.
    pub(super) fn grow(&self, bytes: u32) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.map(|left| left.saturating_add(u64::from(bytes)));
        self.grown.notify_all();
    }

    /// The guest takes nothing any more.
    pub(super) fn close(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.grown.notify_all();
    }

    /// Waits until there is room, and says how much; none if there never will be.
    fn wait(&self) -> Option<usize> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *left {
                None => return None,
                Some(0) => left = self.grown.wait(left).unwrap_or_else(PoisonError::into_inner),
                Some(bytes) => {
                    return Some(usize::try_from(bytes).unwrap_or(usize::MAX).min(MAX_CHUNK_BYTES));
                }
            }
        }
    }

    fn shrink(&self, bytes: usize) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.map(|left| left.saturating_sub(bytes as u64));
    }
}

/// Forwards stdin on a thread of its own, which ends with the process: a blocked read cannot be called back.
pub(super) fn forward(agent: Agent, window: Arc<Window>) {
    let body = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0_u8; MAX_CHUNK_BYTES];
        while let Some(room) = window.wait() {
            match stdin.read(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(0) => {
                    agent.send(&AgentRequest::StdinEnd);
                    return;
                }
                Ok(count) => {
                    window.shrink(count);
                    agent.send(&AgentRequest::Stdin(buffer.get(..count).unwrap_or_default().to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal that hung up, or a stdin that was never open.
                Err(_) => {
                    agent.send(&AgentRequest::StdinEnd);
                    return;
                }
            }
        }
    };
    // Without a thread the command still runs, with a stdin that never says anything.
    let _ = thread::Builder::new().name("stdin".to_owned()).spawn(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shrinks_grows_and_closes() {
        let window = Window::new();
        assert_eq!(window.wait(), Some(MAX_CHUNK_BYTES));
        window.shrink(STDIN_WINDOW_BYTES as usize);
        window.grow(10);
        assert_eq!(window.wait(), Some(10));
        window.close();
        assert_eq!(window.wait(), None);
        window.grow(10);
        assert_eq!(window.wait(), None);
    }
}
