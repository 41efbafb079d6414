//! What the guest asks, and how it is replied to.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Record};

/// Longest query that is read. Real ones are far shorter than 512 bytes.
const MAX_QUERY_BYTES: usize = 4096;

/// Longest reply by UDP to a guest that does not say how much it takes (RFC 1035, 4.2.1).
const MIN_UDP_BYTES: u16 = 512;

/// Longest reply by UDP to a guest that says so: one that is not torn into fragments (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1232;

/// The option "Extended DNS Error" (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// Bytes of the header, without which there is nothing to reply to.
const HEADER_BYTES: usize = 12;

/// What carries messages between the guest and us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Datagrams: long replies are cut.
    Udp,
    /// A stream.
    Tcp,
}

/// Where a query comes from and its reply goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    /// Whatever the caller knows it by.
    pub token: u64,
    /// What carries it.
    pub transport: Transport,
}

/// Why a reply is not what it could be (RFC 8914, 4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Note {
    code: u16,
    text: String,
}

impl Note {
    /// The policy is against it.
    pub(super) fn blocked(text: impl ToString) -> Self {
        Self { code: 15, text: text.to_string() }
    }

    /// No server could be asked.
    pub(super) fn unreachable() -> Self {
        Self { code: 22, text: "no name server of the host answered".to_owned() }
    }

    /// There were too many.
    pub(super) fn too_many() -> Self {
        Self { code: 0, text: "too many queries at once".to_owned() }
    }
}

/// A query that deserves an answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) source: Source,
    pub(super) query: Query,
    id: u16,
    recursion_desired: bool,
    /// What it says of EDNS: the longest reply that it takes.
    payload: Option<u16>,
}

/// What came of reading a query.
#[derive(Debug)]
pub(super) enum Read {
    Asked(Asked),
    /// It cannot be answered, but this is to be replied.
    Reject(Vec<u8>),
    /// Nothing is to be replied, since it is no query.
    Ignore,
}

impl Asked {
    /// Reads a query.
    pub(super) fn read(bytes: &[u8], source: Source) -> Read {
        let Some(&[high, low, flags, ..]) = bytes.get(..HEADER_BYTES) else {
            return Read::Ignore;
        };
        let id = u16::from_be_bytes([high, low]);
        let reject = |op_code, response_code| {
            let message = Message::error_msg(id, op_code, response_code);
            message.to_vec().map_or(Read::Ignore, Read::Reject)
        };
        // A reply to a reply could go on for ever.
        if flags & 0x80 != 0 {
            return Read::Ignore;
        }
        if bytes.len() > MAX_QUERY_BYTES {
            return reject(OpCode::Query, ResponseCode::FormErr);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return reject(OpCode::Query, ResponseCode::FormErr);
        };
        if message.metadata.op_code != OpCode::Query {
            return reject(message.metadata.op_code, ResponseCode::NotImp);
        }
        let [query] = message.queries.as_slice() else {
            return reject(OpCode::Query, ResponseCode::FormErr);
        };
        let asked = Self {
            source,
            query: query.clone(),
            id,
            recursion_desired: message.metadata.recursion_desired,
            payload: message.edns.as_ref().map(Edns::max_payload),
        };
        if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Read::Reject(asked.reply(ResponseCode::BADVERS, &[], None));
        }
        if query.query_class() != DNSClass::IN {
            return Read::Reject(asked.reply(ResponseCode::Refused, &[], None));
        }
        Read::Asked(asked)
    }

    /// The reply, cut if it is too long for what carries it.
    pub(super) fn reply(&self, code: ResponseCode, answers: &[Record], note: Option<&Note>) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        message.add_answers(answers.iter().cloned());
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_BYTES);
            if let Some(note) = note {
                let data = [&note.code.to_be_bytes(), note.text.as_bytes()].concat();
                edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
            }
            message.set_edns(edns);
        }
        let longest = match self.source.transport {
            Transport::Udp => self.payload.unwrap_or(0).clamp(MIN_UDP_BYTES, MAX_UDP_BYTES),
            Transport::Tcp => u16::MAX,
        };
        let encoded = message.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(longest));
        encoded.or_else(|| message.truncate().to_vec().ok()).unwrap_or_default()
    }
}
