//! What changed from one lock to the next, for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    model::{Lock, LockedMachine},
    thing::Statement,
};
use crate::types::shorten;

/// Digits of a hash that are shown.
const SHOWN_DIGITS: usize = 12;

/// One thing that is not as it was. Displays as `git 1:2.39 → 1:2.40`, `+ ripgrep 14.1` or `- jq`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// In the machine of which profile, if of one.
    pub profile: Option<String>,
    /// What the line begins with: `image`, `apt`, `agent` and so on.
    pub kind: &'static str,
    /// Of what: the name of a package, the command of a setup.
    pub name: String,
    /// For whom, if not for the whole machine.
    pub owner: Option<String>,
    /// What it was, none if it was not there: a version, or a hash where that says more.
    pub old: Option<String>,
    /// What it is now, none if it is gone.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(formatter, "{name} {old} → {new}")?,
            (None, Some(new)) => write!(formatter, "+ {name} {new}")?,
            (Some(old), None) => write!(formatter, "- {name} {old}")?,
            (None, None) => write!(formatter, "{name}")?,
        }
        if let Some(owner) = &self.owner {
            write!(formatter, "  for {owner}")?;
        }
        match &self.profile {
            Some(profile) => write!(formatter, "  in profile {profile}"),
            None => Ok(()),
        }
    }
}

/// Everything that is pinned in `new` otherwise than in `old`, in the order of a lock.
#[must_use]
pub fn difference(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut changes = compare(None, &old.base, &new.base);
    let nothing = LockedMachine::default();
    let names: std::collections::BTreeSet<_> = old.profiles.keys().chain(new.profiles.keys()).collect();
    for name in names {
        let machine = |lock: &'_ Lock| lock.profiles.get(name).cloned();
        let (before, after) = (machine(old), machine(new));
        let (before, after) = (before.as_ref().unwrap_or(&nothing), after.as_ref().unwrap_or(&nothing));
        changes.extend(compare(Some(name), before, after));
    }
    changes
}

/// What is pinned, by what a change is about. A name can stand for several: two versions of a crate in one tool.
type Pinned = BTreeMap<(usize, Option<String>, String), (&'static str, Vec<State>)>;

/// What a thing is pinned to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    /// The first is shown; the others where the ones before are the same.
    values: Vec<String>,
}

fn compare(profile: Option<&str>, old: &LockedMachine, new: &LockedMachine) -> Vec<Change> {
    let (before, after) = (pinned(old), pinned(new));
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (_, owner, name) = key;
        let kind = before.get(key).or_else(|| after.get(key)).map_or("", |(kind, _)| *kind);
        let states = |pinned: &Pinned| pinned.get(key).map(|(_, states)| states.clone()).unwrap_or_default();
        let (olds, news) = (states(&before), states(&after));
        let gone: Vec<_> = olds.iter().filter(|state| !news.contains(state)).collect();
        let come: Vec<_> = news.iter().filter(|state| !olds.contains(state)).collect();
        let mut add = |old: Option<String>, new: Option<String>| {
            let profile = profile.map(str::to_owned);
            changes.push(Change { profile, kind, name: name.clone(), owner: owner.clone(), old, new });
        };
        if let ([old], [new]) = (gone.as_slice(), come.as_slice()) {
            let differing = old.values.iter().zip(&new.values).find(|(old, new)| old != new);
            let (old, new) = differing.map(|(old, new)| (short(old), short(new))).unzip();
            add(old, new);
            continue;
        }
        let shown = |state: &State| state.values.first().map(|value| short(value)).unwrap_or_default();
        for state in gone {
            add(Some(shown(state)), None);
        }
        for state in come {
            add(None, Some(shown(state)));
        }
    }
    changes
}

/// What a machine pins, without what was asked for: that is in the manifest.
fn pinned(machine: &LockedMachine) -> Pinned {
    let mut pinned = Pinned::new();
    let current = machine.snapshot().cloned();
    for statement in machine.statements() {
        let (order, kind, owner, name, values) = match statement {
            Statement::Image(image) => {
                (0, "image", None, image.reference, vec![image.digest, image.platform])
            }
            Statement::Kernel(hash) => (1, "kernel", None, "kernel".to_owned(), vec![hash]),
            Statement::Guest(hash) => (2, "guest", None, "guest".to_owned(), vec![hash]),
            Statement::Agent(agent) => (3, "agent", None, agent.name, vec![agent.version, agent.definition]),
            Statement::Pin(pin) => {
                let name = pin.name.strip_prefix("node_modules/").unwrap_or(&pin.name).to_owned();
                let mut values = vec![pin.version, pin.hash];
                values.extend(pin.architecture);
                values.extend(pin.url);
                (4, pin.manager.as_str(), pin.owner, name, values)
            }
            Statement::Setup(setup) => (5, "setup", None, shorten(&setup.command), vec![setup.inputs]),
            Statement::Snapshot(snapshot) if Some(&snapshot) == current.as_ref() => {
                (6, "snapshot", None, "snapshot".to_owned(), vec![snapshot.digest])
            }
            Statement::Snapshot(_) | Statement::Request(_) => continue,
        };
        let (_, states) = pinned.entry((order, owner, name)).or_insert_with(|| (kind, Vec::new()));
        states.push(State { values });
    }
    pinned
}

/// A hash so that two can be told apart; a version as it is.
fn short(value: &str) -> String {
    let is_hash = |digits: &str| digits.len() >= 64 && !digits.contains('.');
    let (prefix, digits) = match value.split_once([':', '-']) {
        Some((algorithm @ ("sha256" | "sha512" | "blake3"), digits)) => {
            (value.get(..=algorithm.len()).unwrap_or_default(), digits)
        }
        _ => ("", value),
    };
    if !is_hash(digits) {
        return value.to_owned();
    }
    format!("{prefix}{}…", digits.chars().take(SHOWN_DIGITS).collect::<String>())
}
