//! Names are resolved here and nowhere else: what is allowed is asked of the host's name servers, and what they answer
//! is judged, pinned and told.
//!
//! ```text
//!  guest                                                                                   servers of the host
//!    │ handle_query ──▶ Asked ──▶ Policy::resolve ──▶ own names ─▶ Cache ─▶ Upstream ──▶ Action::{SendUdp, QueryTcp} │
//!    │                                │ refused                                                                     │
//!    ◀── Action::Answer ◀─────────────┴─────────── Policy::answer, Pins ◀── Answer ◀────────────── handle_response ──┘
//! ```
//!
//! Without I/O and without a clock. After each `handle_*` the caller takes all of [`Resolver::poll_action`] and
//! [`Resolver::poll_event`], and calls [`Resolver::handle_timeout`] when [`Resolver::poll_timeout`] says so. It should
//! send each query from a port of its own, chosen by the system, and take answers from the server's address only.
//!
//! Addresses, texts, services and mail servers are passed. HTTPS and SVCB are answered with nothing, since they
//! carry the keys with which a client hides the name of the host (ECH), and PTR tells pinned addresses only.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name as DnsName, RData, Record, RecordType};
use serde::Serialize;

mod answer;
mod cache;
mod question;
mod rate;
mod resolv_conf;
mod stand_ins;
#[cfg(test)]
mod tests;
mod upstream;

use self::answer::{Answer, Question};
use self::cache::Cache;
use self::question::{Asked, Note, Read};
use self::rate::Rate;
use self::stand_ins::StandIns;
use self::upstream::{Attempt, Next, Upstream};
use crate::name::Name;
use crate::pins::{self, Pins};
use crate::policy::{Decision, Policy, Reason};
use crate::proxy::Proxies;

pub use self::question::{Source, Transport};
pub use self::resolv_conf::{ResolvConf, Server};
pub use self::upstream::Random;

/// The name under which the gateway itself is found, and with it the host's services.
pub const HOST_NAME: &str = "host.sbx.internal";

/// Time to live of what needs no server.
const LOCAL_TTL_SECONDS: u32 = 30;

/// Most events that wait to be taken; more are lost, since a guest makes them.
const MAX_EVENTS: usize = 1024;

/// What the names are resolved with.
pub struct Configuration {
    /// The gateway's own addresses, as the guest sees them.
    pub gateway: Vec<IpAddr>,
    /// What the host's file `hosts` says.
    pub hosts: Vec<(IpAddr, Name)>,
    /// Whom to ask, and how.
    pub upstream: ResolvConf,
    /// Where unguessable numbers come from.
    pub random: Random,
}

/// What the answers are held against, and where they are noted.
#[derive(Debug)]
pub struct Context<'c> {
    /// What may be resolved.
    pub policy: &'c Policy,
    /// What was.
    pub pins: &'c mut Pins,
}

/// What is to be done outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Send this reply to the guest.
    Answer {
        /// The source of the query.
        source: Source,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send this query as a datagram.
    SendUdp {
        /// Where to.
        server: Server,
        /// The message.
        bytes: Vec<u8>,
        /// For [`Resolver::handle_response`] and [`Resolver::handle_failure`].
        token: u64,
    },
    /// Send this query over a connection, and read one message from it (RFC 1035, 4.2.2).
    QueryTcp {
        /// Where to.
        server: Server,
        /// The message, without its length.
        bytes: Vec<u8>,
        /// For [`Resolver::handle_response`] and [`Resolver::handle_failure`].
        token: u64,
    },
}

/// What happened, for the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The guest was told these addresses, which are pinned now.
    Resolved {
        /// The name that was asked for.
        name: Name,
        /// All that were told.
        addresses: Vec<IpAddr>,
    },
    /// The name may not be asked for.
    Refused {
        /// That name.
        name: Name,
        /// Why.
        decision: Decision,
    },
    /// An address was left out of an answer.
    Withheld {
        /// The name that was asked for.
        name: Name,
        /// What it would have been told.
        address: IpAddr,
        /// Why.
        decision: Decision,
    },
    /// The guest asks for more names than is good.
    Limited {
        /// One of them.
        name: Name,
    },
    /// No server answered.
    Failed {
        /// The name that was asked for.
        name: Name,
    },
}

