//! What was decided, for `policy.log` and for whoever looks at a terminal.
//!
//! A guest can have as many decisions made as it likes. Of equal ones within a minute one is told, of all of them so many
//! a second, and the rest is counted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sbx_net::{
    driver::Observer,
    event::{Event, Subject},
};
use serde::Serialize;

/// How long an equal decision is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// Different decisions that are remembered; when there are more, all are forgotten.
const MAX_REMEMBERED: usize = 4096;

/// Decisions that are told in a second, and that may be told at once.
const RATE_PER_SECOND: f64 = 50.0;
const BURST: f64 = 500.0;

/// A decision as a line of `policy.log`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// When, in UTC (RFC 3339).
    pub(crate) time: String,
    /// What the guest wanted, and what was decided.
    #[serde(flatten)]
    pub(crate) event: Event,
    /// Equal decisions before this one that were not told, or decisions of any kind if there were too many.
    pub(crate) repeated: u64,
}

impl Entry {
    /// What a terminal is told of a refusal, with what to do about it: one line.
    pub(crate) fn notice(&self) -> Option<String> {
        let decision = &self.event.decision;
        if !decision.is_refused() {
            return None;
        }
        let what = match &self.event.subject {
            Subject::Resolve { name } => name.to_string(),
            Subject::Answer { name, address } => format!("{name} at {address}"),
            Subject::Connect { address, name: Some(name), .. } => format!("{name}:{}", address.port()),
            Subject::Connect { address, name: None, .. } => address.to_string(),
            Subject::Echo { .. } => return None,
        };
        let advice = decision.advice().map(|advice| format!("; to allow it: {advice}")).unwrap_or_default();
        Some(format!("refused {what}: {decision}{advice}"))
    }
}

/// Hears of every decision in the thread of the network card, and passes on what is worth it.
pub(crate) struct Journal<T> {
    tell: T,
    /// By what was wanted and why it was decided so.
    remembered: HashMap<(Subject, String), Seen>,
    tokens: f64,
    refilled: Instant,
    untold: u64,
}

#[derive(Debug)]
struct Seen {
    told: Instant,
    since: u64,
}

impl<T: FnMut(Entry) + Send> Journal<T> {
    /// A journal that passes entries to `tell`.
    pub(crate) fn new(tell: T) -> Self {
        Self { tell, remembered: HashMap::new(), tokens: BURST, refilled: Instant::now(), untold: 0 }
    }

    /// How many equal ones came before this one and were not told; none if it is not to be told either.
    fn is_due(&mut self, now: Instant, event: &Event) -> Option<u64> {
        let key = (event.subject.clone(), event.decision.to_string());
        if let Some(seen) = self.remembered.get_mut(&key)
            && now.saturating_duration_since(seen.told) < QUIET
        {
            seen.since = seen.since.saturating_add(1);
            return None;
        }
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = passed.mul_add(RATE_PER_SECOND, self.tokens).min(BURST);
        self.refilled = now;
        if self.tokens < 1.0 {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.tokens -= 1.0;
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        let before = self.remembered.insert(key, Seen { told: now, since: 0 });
        let equal = before.map_or(0, |seen| seen.since);
        Some(equal.saturating_add(std::mem::take(&mut self.untold)))
    }
}

impl<T: FnMut(Entry) + Send> Observer for Journal<T> {
    fn observe(&mut self, event: Event) {
        if let Some(repeated) = self.is_due(Instant::now(), &event) {
            let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            (self.tell)(Entry { time, event, repeated });
        }
    }
}

#[cfg(test)]
mod tests {
    use sbx_net::{
        name::Name,
        policy::{Action, Policy},
    };

    use super::*;

    fn refused(host: &str) -> Event {
        let name = Name::new(host).unwrap();
        let decision = Policy::new(Action::Deny, Vec::new()).resolve(&name);
        Event { subject: Subject::Resolve { name }, decision }
    }

    #[test]
    fn equal_decisions_are_counted_for_a_minute() {
        let mut journal = Journal::new(|_| {});
        let start = Instant::now();
        assert_eq!(journal.is_due(start, &refused("a.example")), Some(0));
        assert_eq!(journal.is_due(start, &refused("a.example")), None);
        assert_eq!(journal.is_due(start, &refused("b.example")), Some(0));
        assert_eq!(journal.is_due(start + QUIET / 2, &refused("a.example")), None);
        assert_eq!(journal.is_due(start + QUIET, &refused("a.example")), Some(2));
    }

    #[test]
    fn a_flood_is_told_in_part_and_counted() {
        let mut journal = Journal::new(|_| {});
        let start = Instant::now();
        let flood = |number: usize| refused(&format!("x{number}.example"));
        let told = (0..10_000).filter(|number| journal.is_due(start, &flood(*number)).is_some()).count();
        assert!((500..520).contains(&told), "{told}");
        let later = journal.is_due(start + Duration::from_secs(1), &refused("y.example")).unwrap();
        assert_eq!(later, 10_000 - told as u64);
    }

    #[test]
    fn a_line_has_everything_and_a_notice_says_what_to_write() {
        let entry = Entry {
            time: "2026-11-25T00:00:00.000Z".to_owned(),
            event: refused("gist.github.com"),
            repeated: 0,
        };
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"time":"2026-11-25T00:00:00.000Z","kind":"resolve","name":"gist.github.com","verdict":"refuse","rule":null,"reason":"no rule allows this host","advice":"allow \"gist.github.com\"","repeated":0}"#
        );
        assert_eq!(
            entry.notice().unwrap(),
            "refused gist.github.com: no rule allows this host; to allow it: allow \"gist.github.com\""
        );
    }
}
