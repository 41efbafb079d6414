//! Who decides when a sandbox starts, stays and stops: pure rules, no threads and no sockets.
//!
//! Everything that happens becomes an [`Event`]; [`Owner::handle`] answers with the [`Action`]s that the process then
//! carries out, in order.

use super::state::Phase;

/// Milliseconds between SIGTERM and SIGKILL when nobody says otherwise, as for `docker stop`.
pub(crate) const GRACE_MILLISECONDS: u32 = 10_000;

/// Something happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// The agent answers.
    GuestReady,
    /// The guest says that it cannot go on; it powers itself off.
    GuestFailed,
    /// A command wants the sandbox up.
    LeaseTaken,
    /// That command ended.
    LeaseLost,
    /// Stay up without leases.
    Linger,
    /// Somebody wants the sandbox down.
    StopAsked {
        /// Milliseconds between SIGTERM and SIGKILL in the guest.
        grace_milliseconds: u32,
    },
    /// The guest had its time to power off.
    GraceOver,
    /// The engine ended.
    MachineEnded,
}

/// Something to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Write the new phase down.
    Record(Phase),
    /// Tell the command that started us.
    AnnounceReady,
    /// Ask the guest to power off, and come back with `GraceOver` if it does not.
    PowerOff {
        /// Milliseconds between SIGTERM and SIGKILL in the guest.
        grace_milliseconds: u32,
    },
    /// End the engine.
    Kill,
    /// Write down how it ended, and end the process.
    Finish,
}

/// The owner of a sandbox's life.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    phase: Phase,
    leases: usize,
    linger: bool,
    grace_milliseconds: u32,
}

impl Owner {
    /// Of a machine that boots. The command that started it has the first lease; when the last one is lost, processes in the
    /// guest get so much time.
    pub(crate) fn new(linger: bool, grace_milliseconds: u32) -> Self {
        Self { phase: Phase::Starting, leases: 1, linger, grace_milliseconds }
    }

    /// Where the sandbox is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a new lease would keep the sandbox up.
    pub(crate) fn grants_leases(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// What to do about `event`.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::LeaseTaken => {
                self.leases = self.leases.saturating_add(1);
                Vec::new()
            }
            Event::LeaseLost => {
                self.leases = self.leases.saturating_sub(1);
                self.stop_if_unwanted()
            }
            Event::Linger => {
                self.linger = true;
                Vec::new()
            }
            Event::GuestReady if self.phase == Phase::Starting => {
                self.phase = Phase::Running;
                let mut actions = vec![Action::Record(Phase::Running), Action::AnnounceReady];
                actions.extend(self.stop_if_unwanted());
                actions
            }
            Event::GuestFailed if self.grants_leases() => {
                self.phase = Phase::Stopping;
                // It powers off by itself; a guest that only says so is ended.
                vec![Action::PowerOff { grace_milliseconds: 0 }]
            }
            Event::StopAsked { grace_milliseconds } => self.stop(grace_milliseconds),
            Event::GraceOver if self.phase == Phase::Stopping => vec![Action::Kill],
            Event::MachineEnded if self.phase != Phase::Stopped => {
                self.phase = Phase::Stopped;
                vec![Action::Finish]
            }
            Event::GuestReady | Event::GuestFailed | Event::GraceOver | Event::MachineEnded => Vec::new(),
        }
    }

    fn stop_if_unwanted(&mut self) -> Vec<Action> {
        if self.leases == 0 && !self.linger { self.stop(self.grace_milliseconds) } else { Vec::new() }
    }

    fn stop(&mut self, grace_milliseconds: u32) -> Vec<Action> {
        match self.phase {
            // Nobody in the guest listens yet, and nothing in it can be lost.
            Phase::Starting => {
                self.phase = Phase::Stopping;
                vec![Action::Record(Phase::Stopping), Action::Kill]
            }
            Phase::Running => {
                self.phase = Phase::Stopping;
                vec![Action::Record(Phase::Stopping), Action::PowerOff { grace_milliseconds }]
            }
            Phase::Stopping | Phase::Stopped | Phase::Died => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(linger: bool) -> Owner {
        let mut owner = Owner::new(linger, GRACE_MILLISECONDS);
        assert_eq!(owner.handle(Event::GuestReady), [Action::Record(Phase::Running), Action::AnnounceReady]);
        owner
    }

    #[test]
    fn the_last_lease_takes_the_sandbox_down() {
        let mut owner = running(false);
        assert!(owner.handle(Event::LeaseTaken).is_empty());
        assert!(owner.handle(Event::LeaseLost).is_empty());
        assert_eq!(
            owner.handle(Event::LeaseLost),
            [Action::Record(Phase::Stopping), Action::PowerOff { grace_milliseconds: GRACE_MILLISECONDS }]
        );
        assert!(!owner.grants_leases());
        assert_eq!(owner.handle(Event::MachineEnded), [Action::Finish]);
    }

    #[test]
    fn a_lingering_sandbox_stays() {
        let mut owner = running(true);
        assert!(owner.handle(Event::LeaseLost).is_empty());
        assert_eq!(owner.phase(), Phase::Running);

        let mut owner = running(false);
        assert!(owner.handle(Event::Linger).is_empty());
        assert!(owner.handle(Event::LeaseLost).is_empty());
    }

    #[test]
    fn a_starter_that_goes_away_ends_the_boot() {
        let mut owner = Owner::new(false, GRACE_MILLISECONDS);
        assert_eq!(owner.handle(Event::LeaseLost), [Action::Record(Phase::Stopping), Action::Kill]);
        assert!(owner.handle(Event::GuestReady).is_empty());
    }

    #[test]
    fn a_guest_that_does_not_power_off_is_killed_once_asked() {
        let mut owner = running(true);
        assert_eq!(
            owner.handle(Event::StopAsked { grace_milliseconds: 5 }),
            [Action::Record(Phase::Stopping), Action::PowerOff { grace_milliseconds: 5 }]
        );
        assert!(owner.handle(Event::StopAsked { grace_milliseconds: 5 }).is_empty());
        assert_eq!(owner.handle(Event::GraceOver), [Action::Kill]);
        assert_eq!(owner.handle(Event::MachineEnded), [Action::Finish]);
        assert!(owner.handle(Event::MachineEnded).is_empty());
    }
}
