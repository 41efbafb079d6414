//! Datagrams between the guest and others: who has sent to whom lately.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use slotmap::SlotMap;

use crate::flow::{ExchangeId, Key};
use crate::name::Name;

/// Places that the guest may exchange datagrams with at a time; of more, the ones that were quiet for longest are forgotten.
const MAX_EXCHANGES: usize = 1024;

/// How long an answer may take (RFC 4787, 4.3: not less than two minutes).
const QUIET: Duration = Duration::from_secs(120);

/// Datagrams between a port of the guest and a place.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) key: Key,
    /// The names that stood for the address when it began.
    pub(crate) names: Vec<Name>,
    last: Instant,
}

/// All exchanges of datagrams.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    exchanges: SlotMap<ExchangeId, Exchange>,
    by_key: HashMap<Key, ExchangeId>,
    /// Nothing runs out before.
    deadline: Option<Instant>,
}

impl Datagrams {
    /// The exchange of `key`, which is used now.
    pub(crate) fn used(&mut self, now: Instant, key: &Key) -> Option<ExchangeId> {
        let id = *self.by_key.get(key)?;
        self.exchanges.get_mut(id)?.last = now;
        Some(id)
    }

    /// Begins an exchange. The second is one that had to make room.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        key: Key,
        names: Vec<Name>,
    ) -> (ExchangeId, Option<ExchangeId>) {
        let quietest = || self.exchanges.iter().min_by_key(|(_, exchange)| exchange.last).map(|(id, _)| id);
        let forgotten = if self.exchanges.len() < MAX_EXCHANGES { None } else { quietest() };
        if let Some(id) = forgotten {
            self.end(id);
        }
        let id = self.exchanges.insert(Exchange { key, names, last: now });
        self.by_key.insert(key, id);
        if self.deadline.is_none() {
            self.deadline = now.checked_add(QUIET);
        }
        (id, forgotten)
    }

    /// An exchange, to which something has come now.
    pub(crate) fn answered(&mut self, now: Instant, id: ExchangeId) -> Option<&Exchange> {
        let exchange = self.exchanges.get_mut(id)?;
        exchange.last = now;
        Some(exchange)
    }

    /// All exchanges.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ExchangeId, &Exchange)> {
        self.exchanges.iter()
    }

    /// Forgets an exchange.
    pub(crate) fn end(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.exchanges.remove(id) {
            self.by_key.remove(&exchange.key);
        }
    }

    /// Forgets all, and says which there were.
    pub(crate) fn clear(&mut self) -> Vec<ExchangeId> {
        self.by_key.clear();
        self.deadline = None;
        self.exchanges.drain().map(|(id, _)| id).collect()
    }

    /// When to look for exchanges that have run out.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Forgets what has run out, and says which.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<ExchangeId> {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let is_over = |exchange: &Exchange| now.saturating_duration_since(exchange.last) >= QUIET;
        let over: Vec<ExchangeId> =
            self.exchanges.iter().filter(|(_, exchange)| is_over(exchange)).map(|(id, _)| id).collect();
        for id in &over {
            self.end(*id);
        }
        let oldest = self.exchanges.values().map(|exchange| exchange.last).min();
        self.deadline = oldest.and_then(|oldest| oldest.checked_add(QUIET));
        over
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn key(guest: u16) -> Key {
        Key { guest, remote: SocketAddr::from(([203, 0, 113, 1], 53)) }
    }

    #[test]
    fn an_exchange_ends_when_it_was_quiet() {
        let start = Instant::now();
        let mut datagrams = Datagrams::default();
        let (id, _) = datagrams.begin(start, key(1), Vec::new());
        let later = start + QUIET / 2;
        assert_eq!(datagrams.used(later, &key(1)), Some(id));
        assert!(datagrams.expire(start + QUIET).is_empty());
        assert_eq!(datagrams.deadline(), Some(later + QUIET));
        assert_eq!(datagrams.expire(later + QUIET), [id]);
        assert_eq!((datagrams.deadline(), datagrams.used(later, &key(1))), (None, None));
    }

    #[test]
    fn the_quietest_makes_room() {
        let start = Instant::now();
        let mut datagrams = Datagrams::default();
        let first = datagrams.begin(start, key(0), Vec::new()).0;
        for port in 1..1024 {
            assert_eq!(datagrams.begin(start + QUIET / 4, key(port), Vec::new()).1, None);
        }
        assert_eq!(datagrams.begin(start + QUIET / 2, key(2000), Vec::new()).1, Some(first));
    }
}
