//! What names were resolved to, for as long as it may be believed.
//!
//! ```text
//! name ──▶ addresses with their expiry        (what was answered)
//! address ──▶ names                           (what a flow to it is judged by)
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::name::Name;

/// Most names; the one that was answered least recently goes first. Far more than programs use, a megabyte or so.
const MAX_NAMES: usize = 4096;

/// Most addresses of a name. Answers of more are rare, and do not fit into 512 bytes.
const MAX_ADDRESSES: usize = 32;

/// Most names of an address. Hosts of many names share addresses, but a sandbox speaks to few of them.
const MAX_NAMES_OF_ADDRESS: usize = 64;

/// Shortest time to live that the guest is told, so that it does not ask all the time.
const MIN_TTL: Duration = Duration::from_secs(30);

/// Longest time to live that the guest is told, so that a change arrives.
const MAX_TTL: Duration = Duration::from_secs(60 * 60);

/// For how much longer an answer counts: programs connect to what they resolved a moment ago.
const GRACE: Duration = Duration::from_secs(60);

/// The answers that count.
#[derive(Debug, Default)]
pub struct Pins {
    names: HashMap<Name, Answered>,
    addresses: HashMap<IpAddr, VecDeque<Name>>,
    /// By the turn in which it was answered, the oldest first.
    turns: BTreeMap<u64, Name>,
    next_turn: u64,
}

#[derive(Debug, Default)]
struct Answered {
    turn: Option<u64>,
    /// In the order in which they were answered first.
    addresses: VecDeque<(IpAddr, Instant)>,
}

/// The time to live that the guest is told for this one.
#[must_use]
pub fn clamp(ttl: Duration) -> Duration {
    ttl.clamp(MIN_TTL, MAX_TTL)
}

impl Pins {
    /// Notes that this name was answered with this address, and gives the time to live that the guest is to be told.
    pub fn insert(&mut self, name: &Name, address: IpAddr, ttl: Duration, now: Instant) -> Duration {
        let address = address.to_canonical();
        let ttl = clamp(ttl);
        let until = now.checked_add(ttl.saturating_add(GRACE)).unwrap_or(now);
        self.turn(name);
        let Some(answered) = self.names.get_mut(name) else {
            return ttl;
        };
        if let Some((_, known)) = answered.addresses.iter_mut().find(|(known, _)| *known == address) {
            *known = until.max(*known);
            return ttl;
        }
        answered.addresses.push_back((address, until));
        if answered.addresses.len() > MAX_ADDRESSES
            && let Some((oldest, _)) = answered.addresses.pop_front()
        {
            self.forget(oldest, name);
        }
        let names = self.addresses.entry(address).or_default();
        names.push_back(name.clone());
        if names.len() > MAX_NAMES_OF_ADDRESS
            && let Some(oldest) = names.pop_front()
            && let Some(answered) = self.names.get_mut(&oldest)
        {
            answered.addresses.retain(|(known, _)| *known != address);
        }
        ttl
    }

    /// The names that count for this address, in the order in which they were answered first.
    #[must_use]
    pub fn names_of(&self, address: IpAddr, now: Instant) -> Vec<Name> {
        let address = address.to_canonical();
        let counts = |name: &&Name| {
            self.names.get(*name).is_some_and(|answered| {
                answered.addresses.iter().any(|(known, until)| *known == address && *until >= now)
            })
        };
        self.addresses.get(&address).into_iter().flatten().filter(counts).cloned().collect()
    }

    /// The addresses that count for this name.
    #[must_use]
    pub fn addresses_of(&self, name: &Name, now: Instant) -> Vec<IpAddr> {
        let answered = self.names.get(name).into_iter().flat_map(|answered| &answered.addresses);
        answered.filter(|(_, until)| *until >= now).map(|(address, _)| *address).collect()
    }

    /// Makes this name the one that was answered last, and room for it.
    fn turn(&mut self, name: &Name) {
        let turn = self.next_turn;
        self.next_turn = turn.wrapping_add(1);
        let answered = self.names.entry(name.clone()).or_default();
        if let Some(previous) = answered.turn.replace(turn) {
            self.turns.remove(&previous);
        }
        self.turns.insert(turn, name.clone());
        if self.names.len() > MAX_NAMES
            && let Some((_, oldest)) = self.turns.pop_first()
            && let Some(answered) = self.names.remove(&oldest)
        {
            for (address, _) in answered.addresses {
                self.forget(address, &oldest);
            }
        }
    }

    /// Takes a name from those of an address.
    fn forget(&mut self, address: IpAddr, name: &Name) {
        if let Some(names) = self.addresses.get_mut(&address) {
            names.retain(|known| known != name);
            if names.is_empty() {
                self.addresses.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn an_answer_counts_for_its_time_and_a_minute() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        let address = IpAddr::from([1, 2, 3, 4]);
        for (ttl, told) in [(0, 30), (100, 100), (1_000_000, 3600)] {
            let name = name(&format!("ttl{ttl}.com"));
            let given = pins.insert(&name, address, Duration::from_secs(ttl), now);
            assert_eq!(given, Duration::from_secs(told));
            assert_eq!(pins.addresses_of(&name, after(told + 60)), [address]);
            assert_eq!(pins.addresses_of(&name, after(told + 61)), [] as [IpAddr; 0]);
        }
        assert_eq!(pins.names_of("::ffff:1.2.3.4".parse().unwrap(), after(90)).len(), 3);
        assert_eq!(pins.names_of(address, after(91)), [name("ttl100.com"), name("ttl1000000.com")]);
        // A shorter answer takes nothing back, a new one prolongs.
        pins.insert(&name("ttl100.com"), address, Duration::from_secs(0), now);
        assert_eq!(pins.addresses_of(&name("ttl100.com"), after(160)), [address]);
        pins.insert(&name("ttl100.com"), address, Duration::from_secs(0), after(150));
        assert_eq!(pins.addresses_of(&name("ttl100.com"), after(240)), [address]);
    }

    #[test]
    fn names_and_addresses_are_bounded_and_the_oldest_goes() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        let ttl = Duration::from_secs(60);
        for n in 0..=MAX_NAMES {
            // The first is answered again and again.
            pins.insert(&name("kept.com"), [9, 9, 9, 9].into(), ttl, now);
            pins.insert(
                &name(&format!("n{n}.com")),
                IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()),
                ttl,
                now,
            );
        }
        assert_eq!(pins.names.len(), MAX_NAMES);
        assert_eq!(pins.turns.len(), MAX_NAMES);
        assert_eq!(pins.addresses.len(), MAX_NAMES);
        assert_eq!(pins.names_of([9, 9, 9, 9].into(), now), [name("kept.com")]);
        assert_eq!(pins.names_of([0, 0, 0, 0].into(), now), []);
        for n in 0..100_u8 {
            pins.insert(&name("many.com"), [8, 8, 8, n].into(), ttl, now);
            pins.insert(&name(&format!("n{n}.org")), [7, 7, 7, 7].into(), ttl, now);
        }
        let addresses = pins.addresses_of(&name("many.com"), now);
        assert_eq!((addresses.len(), addresses[0]), (MAX_ADDRESSES, [8, 8, 8, 68].into()));
        assert_eq!(pins.names_of([8, 8, 8, 67].into(), now), []);
        let names = pins.names_of([7, 7, 7, 7].into(), now);
        assert_eq!((names.len(), &names[0]), (MAX_NAMES_OF_ADDRESS, &name("n36.org")));
        assert_eq!(pins.addresses_of(&name("n35.org"), now), [] as [IpAddr; 0]);
    }
}
