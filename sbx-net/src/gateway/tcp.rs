//! Connections: begun, refused, ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::Gateway;
use crate::action::{Action, ConnectFailure};
use crate::event::Subject;
use crate::flow::{Flow, FlowId, Inspection, Key, Peer, Stage};
use crate::icmp::Unreachable;
use crate::name::Name;
use crate::packet::{self, Checksum, Packet};
use crate::policy::{self, Claim, Decision, Policy, Protocol, Verdict};
use crate::proxy::Refusal;
use crate::tcp::TcpSocket;

/// Ports from which published connections come to the guest (RFC 6335, 6: dynamic ports).
pub(super) const FIRST_EPHEMERAL: u16 = 49152;

/// Connections that the host may be making at a time. A guest that asks for more has its requests dropped, as by any busy router,
/// and asks again.
const MAX_CONNECTING: usize = 512;

/// Connections in all; with the smallest buffers they take less memory than [`Budget`](crate::tcp::Budget) has.
const MAX_FLOWS: usize = 12_000;

/// Port of name servers (RFC 1035, 4.2).
pub(super) const DNS_PORT: u16 = 53;

impl Gateway {
    /// A TCP segment of the guest.
    pub(super) fn handle_segment(&mut self, now: Instant, packet: &Packet<'_>, checksum: Checksum) {
        let Some(segment) = packet.tcp(checksum) else { return };
        let remote = SocketAddr::new(packet.destination, segment.destination);
        let key = Key { guest: segment.source, remote };
        let time = self.stack_time(now);
        let Some(id) = self.by_key.get(&key).copied() else {
            if segment.opens {
                self.open(now, key, packet);
            } else {
                self.stack.refuse(time, &self.settings.link, &mut self.frames, packet.whole);
            }
            return;
        };
        // While the host connects, the guest can only ask again.
        if let Some(socket) = self.flows.get_mut(id).and_then(Flow::socket) {
            self.stack.receive(time, &self.settings.link, &mut self.frames, packet.whole, socket);
            socket.has_time();
            self.queue(id);
        }
    }

