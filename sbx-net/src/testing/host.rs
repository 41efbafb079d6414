//! What is outside: hosts that accept, refuse or do not answer, and keep what they get.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::action::{Action, ConnectFailure, Incoming, Outgoing};
use crate::flow::{ExchangeId, FlowId};
use crate::gateway::Gateway;

/// What a host does with a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Answer {
    /// Takes it.
    #[default]
    Accept,
    /// Says no.
    Refuse,
    /// Cannot be reached.
    Unreachable,
    /// Never answers.
    Silent,
}

/// One connection, seen from outside.
#[derive(Debug, Default)]
pub struct Remote {
    /// Where the guest believes to be.
    pub address: Option<SocketAddr>,
    /// What came from the guest.
    pub received: Vec<u8>,
    /// What the guest is to get.
    pub to_send: Vec<u8>,
    /// Whether the guest has ended its direction.
    pub guest_ended: bool,
    /// Whether to end ours when all is sent.
    pub end: bool,
    /// Whether it takes bytes of the guest.
    pub reads: bool,
    /// How it was closed: with a reset or without.
    pub closed: Option<bool>,
    connected: bool,
    ended: bool,
}

/// All of the outside.
#[derive(Debug, Default)]
pub struct Host {
    /// What each address does; those that are not named accept.
    pub answers: HashMap<SocketAddr, Answer>,
    /// Connections that there are or were.
    pub remotes: HashMap<FlowId, Remote>,
    /// Datagrams that came.
    pub datagrams: Vec<(ExchangeId, SocketAddr, Vec<u8>)>,
    /// Questions to name servers, each with its token and whether it came over TCP.
    pub questions: Vec<(u64, Vec<u8>, bool)>,
    /// Sends back what comes.
    pub echo: bool,
}

impl Host {
    /// The connection to `address`.
    ///
    /// # Panics
    /// If there is none.
    pub fn remote(&mut self, address: SocketAddr) -> &mut Remote {
        self.remotes.values_mut().find(|remote| remote.address == Some(address)).expect("nobody connected")
    }

    /// A connection that came to a published port.
    pub fn adopt(&mut self, flow: FlowId) -> &mut Remote {
        self.remotes.entry(flow).or_insert_with(|| Remote {
            connected: true,
            reads: true,
            ..Remote::default()
        })
    }

    pub(super) fn act(&mut self, gateway: &mut Gateway, now: Instant, action: Action) {
        match action {
            Action::Connect { flow, address, .. } => {
                let answer = self.answers.get(&address).copied().unwrap_or_default();
                let remote = Remote { address: Some(address), reads: true, ..Remote::default() };
                let remote = self.remotes.entry(flow).or_insert(remote);
                match answer {
                    Answer::Accept => {
                        remote.connected = true;
                        gateway.connected(now, flow);
                    }
                    Answer::Refuse => gateway.connect_failed(now, flow, ConnectFailure::Refused),
                    Answer::Unreachable => gateway.connect_failed(now, flow, ConnectFailure::Unreachable),
                    Answer::Silent => {}
                }
            }
            Action::Transfer(flow) => self.transfer(gateway, now, flow),
            Action::Close { flow, reset } => {
                if let Some(remote) = self.remotes.get_mut(&flow) {
                    remote.closed = Some(reset);
                }
            }
            Action::Datagram { exchange, address, data } => {
                if self.echo {
                    gateway.handle_datagram(now, exchange, &data);
                }
                self.datagrams.push((exchange, address, data));
            }
            Action::EndExchange(_) => {}
            Action::Ask { bytes, token, over_tcp, .. } => self.questions.push((token, bytes, over_tcp)),
        }
    }

    /// Moves what was left over.
    pub(super) fn work(&mut self, gateway: &mut Gateway, now: Instant) -> bool {
        let waiting = |remote: &Remote| {
            remote.connected
                && remote.closed.is_none()
                && (!remote.to_send.is_empty() || (remote.end && !remote.ended) || remote.reads)
        };
        let flows: Vec<FlowId> =
            self.remotes.iter().filter(|(_, remote)| waiting(remote)).map(|(flow, _)| *flow).collect();
        let mut moved = false;
        for flow in flows {
            moved |= self.move_bytes(gateway, now, flow);
        }
        moved
    }

    fn transfer(&mut self, gateway: &mut Gateway, now: Instant, flow: FlowId) {
        self.move_bytes(gateway, now, flow);
        gateway.settle(now, flow);
    }

    fn move_bytes(&mut self, gateway: &mut Gateway, now: Instant, flow: FlowId) -> bool {
        let echo = self.echo;
        let Some(remote) = self.remotes.get_mut(&flow) else { return false };
        let mut moved = false;
        while remote.reads {
            match gateway.outgoing(now, flow) {
                Outgoing::Bytes(bytes) => {
                    let count = bytes.len();
                    remote.received.extend_from_slice(bytes);
                    if echo {
                        remote.to_send.extend_from_slice(bytes);
                    }
                    gateway.sent(flow, count);
                    moved = true;
                }
                Outgoing::Nothing => break,
                Outgoing::End => {
                    remote.guest_ended = true;
                    moved = true;
                }
            }
        }
        while !remote.to_send.is_empty() {
            let to_send = &remote.to_send;
            let read = gateway.incoming(flow, |space| {
                let count = space.len().min(to_send.len());
                space[..count].copy_from_slice(&to_send[..count]);
                (count, count)
            });
            let Incoming::Read(count) = read else { break };
            remote.to_send.drain(..count);
            moved = true;
        }
        if remote.to_send.is_empty() && remote.end && !remote.ended {
            remote.ended = true;
            gateway.host_ended(flow);
            moved = true;
        }
        if moved {
            gateway.settle(now, flow);
        }
        moved
    }
}
