//! The gateway: what becomes of each frame.
//!
//! Without I/O and without a clock; the caller says what time it is, and moves the bytes:
//!
//! ```text
//! handle_*   a frame of the guest, a connection made or failed or ended, a datagram, an answer of a name server
//! outgoing, sent, incoming, settle   bytes of one connection, both ways
//! poll_action, poll_event, frame     what is to be done, what was decided, what the guest gets
//! poll_timeout, handle_timeout       the next moment at which something is due
//! ```

mod inspect;
mod names;
mod tcp;
#[cfg(test)]
mod tests;
mod transfer;
mod udp;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use slotmap::SlotMap;
use smoltcp::wire::IpProtocol;

use crate::action::Action;
use crate::dns::Resolver;
use crate::ethernet::{self, Link, Payload};
use crate::event::{Event, Subject};
use crate::flow::{Flow, FlowId, Key};
use crate::frames::Frames;
use crate::icmp;
use crate::packet::{self, Checksum, Packet};
use crate::pins::Pins;
use crate::policy::{Decision, Policy};
use crate::tcp::{Budget, Spare, Stack};
use crate::udp::Datagrams;

/// Events that may wait to be written down; more are counted only.
const MAX_EVENTS: usize = 1024;

/// What the gateway has to know besides the policy.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The cable.
    pub link: Link,
    /// Ports of the host's loopback that the guest reaches at the gateway's address.
    pub host_services: Vec<u16>,
    /// Makes what nobody should guess.
    pub seed: u64,
}

/// The gateway of one guest.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    /// What `smoltcp` counts its time from.
    epoch: Instant,
    policy: Policy,
    pins: Pins,
    resolver: Resolver,
    stack: Stack,
    frames: Frames,
    flows: SlotMap<FlowId, Flow>,
    by_key: HashMap<Key, FlowId>,
    /// Connections that the host is making.
    connecting: usize,
    budget: Budget,
    spare: Spare,
    datagrams: Datagrams,
    timers: BinaryHeap<Reverse<(Instant, FlowId)>>,
    /// Flows with something to move.
    queued: VecDeque<FlowId>,
    /// Flows with something for the guest that has no room.
    stalled: VecDeque<FlowId>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// The port from which the next published connection comes to the guest.
    next_port: u16,
}

impl Gateway {
    /// A gateway under `policy`, whose guest finds names with `resolver`.
    #[must_use]
    pub fn new(settings: Settings, policy: Policy, resolver: Resolver, now: Instant) -> Self {
        let stack = Stack::new(&settings.link, false, settings.seed, smoltcp::time::Instant::ZERO);
        Self {
            settings,
            epoch: now,
            policy,
            pins: Pins::default(),
            resolver,
            stack,
            frames: Frames::default(),
            flows: SlotMap::with_key(),
            by_key: HashMap::new(),
            connecting: 0,
            budget: Budget::default(),
            spare: Spare::default(),
            datagrams: Datagrams::default(),
            timers: BinaryHeap::new(),
            queued: VecDeque::new(),
            stalled: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            next_port: tcp::FIRST_EPHEMERAL,
        }
    }

    /// The guest's driver is there. `offload`: it takes frames without TCP checksums.
    pub fn start(&mut self, now: Instant, offload: bool) {
        let now = self.stack_time(now);
        self.stack = Stack::new(&self.settings.link, offload, self.settings.seed, now);
    }

    /// The guest's driver is gone, and with it all that it had.
    pub fn stop(&mut self) {
        let flows: Vec<FlowId> = self.flows.keys().collect();
        for flow in flows {
            self.remove(flow, true);
        }
        for exchange in self.datagrams.clear() {
            self.actions.push_back(Action::EndExchange(exchange));
        }
        self.frames.clear();
        self.timers.clear();
    }

    /// The next frame for the guest; the same until [`pop_frame`](Self::pop_frame).
    #[must_use]
    pub fn frame(&self) -> Option<&[u8]> {
        self.frames.front()
    }

    /// Takes the next frame out.
    pub fn pop_frame(&mut self) {
        self.frames.pop();
    }

    /// Whether there is something to send that found no room among the frames, and would now.
    #[must_use]
    pub fn wants_to_send(&self) -> bool {
        !self.stalled.is_empty() && self.frames.has_room()
    }

    /// What has to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        while let Some(id) = self.queued.pop_front() {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.queued = false;
                return Some(Action::Transfer(id));
            }
        }
        None
    }

    /// What was decided next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A frame of the guest.
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8], checksum: Checksum) {
        match ethernet::parse(&self.settings.link, frame) {
            Some(Payload::Ipv4(bytes)) => {
                if let Some(packet) = packet::parse_ipv4(bytes) {
                    self.handle_packet(now, &packet, checksum);
                }
            }
            Some(Payload::Ipv6(bytes)) => {
                if let Some(packet) = packet::parse_ipv6(bytes) {
                    self.handle_packet(now, &packet, checksum);
                }
            }
            Some(Payload::Arp(request)) => {
                if let Some(reply) = ethernet::answer_arp(&self.settings.link, request) {
                    self.frames.push(reply);
                }
            }
            None => {}
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>, checksum: Checksum) {
        let control = matches!(packet.protocol, IpProtocol::Icmp | IpProtocol::Icmpv6);
        // Nobody but the guest is on the cable. Neighbour discovery comes from addresses of the link as well.
        if !(self.settings.link.is_guest(packet.source) || control && is_of_link(packet.source)) {
            return;
        }
        match packet.protocol {
            IpProtocol::Tcp => self.handle_segment(now, packet, checksum),
            IpProtocol::Udp => self.handle_datagram_of_guest(now, packet, checksum),
            IpProtocol::Icmp | IpProtocol::Icmpv6 => {
                let mut frame = self.frames.blank();
                if icmp::answer(&self.settings.link, &mut frame, packet) {
                    self.frames.push(frame);
                } else {
                    self.frames.discard(frame);
                }
            }
            _ => {}
        }
    }

    /// When something is due, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let flows = self.timers.peek().map(|Reverse((at, _))| *at);
        flows.into_iter().chain(self.datagrams.deadline()).chain(self.resolver.poll_timeout()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(flow) = self.flows.get_mut(id) else { continue };
            if flow.timer == Some(at) {
                flow.timer = None;
                self.settle(now, id);
            }
        }
        for exchange in self.datagrams.expire(now) {
            self.actions.push_back(Action::EndExchange(exchange));
        }
        if self.resolver.poll_timeout().is_some_and(|at| at <= now) {
            self.handle_resolver_timeout(now);
        }
    }

    /// Notes what was decided.
    fn report(&mut self, subject: Subject, decision: Decision) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(Event { subject, decision });
        }
    }

    /// The guest's packet does not get where it should.
    fn unreachable(&mut self, packet: &Packet<'_>, why: icmp::Unreachable) {
        let mut frame = self.frames.blank();
        if icmp::unreachable(&self.settings.link, &mut frame, packet, why) {
            self.frames.push(frame);
        } else {
            self.frames.discard(frame);
        }
    }

    fn stack_time(&self, now: Instant) -> smoltcp::time::Instant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// Whether an address is one that stations give themselves for the link.
fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
    }
}
