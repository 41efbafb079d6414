//! Bytes of connections, both ways, and what they tell.

use std::time::{Duration, Instant};

use super::Gateway;
use crate::action::{Incoming, Outgoing};
use crate::flow::{Flow, FlowId, Inspection, Peer, Stage};
use crate::tcp::Fate;

/// The soonest that a connection is looked at again without anything having happened to it.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

impl Gateway {
    /// Bytes of the guest that the host may have now.
    pub fn outgoing(&mut self, now: Instant, id: FlowId) -> Outgoing<'_> {
        self.inspect(now, id);
        let Some(flow) = self.flows.get_mut(id) else { return Outgoing::Nothing };
        let Flow { stage: Stage::Open(socket), inspection, guest_ended, .. } = flow else {
            return Outgoing::Nothing;
        };
        // A connection that was reset has no end of which the host could believe that it was all.
        let more = socket.may_receive() || socket.fate() == Fate::Reset;
        let bytes = match inspection {
            Inspection::Waiting => return Outgoing::Nothing,
            Inspection::Http(guarded) => guarded.cleared.as_slice(),
            Inspection::Over => socket.received(),
        };
        if !bytes.is_empty() {
            return Outgoing::Bytes(bytes);
        }
        if more || *guest_ended {
            return Outgoing::Nothing;
        }
        *guest_ended = true;
        Outgoing::End
    }

    /// The host has taken the first `count` of the bytes that were [`outgoing`](Self::outgoing).
    pub fn sent(&mut self, id: FlowId, count: usize) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        match &mut flow.inspection {
            Inspection::Http(guarded) => {
                let count = count.min(guarded.cleared.len());
                guarded.cleared.drain(..count);
            }
            Inspection::Over | Inspection::Waiting => {
                if let Some(socket) = flow.socket() {
                    socket.consume(count);
                }
            }
        }
    }

    /// Has `read` fill space for bytes to the guest and say how many there are.
    pub fn incoming<R>(&mut self, id: FlowId, read: impl FnOnce(&mut [u8]) -> (usize, R)) -> Incoming<R> {
        let Some(flow) = self.flows.get_mut(id) else { return Incoming::Full };
        let Flow { stage: Stage::Open(socket), inspection, .. } = flow else { return Incoming::Full };
        let mut answered = false;
        let read = match inspection {
            Inspection::Waiting => None,
            Inspection::Over => socket.send(read),
            Inspection::Http(guarded) => socket.send(|space| {
                let (count, result) = read(space);
                guarded.guard.answer(space.get(..count).unwrap_or_default());
                answered = true;
                (count, result)
            }),
        };
        if answered {
            // The client's next bytes may have waited for the answer.
            self.queue(id);
        }
        read.map_or(Incoming::Full, Incoming::Read)
    }

    /// The host has sent all that it will send on `flow`.
    pub fn host_ended(&mut self, id: FlowId) {
        if let Some(socket) = self.flows.get_mut(id).and_then(Flow::socket) {
            socket.finish();
        }
    }

    /// Sends to the guest what the connection has for it, and notices its end. To be called after bytes were moved.
    pub fn settle(&mut self, now: Instant, id: FlowId) {
        if self.flows.get(id).is_some_and(|flow| flow.peer == Peer::Names) {
            self.serve_names(now, id);
        }
        let time = self.stack_time(now);
        let Some(flow) = self.flows.get_mut(id) else { return };
        let (timer, stalled, told) = (flow.timer, flow.stalled, flow.guest_ended);
        let Some(socket) = flow.socket() else { return };
        let done = self.stack.transmit(time, &self.settings.link, &mut self.frames, socket);
        match socket.fate() {
            Fate::Reset if done => return self.remove(id, true),
            // Once the host has all that the guest sent.
            Fate::Finished if done && told => return self.remove(id, false),
            Fate::Open | Fate::Finished | Fate::Reset => {}
        }
        let deadline = if done { self.stack.deadline(time, socket) } else { None };
        if !done && !stalled {
            self.stalled.push_back(id);
        }
        let epoch = self.epoch;
        if let Some(flow) = self.flows.get_mut(id) {
            flow.stalled |= !done;
            let deadline = deadline.and_then(|at| {
                let due = Duration::from_micros(at.total_micros().try_into().unwrap_or(0));
                // All that could be sent was: whatever is due at once can wait, and can never keep the thread busy.
                epoch.checked_add(due).max(now.checked_add(SHORTEST_TIMER))
            });
            // A timer that is too early is found to be so when it goes off, which costs less than to move it every time.
            if let Some(deadline) = deadline
                && timer.is_none_or(|timer| deadline < timer)
            {
                flow.timer = Some(deadline);
                self.timers.push(std::cmp::Reverse((deadline, id)));
            }
        }
    }

    /// Sends to the guest what found no room before.
    pub fn send_stalled(&mut self, now: Instant) {
        // Each once: one that finds no room again is behind the others then.
        for _ in 0..self.stalled.len() {
            if self.frames.is_full() {
                break;
            }
            let Some(id) = self.stalled.pop_front() else { break };
            if let Some(flow) = self.flows.get_mut(id) {
                flow.stalled = false;
                self.settle(now, id);
            }
        }
    }
}
