//! Questions that were asked outside and are not answered yet.
//!
//! ```text
//! ask ──▶ attempt 0, server 0 ──time-out, failure──▶ attempt 1, server 1 ──▶ … ──▶ given up
//!                 └──cut──▶ the same by TCP                 answered: gone
//! ```
//!
//! Each attempt has a number of its own in the message and a token of its own towards the caller, so that a late answer
//! to an earlier one is nothing to us.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, OpCode};

use super::answer::{Answer, Fault, Question};
use super::question::Asked;
use super::resolv_conf::{ResolvConf, Server};

/// Most queries of the guest that wait for an answer.
const MAX_WAITING: usize = 256;

/// Longest answer by UDP that we ask for.
const PAYLOAD_BYTES: u16 = 1232;

/// Where the numbers of messages come from: they must not be guessed.
pub type Random = Box<dyn FnMut() -> u16 + Send>;

/// A message that is to be sent to a server.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: Server,
    pub(super) bytes: Vec<u8>,
    pub(super) token: u64,
    pub(super) over_tcp: bool,
}

/// A question that nobody answered, or that was answered, and who waits for it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) question: Question,
    pub(super) waiting: Vec<Asked>,
    pub(super) answer: Option<Answer>,
}

/// What comes of news about an attempt.
#[derive(Debug)]
pub(super) enum Next {
    Nothing,
    Try(Attempt),
    Done(Done),
}

struct Pending {
    question: Question,
    waiting: Vec<Asked>,
    id: u16,
    /// The server that is asked first.
    first: usize,
    attempt: usize,
    over_tcp: bool,
    deadline: Instant,
}

pub(super) struct Upstream {
    configuration: ResolvConf,
    random: Random,
    pending: BTreeMap<u64, Pending>,
    next_token: u64,
    next_first: usize,
}

impl Upstream {
    pub(super) fn new(configuration: ResolvConf, random: Random) -> Self {
        Self { configuration, random, pending: BTreeMap::new(), next_token: 0, next_first: 0 }
    }

    /// Other servers from now on.
    pub(super) fn configure(&mut self, configuration: ResolvConf) {
        self.configuration = configuration;
    }

    /// Asks, or waits for what is asked already. Gives the query back if too many wait.
    pub(super) fn ask(
        &mut self,
        question: Question,
        asked: Asked,
        now: Instant,
    ) -> Result<Option<Attempt>, Box<Asked>> {
        let waiting: usize = self.pending.values().map(|pending| pending.waiting.len()).sum();
        if waiting >= MAX_WAITING {
            return Err(Box::new(asked));
        }
        if let Some(pending) = self.pending.values_mut().find(|pending| pending.question == question) {
            pending.waiting.push(asked);
            return Ok(None);
        }
        let first = self.next_first;
        if self.configuration.rotate {
            self.next_first = first.wrapping_add(1);
        }
        let pending = Pending {
            question,
            waiting: vec![asked.clone()],
            id: 0,
            first,
            attempt: 0,
            over_tcp: self.configuration.use_tcp,
            deadline: now,
        };
        self.send(pending, now).map(Some).map_err(|_| Box::new(asked))
    }

    /// A message that came for this token.
    pub(super) fn response(&mut self, token: u64, bytes: &[u8], now: Instant) -> Next {
        let Some(pending) = self.pending.get(&token) else {
            return Next::Nothing;
        };
        let (answer, over_tcp) = (Answer::read(bytes, pending.id, &pending.question), pending.over_tcp);
        match answer {
            // By TCP nobody else can have sent it.
            Err(Fault::Other) if !over_tcp => Next::Nothing,
            Err(Fault::Truncated) if !over_tcp => self.again(token, now, |pending| pending.over_tcp = true),
            Err(_) => self.failure(token, now),
            Ok(answer) => match self.pending.remove(&token) {
                Some(Pending { question, waiting, .. }) => {
                    Next::Done(Done { question, waiting, answer: Some(answer) })
                }
                None => Next::Nothing,
            },
        }
    }

    /// The server of this token cannot be reached, or does not answer in time.
    pub(super) fn failure(&mut self, token: u64, now: Instant) -> Next {
        let use_tcp = self.configuration.use_tcp;
        self.again(token, now, |pending| {
            pending.attempt = pending.attempt.saturating_add(1);
            pending.over_tcp = use_tcp;
        })
    }

    /// Whether this attempt is still the current one of its question.
    pub(super) fn waits_for(&self, token: u64) -> bool {
        self.pending.contains_key(&token)
    }

    /// The attempts whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<u64> {
        let late = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        late.map(|(token, _)| *token).collect()
    }

    /// When the next one is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    fn again(&mut self, token: u64, now: Instant, change: impl FnOnce(&mut Pending)) -> Next {
        let Some(mut pending) = self.pending.remove(&token) else {
            return Next::Nothing;
        };
        change(&mut pending);
        match self.send(pending, now) {
            Ok(attempt) => Next::Try(attempt),
            Err(pending) => {
                let Pending { question, waiting, .. } = *pending;
                Next::Done(Done { question, waiting, answer: None })
            }
        }
    }

    /// Makes the message of the current attempt, unless there have been enough.
    fn send(&mut self, mut pending: Pending, now: Instant) -> Result<Attempt, Box<Pending>> {
        let servers = &self.configuration.servers;
        let attempts = usize::try_from(self.configuration.attempts).unwrap_or(usize::MAX);
        let at = pending.first.wrapping_add(pending.attempt).checked_rem(servers.len());
        let server = at.and_then(|at| servers.get(at)).cloned();
        pending.id = (self.random)();
        let message = pending.question.query().and_then(|query| {
            let mut message = Message::new(pending.id, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = true;
            message.add_query(query);
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD_BYTES);
            message.set_edns(edns);
            message.to_vec().ok()
        });
        let enough = pending.attempt >= attempts.saturating_mul(servers.len());
        let (Some(server), Some(bytes), false) = (server, message, enough) else {
            return Err(Box::new(pending));
        };
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        pending.deadline = now.checked_add(self.configuration.timeout).unwrap_or(now);
        let over_tcp = pending.over_tcp;
        self.pending.insert(token, pending);
        Ok(Attempt { server, bytes, token, over_tcp })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { configuration, pending, .. } = self;
        formatter
            .debug_struct("Upstream")
            .field("configuration", configuration)
            .field("pending", &pending.len())
            .finish_non_exhaustive()
    }
}
