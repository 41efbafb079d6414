//! The rules, to be found by name without looking at each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::{AddressKind, embedded};
use super::rule::{Action, Origin, Rule, Target};
use crate::name::Name;

/// A rule, with its origin to be handed out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) rule: Rule,
    pub(super) origin: Arc<Origin>,
}

/// All rules, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// By the name of an exact rule.
    exact: HashMap<Name, Vec<usize>>,
    /// By what follows `*.` or `**.`.
    below: HashMap<Name, Vec<usize>>,
    /// Rules about addresses.
    networks: Vec<usize>,
    /// Whether some name is denied.
    denies_names: bool,
}

impl Index {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.into_iter().enumerate() {
            match &rule.target {
                Target::Exact(name) => index.exact.entry(name.clone()).or_default().push(at),
                Target::OneLabel(suffix) | Target::AnyDepth(suffix) => {
                    index.below.entry(suffix.clone()).or_default().push(at);
                }
                Target::Network { .. } => index.networks.push(at),
            }
            index.denies_names |=
                rule.action == Action::Deny && !matches!(rule.target, Target::Network { .. });
            let origin = Arc::new(rule.origin.clone());
            index.entries.push(Entry { rule, origin });
        }
        index
    }

    /// Whether some rule denies a name.
    pub(super) const fn denies_names(&self) -> bool {
        self.denies_names
    }

    /// The first rule about this name that does this and is `wanted`.
    pub(super) fn by_name(
        &self,
        action: Action,
        name: &Name,
        wanted: impl Fn(&Rule) -> bool,
    ) -> Option<&Entry> {
        let exact = self.exact.get(name).into_iter().flatten();
        let below = name.suffixes().enumerate().flat_map(|(labels, suffix)| {
            let rules = self.below.get(suffix).into_iter().flatten();
            rules.filter(move |at| {
                let one_label = |entry: &Entry| matches!(entry.rule.target, Target::OneLabel(_));
                labels == 0 || !self.entries.get(**at).is_some_and(one_label)
            })
        });
        self.first(exact.chain(below), |rule| rule.action == action && wanted(rule))
    }

    /// The first rule that denies this address, or the one to which a translator brings what is sent to it.
    pub(super) fn denies_address(&self, address: IpAddr, wanted: impl Fn(&Rule) -> bool) -> Option<&Entry> {
        let behind = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        self.first(self.networks.iter(), |rule| {
            rule.action == Action::Deny
                && (rule.target.covers(address) || behind.is_some_and(|behind| rule.target.covers(behind)))
                && wanted(rule)
        })
    }

    /// The first rule that allows this address. A special one must be meant: 0.0.0.0/0 does not say 10.0.0.1, and
    /// 169.254.0.0/16 not the metadata service.
    pub(super) fn allows_address(&self, address: IpAddr, wanted: impl Fn(&Rule) -> bool) -> Option<&Entry> {
        let kind = AddressKind::of(address);
        let means = |target: &Target| match target {
            Target::Network { address, .. } => {
                kind == AddressKind::Public || AddressKind::of(*address) == kind
            }
            _ => false,
        };
        self.first(self.networks.iter(), |rule| {
            rule.action == Action::Allow && rule.target.covers(address) && means(&rule.target) && wanted(rule)
        })
    }

    /// The first in the order of the file among those that are `wanted`.
    fn first<'i>(
        &'i self,
        candidates: impl Iterator<Item = &'i usize>,
        wanted: impl Fn(&Rule) -> bool,
    ) -> Option<&'i Entry> {
        let is_wanted = |at: &&usize| self.entries.get(**at).is_some_and(|entry| wanted(&entry.rule));
        candidates.filter(is_wanted).min().and_then(|at| self.entries.get(*at))
    }
}
