//! Datagrams, to name servers of the gateway's own and to others by rule.

use std::net::SocketAddr;
use std::time::Instant;

use super::Gateway;
use super::tcp::DNS_PORT;
use crate::action::Action;
use crate::event::Subject;
use crate::flow::{ExchangeId, Key};
use crate::icmp::Unreachable;
use crate::name::Name;
use crate::packet::{Checksum, Packet, emit_udp};
use crate::policy::{self, Claim, Decision, Policy, Protocol};

impl Gateway {
    /// A UDP packet of the guest.
    pub(super) fn handle_datagram_of_guest(&mut self, now: Instant, packet: &Packet<'_>, checksum: Checksum) {
        let Some((source, destination, data)) = packet.udp(checksum) else { return };
        let key = Key { guest: source, remote: SocketAddr::new(packet.destination, destination) };
        if self.settings.link.is_gateway(packet.destination) {
            if destination == DNS_PORT {
                self.handle_query(now, key, data);
            } else {
                self.unreachable(packet, Unreachable::Port);
            }
            return;
        }
        let exchange = match self.datagrams.used(now, &key) {
            Some(exchange) => exchange,
            None => match self.begin_exchange(now, key) {
                Some(exchange) => exchange,
                None => return self.unreachable(packet, Unreachable::Prohibited),
            },
        };
        self.actions.push_back(Action::Datagram { exchange, address: key.remote, data: data.to_vec() });
    }

    fn begin_exchange(&mut self, now: Instant, key: Key) -> Option<ExchangeId> {
        let names = self.pins.names_of(key.remote.ip(), now);
        let decision = datagram_decision(&self.policy, key.remote, &names);
        let refused = !decision.is_allowed() || key.remote.port() == 0;
        self.report(subject(key.remote, names.first().cloned()), decision);
        if refused {
            return None;
        }
        let (exchange, forgotten) = self.datagrams.begin(now, key, names);
        if let Some(forgotten) = forgotten {
            self.actions.push_back(Action::EndExchange(forgotten));
        }
        Some(exchange)
    }

    /// A datagram came for `exchange`.
    pub fn handle_datagram(&mut self, now: Instant, exchange: ExchangeId, data: &[u8]) {
        let Some(exchange) = self.datagrams.answered(now, exchange) else { return };
        let key = exchange.key;
        self.send_datagram(key, data);
    }

    /// Sends a datagram to the guest, from the place that `key` names.
    pub(super) fn send_datagram(&mut self, key: Key, data: &[u8]) {
        let link = self.settings.link;
        let guest = SocketAddr::new(link.guest_like(key.remote.ip()), key.guest);
        let mut frame = self.frames.blank();
        if emit_udp(&link, &mut frame, key.remote, guest, data) {
            self.frames.push(frame);
        } else {
            self.frames.discard(frame);
        }
    }

    /// Ends what other rules do not allow.
    pub(super) fn recheck_datagrams(&mut self, _now: Instant) {
        let refused: Vec<(ExchangeId, SocketAddr, Option<Name>, Decision)> = self
            .datagrams
            .iter()
            .filter_map(|(id, exchange)| {
                let decision = datagram_decision(&self.policy, exchange.key.remote, &exchange.names);
                let name = exchange.names.first().cloned();
                (!decision.is_allowed()).then_some((id, exchange.key.remote, name, decision))
            })
            .collect();
        for (exchange, remote, name, decision) in refused {
            self.datagrams.end(exchange);
            self.actions.push_back(Action::EndExchange(exchange));
            self.report(subject(remote, name), decision);
        }
    }
}

fn datagram_decision(policy: &Policy, remote: SocketAddr, names: &[Name]) -> Decision {
    policy.connect(&policy::Flow {
        protocol: Protocol::Udp,
        address: remote.ip(),
        port: remote.port(),
        names,
        claim: Claim::Unknown,
    })
}

fn subject(address: SocketAddr, name: Option<Name>) -> Subject {
    Subject::Connect { protocol: Protocol::Udp, address, name }
}