    /// The guest's first segment of a connection.
    fn open(&mut self, now: Instant, key: Key, packet: &Packet<'_>) {
        let link = self.settings.link;
        if self.flows.len() >= MAX_FLOWS || self.connecting >= MAX_CONNECTING || key.remote.port() == 0 {
            return;
        }
        if link.is_gateway(key.remote.ip()) {
            if key.remote.port() == DNS_PORT {
                return self.open_names(now, key, packet);
            }
            if self.settings.host_services.contains(&key.remote.port()) {
                let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), key.remote.port());
                return self.connect(Flow::new(key, Peer::HostService, connecting(packet)), address, None);
            }
        }
        let names = self.pins.names_of(key.remote.ip(), now);
        let decision = connect_decision(&self.policy, key.remote, &names, Claim::Unknown);
        let name = names.first().cloned();
        let verdict = decision.verdict;
        if verdict != Verdict::Inspect {
            self.report(connection(key.remote, name.clone()), decision);
        }
        if verdict == Verdict::Refuse {
            let time = self.stack_time(now);
            return self.stack.refuse(time, &link, &mut self.frames, packet.whole);
        }
        let mut flow = Flow::new(key, Peer::Outside, connecting(packet));
        flow.names = names;
        if verdict == Verdict::Inspect {
            flow.inspection = Inspection::Waiting;
        }
        self.connect(flow, key.remote, name);
    }

    fn connect(&mut self, flow: Flow, address: SocketAddr, name: Option<Name>) {
        let key = flow.key;
        let id = self.flows.insert(flow);
        self.by_key.insert(key, id);
        self.connecting = self.connecting.saturating_add(1);
        self.actions.push_back(Action::Connect { flow: id, address, name });
    }

    /// The gateway is itself the other end.
    fn open_names(&mut self, now: Instant, key: Key, packet: &Packet<'_>) {
        let id = self.flows.insert(Flow::new(key, Peer::Names, connecting(packet)));
        self.by_key.insert(key, id);
        self.connecting = self.connecting.saturating_add(1);
        self.connected(now, id);
    }

    /// The host has connected `flow`: now the guest hears of it.
    pub fn connected(&mut self, now: Instant, id: FlowId) {
        let time = self.stack_time(now);
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Stage::Connecting { syn } = &flow.stage else { return };
        let size = self.budget.take();
        let Some(mut socket) =
            size.and_then(|size| TcpSocket::accepting(&mut self.spare, size, flow.key.remote))
        else {
            // No memory: as if the host had not answered.
            self.remove(id, true);
            return;
        };
        self.connecting = self.connecting.saturating_sub(1);
        flow.buffer_bytes = size.unwrap_or_default();
        self.stack.receive(time, &self.settings.link, &mut self.frames, syn, &mut socket);
        flow.stage = Stage::Open(Box::new(socket));
        self.settle(now, id);
    }

    /// The host could not connect `flow`.
    pub fn connect_failed(&mut self, now: Instant, id: FlowId, failure: ConnectFailure) {
        let time = self.stack_time(now);
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Stage::Connecting { syn } = &mut flow.stage else { return };
        let syn = std::mem::take(syn);
        match failure {
            ConnectFailure::Refused => self.stack.refuse(time, &self.settings.link, &mut self.frames, &syn),
            ConnectFailure::Unreachable => {
                let packet = packet::parse_ipv4(&syn).or_else(|| packet::parse_ipv6(&syn));
                if let Some(packet) = packet {
                    self.unreachable(&packet, Unreachable::Host);
                }
            }
        }
        self.remove(id, true);
    }

    /// The host's proxy has not connected `flow`, which the rules allow.
    pub fn proxy_refused(&mut self, now: Instant, id: FlowId, refusal: Refusal) {
        let Some(flow) = self.flows.get(id) else { return };
        let subject = connection(flow.key.remote, flow.names.first().cloned());
        self.report(subject, Decision::by_proxy(refusal));
        self.connect_failed(now, id, refusal.failure());
    }

    /// Somebody on the host connected to a published port: connects to `port` of the guest. None if there is no room.
    pub fn accept(&mut self, now: Instant, port: u16) -> Option<FlowId> {
        if self.flows.len() >= MAX_FLOWS || port == 0 {
            return None;
        }
        let link = self.settings.link;
        let guest = SocketAddr::new(link.guest_ipv4.into(), port);
        let key = self.free_key(port)?;
        let size = self.budget.take()?;
        let Some(socket) = TcpSocket::connecting(size, self.stack.context(), guest, key.remote) else {
            self.budget.give_back(size);
            return None;
        };
        let mut flow = Flow::new(key, Peer::Published, Stage::Open(Box::new(socket)));
        flow.buffer_bytes = size;
        let id = self.flows.insert(flow);
        self.by_key.insert(key, id);
        self.settle(now, id);
        Some(id)
    }

    /// A port of the gateway from which nobody is connected to `port` of the guest.
    fn free_key(&mut self, port: u16) -> Option<Key> {
        let gateway = IpAddr::V4(self.settings.link.gateway_ipv4);
        for _ in FIRST_EPHEMERAL..=u16::MAX {
            let candidate = self.next_port;
            self.next_port = candidate.checked_add(1).unwrap_or(FIRST_EPHEMERAL);
            let key = Key { guest: port, remote: SocketAddr::new(gateway, candidate) };
            if !self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }

    /// The host's socket of `flow` failed: the guest's side ends as abruptly.
    pub fn host_failed(&mut self, now: Instant, id: FlowId) {
        self.reset(now, id);
    }

    /// Ends `flow` towards both sides.
    pub(super) fn reset(&mut self, now: Instant, id: FlowId) {
        if let Some(socket) = self.flows.get_mut(id).and_then(Flow::socket) {
            socket.abort();
            self.settle(now, id);
        } else {
            self.remove(id, true);
        }
    }

    /// Forgets `flow` and has its socket closed.
    pub(super) fn remove(&mut self, id: FlowId, reset: bool) {
        let Some(flow) = self.flows.remove(id) else { return };
        self.by_key.remove(&flow.key);
        if matches!(flow.stage, Stage::Connecting { .. }) {
            self.connecting = self.connecting.saturating_sub(1);
        }
        if flow.buffer_bytes > 0 {
            self.budget.give_back(flow.buffer_bytes);
        }
        if let Stage::Open(socket) = flow.stage {
            self.spare.keep(*socket);
        }
        self.actions.push_back(Action::Close { flow: id, reset });
    }

    /// Puts other rules into force. What they do not allow ends, connections that are open among it.
    pub fn set_policy(&mut self, now: Instant, policy: Policy) {
        self.policy = policy;
        let outside = |flow: &&mut Flow| flow.peer == Peer::Outside;
        let mut refused = Vec::new();
        for flow in self.flows.values_mut().filter(outside) {
            // The names for which it was begun, though their pins may have run out since.
            let claim = match (&flow.inspection, &flow.claimed) {
                (Inspection::Waiting, _) => Claim::Unknown,
                (_, Some(name)) => Claim::Name(name.clone()),
                (_, None) => Claim::None,
            };
            let decision = connect_decision(&self.policy, flow.key.remote, &flow.names, claim);
            if decision.is_refused() {
                refused.push((flow.key, flow.names.first().cloned(), decision));
            }
        }
        for (key, name, decision) in refused {
            self.report(connection(key.remote, name), decision);
            if let Some(id) = self.by_key.get(&key).copied() {
                self.reset(now, id);
            }
        }
        self.recheck_datagrams(now);
    }

    /// Puts `flow` among those that have something to move.
    pub(super) fn queue(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.queued
        {
            flow.queued = true;
            self.queued.push_back(id);
        }
    }
}

/// What the rules say of a connection.
pub(super) fn connect_decision(
    policy: &Policy,
    remote: SocketAddr,
    names: &[Name],
    claim: Claim,
) -> Decision {
    let flow =
        policy::Flow { protocol: Protocol::Tcp, address: remote.ip(), port: remote.port(), names, claim };
    policy.connect(&flow)
}

pub(super) fn connection(address: SocketAddr, name: Option<Name>) -> Subject {
    Subject::Connect { protocol: Protocol::Tcp, address, name }
}

fn connecting(packet: &Packet<'_>) -> Stage {
    Stage::Connecting { syn: packet.whole.into() }
}
