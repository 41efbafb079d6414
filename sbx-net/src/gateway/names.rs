//! The gateway as the guest's name server.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::Gateway;
use super::tcp::DNS_PORT;
use crate::action::Action;
use crate::dns::{self, Context, ResolvConf, Source, Transport};
use crate::event::Subject;
use crate::flow::{Flow, FlowId, Key};
use crate::name::Name;
use crate::proxy::Proxies;

/// Bytes of a message's length before it in a stream (RFC 1035, 4.2.2).
const LENGTH_BYTES: usize = 2;

/// Bytes of a stream that are not a whole message yet: the largest message and its length.
const MAX_HELD_BYTES: usize = u16::MAX as usize + LENGTH_BYTES;

/// Set in the token of a datagram that came over IPv6; the port is below.
const OVER_IPV6: u64 = 1 << 16;

impl Gateway {
    /// A datagram to the name server.
    pub(super) fn handle_query(&mut self, now: Instant, key: Key, bytes: &[u8]) {
        let family = if key.remote.is_ipv6() { OVER_IPV6 } else { 0 };
        let source = Source { token: family | u64::from(key.guest), transport: Transport::Udp };
        self.ask_resolver(now, |resolver, context| resolver.handle_query(now, context, bytes, source));
    }

    /// An answer of a server of the host, to the question that an [`Action::Ask`] named.
    pub fn handle_answer(&mut self, now: Instant, token: u64, bytes: &[u8]) {
        self.ask_resolver(now, |resolver, context| resolver.handle_response(now, context, token, bytes));
    }

    /// The server of an [`Action::Ask`] cannot be asked.
    pub fn handle_no_answer(&mut self, now: Instant, token: u64) {
        self.ask_resolver(now, |resolver, context| resolver.handle_failure(now, context, token));
    }

    /// The host finds names in another way now.
    pub fn set_host(&mut self, upstream: ResolvConf, hosts: Vec<(IpAddr, Name)>) {
        self.resolver.set_host(upstream, hosts);
    }

    /// Connections go through these proxies, which resolve names that nobody else knows.
    pub fn use_proxies(&mut self, proxies: Proxies) {
        self.resolver.use_proxies(proxies);
    }

    /// Whether this address only stands for a name that a proxy is to resolve.
    #[must_use]
    pub fn is_stand_in(&self, address: IpAddr) -> bool {
        self.resolver.is_stand_in(address)
    }

    /// Whether an answer to the question of this token would still be of use.
    #[must_use]
    pub fn waits_for(&self, token: u64) -> bool {
        self.resolver.waits_for(token)
    }

    pub(super) fn handle_resolver_timeout(&mut self, now: Instant) {
        self.ask_resolver(now, |resolver, context| resolver.handle_timeout(now, context));
    }

    /// Has the resolver do something, and carries out what it wants.
    fn ask_resolver(&mut self, now: Instant, call: impl FnOnce(&mut dns::Resolver, &mut Context<'_>)) {
        let mut context = Context { policy: &self.policy, pins: &mut self.pins };
        call(&mut self.resolver, &mut context);
        while let Some(action) = self.resolver.poll_action() {
            match action {
                dns::Action::Answer { source, bytes } => self.reply(now, source, &bytes),
                dns::Action::SendUdp { server, bytes, token } => {
                    self.actions.push_back(Action::Ask { server, bytes, token, over_tcp: false });
                }
                dns::Action::QueryTcp { server, bytes, token } => {
                    self.actions.push_back(Action::Ask { server, bytes, token, over_tcp: true });
                }
            }
        }
        while let Some(event) = self.resolver.poll_event() {
            match event {
                dns::Event::Refused { name, decision } => self.report(Subject::Resolve { name }, decision),
                dns::Event::Withheld { name, address, decision } => {
                    self.report(Subject::Answer { name, address }, decision);
                }
                dns::Event::Resolved { name, addresses } => {
                    tracing::trace!(%name, ?addresses, "resolved");
                }
                dns::Event::Limited { name } => tracing::debug!(%name, "too many questions"),
                dns::Event::Failed { name } => tracing::debug!(%name, "no server answers"),
            }
        }
    }

    fn reply(&mut self, now: Instant, source: Source, bytes: &[u8]) {
        match source.transport {
            Transport::Udp => {
                let link = &self.settings.link;
                let gateway = if source.token & OVER_IPV6 == 0 {
                    link.gateway_ipv4.into()
                } else {
                    link.gateway_ipv6.into()
                };
                let Ok(guest) = u16::try_from(source.token & !OVER_IPV6) else { return };
                self.send_datagram(Key { guest, remote: SocketAddr::new(gateway, DNS_PORT) }, bytes);
            }
            Transport::Tcp => self.reply_in_stream(now, FlowId::from_bits(source.token), bytes),
        }
    }

    fn reply_in_stream(&mut self, now: Instant, id: FlowId, bytes: &[u8]) {
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        let message = [length.to_be_bytes().as_slice(), bytes].concat();
        let Some(socket) = self.flows.get_mut(id).and_then(Flow::socket) else { return };
        // A guest that asks and does not read is not waited for.
        if !socket.send_whole(&message) {
            self.reset(now, id);
        }
        self.queue(id);
    }

    /// Reads the questions of a stream to the name server.
    pub(super) fn serve_names(&mut self, now: Instant, id: FlowId) {
        loop {
            let Some(flow) = self.flows.get_mut(id) else { return };
            let Some(mut held) = flow.questions.take() else { return };
            let Some(socket) = flow.socket() else { return };
            let bytes = socket.received();
            let count = bytes.len().min(MAX_HELD_BYTES.saturating_sub(held.len()));
            held.extend_from_slice(bytes.get(..count).unwrap_or_default());
            socket.consume(count);
            let ended = count == 0 && !socket.may_receive();
            let question = take_message(&mut held);
            let idle = question.is_none() && count == 0;
            if ended && question.is_none() && !flow.guest_ended {
                flow.guest_ended = true;
                if let Some(socket) = flow.socket() {
                    socket.finish();
                }
            }
            if let Some(flow) = self.flows.get_mut(id) {
                flow.questions = Some(held);
            }
            if let Some(question) = question {
                let source = Source { token: id.to_bits(), transport: Transport::Tcp };
                self.ask_resolver(now, |resolver, context| {
                    resolver.handle_query(now, context, &question, source);
                });
            } else if idle {
                return;
            }
        }
    }
}

/// Takes the first message out of `held`, if it is whole.
fn take_message(held: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*held.first_chunk()?));
    let end = LENGTH_BYTES.checked_add(length)?;
    let message = held.get(LENGTH_BYTES..end)?.to_vec();
    held.drain(..end);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_out_of_a_stream_when_they_are_whole() {
        let mut held = vec![0, 3, 1, 2];
        assert_eq!(take_message(&mut held), None);
        held.extend([3, 0, 1, 9, 0]);
        assert_eq!(take_message(&mut held), Some(vec![1, 2, 3]));
        assert_eq!(take_message(&mut held), Some(vec![9]));
        assert_eq!(take_message(&mut held), None);
        assert_eq!(held, [0]);
    }
}
