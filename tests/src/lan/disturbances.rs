//! Files that do not arrive whole.

use std::{
    collections::HashMap,
    io,
    sync::{Condvar, Mutex},
    time::Duration,
};

use super::protocol::Disturbance;

/// How long a test waits for a request. Not a time that anything is meant to take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be disturbed, and what was.
#[derive(Debug, Default)]
pub(super) struct Disturbances {
    state: Mutex<State>,
    disturbed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The end of a path, and what becomes of it.
    rule: Option<(String, Disturbance)>,
    /// Disturbed answers that nobody has waited for yet.
    seen: usize,
    /// How often each path was asked for.
    served: HashMap<String, usize>,
}

impl Disturbances {
    /// Disturbs answers about paths with this end, and no others.
    pub(super) fn set(&self, rule: Option<(String, Disturbance)>) {
        let mut state = self.state.lock().unwrap();
        state.rule = rule;
        state.seen = 0;
    }

    /// What is to become of the answer about `path`.
    pub(super) fn of(&self, path: &str) -> Option<Disturbance> {
        let mut state = self.state.lock().unwrap();
        *state.served.entry(path.to_owned()).or_default() += 1;
        let (end, disturbance) = state.rule.as_ref()?;
        path.ends_with(end.as_str()).then_some(*disturbance)
    }

    /// An answer was disturbed.
    pub(super) fn tell(&self) {
        self.state.lock().unwrap().seen += 1;
        self.disturbed.notify_all();
    }

    /// Waits for the next disturbed answer.
    pub(super) fn wait(&self) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let (mut state, patience) =
            self.disturbed.wait_timeout_while(state, PATIENCE, |state| state.seen == 0).unwrap();
        if patience.timed_out() {
            return Err(io::Error::other(format!("nobody asked; asked for was {:?}", state.served)));
        }
        state.seen -= 1;
        Ok(())
    }

    /// How often paths with this end were asked for.
    pub(super) fn served(&self, end: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.served.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, count)| count).sum()
    }
}