/// Answers the guest's queries.
#[derive(Debug)]
pub struct Resolver {
    gateway: Vec<IpAddr>,
    hosts: Vec<(IpAddr, Name)>,
    upstream: Upstream,
    cache: Cache,
    rate: Rate,
    stand_ins: StandIns,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Configuration").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that has answered nothing yet.
    #[must_use]
    pub fn new(configuration: Configuration) -> Self {
        let Configuration { gateway, hosts, upstream, random } = configuration;
        Self {
            gateway,
            hosts,
            upstream: Upstream::new(upstream, random),
            cache: Cache::default(),
            rate: Rate::default(),
            stand_ins: StandIns::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The host's configuration has changed: other servers, other names. Questions that wait go on with their next attempt.
    pub fn set_host(&mut self, upstream: ResolvConf, hosts: Vec<(IpAddr, Name)>) {
        self.upstream.configure(upstream);
        self.hosts = hosts;
        // Other servers may know other answers, as those of a company's network do.
        self.cache = Cache::default();
    }

    /// Connections go through these proxies, which resolve names that nobody else knows.
    pub fn use_proxies(&mut self, proxies: Proxies) {
        self.stand_ins = StandIns::new(proxies);
    }

    /// Whether this address only stands for a name that a proxy is to resolve.
    #[must_use]
    pub fn is_stand_in(&self, address: IpAddr) -> bool {
        self.stand_ins.contains(address)
    }

    /// The guest asks something.
    pub fn handle_query(&mut self, now: Instant, context: &mut Context<'_>, bytes: &[u8], source: Source) {
        match Asked::read(bytes, source) {
            Read::Asked(asked) => self.answer(now, context, asked),
            Read::Reject(bytes) => self.actions.push_back(Action::Answer { source, bytes }),
            Read::Ignore => {}
        }
    }

    /// A server answers.
    pub fn handle_response(&mut self, now: Instant, context: &mut Context<'_>, token: u64, bytes: &[u8]) {
        let next = self.upstream.response(token, bytes, now);
        if let Next::Done(done) = &next
            && let Some(answer) = &done.answer
        {
            self.cache.insert(&done.question, answer, bytes.len(), now);
        }
        self.proceed(now, context, next);
    }

    /// A server cannot be reached, or closed the connection.
    pub fn handle_failure(&mut self, now: Instant, context: &mut Context<'_>, token: u64) {
        let next = self.upstream.failure(token, now);
        self.proceed(now, context, next);
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant, context: &mut Context<'_>) {
        for token in self.upstream.late(now) {
            self.handle_failure(now, context, token);
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.upstream.deadline()
    }

    /// Whether an answer to the query of this token would still be of use.
    #[must_use]
    pub fn waits_for(&self, token: u64) -> bool {
        self.upstream.waits_for(token)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to log.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Answers at once, or asks.
    fn answer(&mut self, now: Instant, context: &mut Context<'_>, asked: Asked) {
        let kind = asked.query.query_type();
        match kind {
            RecordType::ANY | RecordType::AXFR | RecordType::IXFR => {
                return self.reply(&asked, ResponseCode::Refused, &[], None);
            }
            RecordType::PTR => {
                let records = self.reverse(asked.query.name(), context.pins, now);
                let code = if records.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
                return self.reply(&asked, code, &records, None);
            }
            _ => {}
        }
        let Ok(name) = Name::new(&asked.query.name().to_ascii()) else {
            let note = Note::blocked("not the name of a host");
            return self.reply(&asked, ResponseCode::NXDomain, &[], Some(&note));
        };
        if name.as_str() == HOST_NAME {
            let records = local(asked.query.name(), kind, self.gateway.iter().copied());
            return self.reply(&asked, ResponseCode::NoError, &records, None);
        }
        let (about, decision) = permission(context.policy, &name, kind);
        if decision.is_refused() {
            let note = Note::blocked(&decision);
            self.event(Event::Refused { name: about, decision });
            return self.reply(&asked, ResponseCode::NXDomain, &[], Some(&note));
        }
        if self.hosts.iter().any(|(_, known)| *known == name) {
            let addresses =
                self.hosts.iter().filter(|(_, known)| *known == name).map(|(address, _)| *address);
            let records = local(asked.query.name(), kind, addresses);
            let answer = Answer { code: ResponseCode::NoError, records };
            return self.tell(now, context, &Question { name, kind }, &answer, &[asked]);
        }
        let is_passed = matches!(
            kind,
            RecordType::A
                | RecordType::AAAA
                | RecordType::CNAME
                | RecordType::TXT
                | RecordType::SRV
                | RecordType::MX
                | RecordType::NS
                | RecordType::SOA
        );
        if !is_passed {
            return self.reply(&asked, ResponseCode::NoError, &[], None);
        }
        self.ask(now, context, Question { name, kind }, asked);
    }

    /// Answers from what is known, or asks a server.
    fn ask(&mut self, now: Instant, context: &mut Context<'_>, question: Question, asked: Asked) {
        if let Some(answer) = self.cache.get(&question, now) {
            return self.tell(now, context, &question, &answer, &[asked]);
        }
        let name = question.name.clone();
        // A name that is written in a rule says nothing; one that the guest makes up below a wildcard could.
        let is_made_up = !context.policy.spells_out(&name);
        if is_made_up && !self.rate.take(now) {
            self.event(Event::Limited { name });
            return self.reply(&asked, ResponseCode::ServFail, &[], Some(&Note::too_many()));
        }
        match self.upstream.ask(question, asked, now) {
            Ok(attempt) => self.attempt(attempt),
            Err(asked) => {
                self.event(Event::Limited { name });
                self.reply(&asked, ResponseCode::ServFail, &[], Some(&Note::too_many()));
            }
        }
    }

    fn proceed(&mut self, now: Instant, context: &mut Context<'_>, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Try(attempt) => self.attempt(Some(attempt)),
            Next::Done(done) => match done.answer {
                Some(answer) => self.tell(now, context, &done.question, &answer, &done.waiting),
                None if self.stand_ins.give(&done.question.name).is_some() => {
                    let unknown = Answer { code: ResponseCode::NXDomain, records: Vec::new() };
                    self.tell(now, context, &done.question, &unknown, &done.waiting);
                }
                None => {
                    self.event(Event::Failed { name: done.question.name });
                    for asked in &done.waiting {
                        self.reply(asked, ResponseCode::ServFail, &[], Some(&Note::unreachable()));
                    }
                }
            },
        }
    }

    /// Judges an answer by the rules of now, pins it and tells it to everybody who waits for it.
    fn tell(
        &mut self,
        now: Instant,
        context: &mut Context<'_>,
        question: &Question,
        answer: &Answer,
        waiting: &[Asked],
    ) {
        let name = &question.name;
        // A rule may have gone since the question was asked.
        let (about, decision) = permission(context.policy, name, question.kind);
        if decision.is_refused() {
            let note = Note::blocked(&decision);
            self.event(Event::Refused { name: about, decision });
            for asked in waiting {
                self.reply(asked, ResponseCode::NXDomain, &[], Some(&note));
            }
            return;
        }
        let stand_in = self.stand_in(question, answer);
        let answer = stand_in.as_ref().unwrap_or(answer);
        let aliases = answer.aliases();
        let (mut records, mut addresses, mut note) = (Vec::new(), Vec::new(), None);
        for record in &answer.records {
            let mut record = record.clone();
            let mut ttl = pins::clamp(Duration::from_secs(u64::from(record.ttl)));
            if let Some(address) = answer::address(&record) {
                let decision = context.policy.answer(name, address);
                if decision.is_refused() && stand_in.is_none() {
                    note = Some(Note::blocked(format_args!("{address}: {decision}")));
                    self.event(Event::Withheld { name: name.clone(), address, decision });
                    continue;
                }
                ttl = context.pins.insert(name, address, ttl, now);
                for alias in &aliases {
                    if !context.policy.answer(alias, address).is_refused() {
                        context.pins.insert(alias, address, ttl, now);
                    }
                }
                addresses.push(address);
            }
            record.ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
            records.push(record);
        }
        if !addresses.is_empty() {
            self.event(Event::Resolved { name: name.clone(), addresses });
        }
        for asked in waiting {
            self.reply(asked, answer.code, &records, note.as_ref());
        }
    }

    /// What to answer instead of that nobody knows the name, if a proxy may.
    fn stand_in(&mut self, Question { name, kind }: &Question, answer: &Answer) -> Option<Answer> {
        let is_address = matches!(kind, RecordType::A | RecordType::AAAA);
        if !is_address || answer.code != ResponseCode::NXDomain {
            return None;
        }
        let address = self.stand_ins.give(name)?;
        let owner = DnsName::from_ascii(name.as_str()).ok().map(|mut owner| {
            owner.set_fqdn(true);
            owner
        })?;
        let records = local(&owner, *kind, std::iter::once(address.into()));
        Some(Answer { code: ResponseCode::NoError, records })
    }

    /// The names of an address that the guest was told.
    fn reverse(&self, name: &DnsName, pins: &Pins, now: Instant) -> Vec<Record> {
        let Ok(network) = name.parse_arpa_name() else {
            return Vec::new();
        };
        if network.prefix_len() != network.max_prefix_len() {
            return Vec::new();
        }
        let address = network.addr();
        let names = if self.gateway.contains(&address) {
            Name::new(HOST_NAME).into_iter().collect()
        } else {
            pins.names_of(address, now)
        };
        let targets = names.iter().filter_map(|name| DnsName::from_ascii(name.as_str()).ok());
        let record = |mut target: DnsName| {
            target.set_fqdn(true);
            Record::from_rdata(name.clone(), LOCAL_TTL_SECONDS, RData::PTR(PTR(target)))
        };
        targets.map(record).collect()
    }

    fn attempt(&mut self, attempt: Option<Attempt>) {
        self.actions.extend(attempt.map(|Attempt { server, bytes, token, over_tcp }| {
            if over_tcp {
                Action::QueryTcp { server, bytes, token }
            } else {
                Action::SendUdp { server, bytes, token }
            }
        }));
    }

    fn reply(&mut self, asked: &Asked, code: ResponseCode, records: &[Record], note: Option<&Note>) {
        let bytes = asked.reply(code, records, note);
        self.actions.push_back(Action::Answer { source: asked.source, bytes });
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }
}

/// Whether `name` may be asked for records of `kind`, and the name that this is about: whoever may ask for a host may ask for its
/// services, as apt does before each connection. Where a service leads is another name, which needs a rule itself.
fn permission(policy: &Policy, name: &Name, kind: RecordType) -> (Name, Decision) {
    let decision = policy.resolve(name);
    match name.host_of_service() {
        Some(host) if kind == RecordType::SRV && decision.reason == Reason::NoRule => {
            let decision = policy.resolve(&host);
            (host, decision)
        }
        _ => (name.clone(), decision),
    }
}

/// The records of a kind that are these addresses.
fn local(name: &DnsName, kind: RecordType, addresses: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let data = addresses.filter_map(|address| match (kind, address) {
        (RecordType::A, IpAddr::V4(address)) => Some(RData::A(A(address))),
        (RecordType::AAAA, IpAddr::V6(address)) => Some(RData::AAAA(AAAA(address))),
        _ => None,
    });
    data.map(|data| Record::from_rdata(name.clone(), LOCAL_TTL_SECONDS, data)).collect()
}
