//! What a server answered, reduced to what was asked for.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record, RecordType};

use crate::name::Name;

/// Most aliases from the name that was asked for to the one that has records. Resolvers follow 8 to 16.
const MAX_ALIASES: usize = 16;

/// Most records that are passed on.
const MAX_RECORDS: usize = 64;

/// A question, as it is asked and remembered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: RecordType,
}

impl Question {
    /// As it is written into messages.
    pub(super) fn query(&self) -> Option<Query> {
        let mut name = DnsName::from_ascii(self.name.as_str()).ok()?;
        name.set_fqdn(true);
        Some(Query::query(name, self.kind))
    }
}

/// An answer to a question: the aliases of its name, then the records.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It answers something else, and somebody else may have sent it: the answer is still to come.
    Other,
    /// The server could not answer.
    Server,
    /// It was cut.
    Truncated,
}

impl Answer {
    /// Reads the answer to a question that was asked under this number.
    pub(super) fn read(bytes: &[u8], id: u16, question: &Question) -> Result<Self, Fault> {
        let message = Message::from_vec(bytes).map_err(|_| Fault::Other)?;
        let query = question.query().ok_or(Fault::Other)?;
        let is_answer = message.metadata.id == id
            && message.metadata.message_type == MessageType::Response
            && message.metadata.op_code == OpCode::Query
            && message.queries == [query.clone()];
        if !is_answer {
            return Err(Fault::Other);
        }
        if message.metadata.truncation {
            return Err(Fault::Truncated);
        }
        let code = message.metadata.response_code;
        match code {
            ResponseCode::NoError | ResponseCode::NXDomain => {
                Ok(Self { code, records: chain(&message.answers, query.name(), question.kind) })
            }
            _ => Err(Fault::Server),
        }
    }

    /// For how long it may be remembered, if it says so.
    pub(super) fn ttl(&self) -> Option<Duration> {
        self.records.iter().map(|record| Duration::from_secs(u64::from(record.ttl))).min()
    }

    /// The names for which its addresses are the answer: the aliases, without the one that was asked for.
    pub(super) fn aliases(&self) -> Vec<Name> {
        let aliases = self.records.iter().filter_map(|record| match &record.data {
            RData::CNAME(alias) => Name::new(&alias.0.to_ascii()).ok(),
            _ => None,
        });
        aliases.collect()
    }
}

/// The address in a record, if it is one of an address.
pub(super) const fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// The records of this kind for this name, and the aliases that lead there. Others are not what was asked for.
fn chain(answers: &[Record], name: &DnsName, kind: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    let mut owner = name.clone();
    for _ in 0..MAX_ALIASES {
        let own = |wanted: RecordType| {
            answers
                .iter()
                .filter(move |record| record.dns_class == DNSClass::IN && record.record_type() == wanted)
        };
        let found = own(kind).filter(|record| record.name == owner);
        let room = MAX_RECORDS.saturating_sub(records.len());
        let before = records.len();
        records.extend(found.take(room).cloned());
        if records.len() > before {
            break;
        }
        let Some(alias) = own(RecordType::CNAME).find(|record| record.name == owner) else {
            break;
        };
        if let RData::CNAME(target) = &alias.data {
            owner = target.0.clone();
        }
        records.push(alias.clone());
    }
    records
}
