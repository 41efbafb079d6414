//! Connections whose permission depends on whom the guest speaks to.
//!
//! ```text
//! Waiting ─ TLS with an allowed SNI, or no protocol that names hosts ─▶ Over
//!    │ └─── HTTP ─▶ Http: each request is judged
//!    └───── anything else ─▶ reset
//! ```

use std::time::Instant;

use super::Gateway;
use super::tcp::{connect_decision, connection};
use crate::flow::{Flow, FlowId, Guarded, Inspection, Stage};
use crate::policy::{Claim, Decision, Reason};
use crate::sniff::{self, MAX_SNIFFED_BYTES, Step};

/// Bytes of HTTP requests that may wait for the host before more are looked at.
const MAX_CLEARED_BYTES: usize = 256 * 1024;

impl Gateway {
    /// Looks at what the guest has sent, as far as its connection may not pass unseen.
    pub(super) fn inspect(&mut self, now: Instant, id: FlowId) {
        match self.flows.get(id).map(|flow| &flow.inspection) {
            Some(Inspection::Waiting) => self.await_claim(now, id),
            Some(Inspection::Http(_)) => self.read_requests(now, id),
            Some(Inspection::Over) | None => {}
        }
    }

    /// Waits for the guest to tell whom it speaks to.
    fn await_claim(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let most = flow.buffer_bytes.min(MAX_SNIFFED_BYTES);
        let Some(socket) = flow.socket() else { return };
        let more = socket.may_send_more();
        let bytes = socket.received();
        if bytes.is_empty() {
            return;
        }
        let is_http = !sniff::is_tls(bytes);
        let claim = match sniff::claim(bytes) {
            Claim::Unknown if more && bytes.len() < most => return,
            // As much as there will ever be, and it does not say.
            Claim::Unknown => Claim::Nameless,
            claim => claim,
        };
        // Requests that name nobody pass only where nothing depends on names but denials, which stop those who tell.
        let follow = is_http && matches!(claim, Claim::Name(_));
        if !self.judge(now, id, claim) {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.inspection = if follow { Inspection::Http(Box::default()) } else { Inspection::Over };
            // What the host has sent meanwhile may pass.
            self.queue(id);
            self.inspect(now, id);
        }
    }

    /// Passes on whole requests to allowed hosts.
    fn read_requests(&mut self, now: Instant, id: FlowId) {
        loop {
            let Some(flow) = self.flows.get_mut(id) else { return };
            let Flow { stage: Stage::Open(socket), inspection: Inspection::Http(guarded), .. } = flow else {
                return;
            };
            let Guarded { guard, cleared } = &mut **guarded;
            let bytes = socket.received();
            if bytes.is_empty() || cleared.len() >= MAX_CLEARED_BYTES {
                return;
            }
            match guard.push(bytes) {
                Ok(Step::Wait) => return,
                Ok(Step::Held(count)) => socket.consume(count),
                Ok(Step::Pass(count)) => {
                    cleared.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    socket.consume(count);
                }
                Ok(Step::Request { taken, host, head }) => {
                    cleared.extend_from_slice(&head);
                    socket.consume(taken);
                    // What was cleared goes with the connection if this is refused.
                    let known = flow.claimed.as_ref() == Some(&host);
                    if !known && !self.judge(now, id, Claim::Name(host)) {
                        return;
                    }
                }
                Err(fault) => {
                    tracing::debug!(%fault, "a request was not passed on");
                    self.judge(now, id, Claim::Nameless);
                    return self.reset(now, id);
                }
            }
        }
    }

    /// Decides about a connection whose guest claims to speak to somebody; false if it has ended.
    fn judge(&mut self, now: Instant, id: FlowId, claim: Claim) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let key = flow.key;
        let named = match &claim {
            Claim::Name(name) => Some(name.clone()),
            Claim::Unknown | Claim::None | Claim::Nameless => None,
        };
        let decision: Decision = connect_decision(&self.policy, key.remote, &flow.names, claim);
        let allowed = decision.is_allowed();
        debug_assert!(decision.reason != Reason::NotToldYet, "a claim was made");
        let name = named.clone().or_else(|| flow.names.first().cloned());
        flow.claimed = named;
        self.report(connection(key.remote, name), decision);
        if !allowed {
            self.reset(now, id);
        }
        allowed
    }
}
