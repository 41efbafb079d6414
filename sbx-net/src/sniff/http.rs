//! Every request of a connection is for an allowed host, not only the first.
//!
//! ```text
//! Head ──▶ Length(n) ──▶ Head
//!   │ └──▶ Chunk… ──▶ Trailer ──▶ Head
//!   └────▶ (a body, if any) ──▶ Answer ──101──▶ Opaque       the first request asks for another protocol
//!                                  └──other──▶ Head
//! ```

use super::head::{Body, Head, HttpFault, MAX_HEAD_BYTES};
use crate::name::Name;
use crate::policy::Claim;

/// Most bytes of SSH's first line with its end (RFC 4253, 4.2).
const MAX_BANNER_BYTES: usize = 255;

/// Most bytes of a word at the beginning that could be a method.
const MAX_METHOD_BYTES: usize = 64;

/// Most digits of a chunk's size: no body has chunks of 2^60 bytes.
const MAX_SIZE_DIGITS: u8 = 15;

/// Bytes of an answer's beginning that tell whether the protocol changes: `HTTP/1.1 101`.
const STATUS_BYTES: usize = 12;

/// What to do with the next bytes of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// So many are kept here; there is no whole head yet.
    Held(usize),
    /// So many complete a head.
    Request {
        /// Bytes of the input that belong to it.
        taken: usize,
        /// Whom it is for: to be judged before anything passes.
        host: Name,
        /// All of its bytes, to be passed on then.
        head: Vec<u8>,
    },
    /// So many may pass on as they are.
    Pass(usize),
    /// None are taken before the server has answered ([`HttpGuard::answer`]).
    Wait,
}

/// Follows what a client sends over a connection of HTTP/1.
#[derive(Debug, Default)]
pub struct HttpGuard {
    state: State,
    head: Vec<u8>,
    is_later: bool,
    upgrades: bool,
    answer: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Length(u64),
    Chunk(Chunk),
    Trailer {
        /// Bytes so far, of all lines.
        total: usize,
        /// Bytes of this line.
        line: usize,
        return_seen: bool,
    },
    Answer,
    Opaque,
    Failed(HttpFault),
}

#[derive(Debug)]
enum Chunk {
    Size { size: u64, digits: u8 },
    SizeEnd(u64),
    Data(u64),
    DataReturn,
    DataEnd,
}

impl HttpGuard {
    /// A guard for a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next bytes; to be called again with those that were not taken, until none are left.
    ///
    /// # Errors
    /// If the connection must end here, now and from now on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Step, HttpFault> {
        let step = match &mut self.state {
            State::Failed(fault) => Err(*fault),
            State::Opaque => Ok(Step::Pass(bytes.len())),
            State::Answer => Ok(Step::Wait),
            State::Head => self.push_head(bytes),
            State::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(taken as u64);
                if *left == 0 {
                    self.end_request();
                }
                Ok(Step::Pass(taken))
            }
            State::Chunk(_) | State::Trailer { .. } => self.push_chunks(bytes),
        };
        if let Err(fault) = &step {
            self.state = State::Failed(*fault);
            self.head = Vec::new();
        }
        step
    }

    /// Looks at what the server sends, which passes in any case. After a client asked for another protocol, the
    /// beginning of the answer tells whether it gets it.
    pub fn answer(&mut self, bytes: &[u8]) {
        if !self.upgrades || self.answer.len() >= STATUS_BYTES {
            return;
        }
        let missing = STATUS_BYTES.saturating_sub(self.answer.len());
        self.answer.extend(bytes.iter().take(missing));
        if self.answer.len() == STATUS_BYTES {
            let is_switched = self.answer.starts_with(b"HTTP/1.") && self.answer.ends_with(b" 101");
            match self.state {
                State::Answer if is_switched => self.state = State::Opaque,
                State::Answer => self.state = State::Head,
                // It answers before it has seen the body; the rest is still a request.
                _ => self.upgrades = false,
            }
        }
    }

    fn push_head(&mut self, bytes: &[u8]) -> Result<Step, HttpFault> {
        let held = self.head.len();
        let room = MAX_HEAD_BYTES.saturating_sub(held);
        let new = bytes.get(..room).unwrap_or(bytes);
        self.head.extend_from_slice(new);
        // Read again only when a line ends, so that a head in small pieces costs no more than its lines.
        if !new.contains(&b'\n') && self.head.len() < MAX_HEAD_BYTES {
            return Ok(Step::Held(new.len()));
        }
        let Some(head) = Head::parse(&self.head)? else {
            return Ok(Step::Held(new.len()));
        };
        let taken = head.bytes.saturating_sub(held);
        let mut bytes = std::mem::take(&mut self.head);
        bytes.truncate(head.bytes);
        self.upgrades = head.upgrades && !self.is_later;
        self.is_later = true;
        match head.body {
            Body::Length(0) => self.end_request(),
            Body::Length(length) => self.state = State::Length(length),
            Body::Chunked => self.state = State::Chunk(Chunk::Size { size: 0, digits: 0 }),
        }
        Ok(Step::Request { taken, host: head.host, head: bytes })
    }

    fn push_chunks(&mut self, bytes: &[u8]) -> Result<Step, HttpFault> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            match &mut self.state {
                State::Chunk(Chunk::Data(left)) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left = left.saturating_sub(taken as u64);
                    if *left == 0 {
                        self.state = State::Chunk(Chunk::DataReturn);
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                    continue;
                }
                State::Chunk(chunk) => self.state = next_chunk(chunk, byte)?,
                State::Trailer { total, line, return_seen } => {
                    *total = total.saturating_add(1);
                    match (byte, *return_seen) {
                        _ if *total > MAX_HEAD_BYTES => return Err(HttpFault::TooLong),
                        (b'\n', true) if *line == 0 => self.end_request(),
                        (b'\n', true) => (*line, *return_seen) = (0, false),
                        (b'\r', false) => *return_seen = true,
                        (b'\n', false) | (_, true) => return Err(HttpFault::Malformed),
                        (_, false) => *line = line.saturating_add(1),
                    }
                }
                _ => break,
            }
            rest = after;
        }
        Ok(Step::Pass(bytes.len().saturating_sub(rest.len())))
    }

    fn end_request(&mut self) {
        self.state = if self.upgrades { State::Answer } else { State::Head };
    }
}

/// After one more byte around the data of a chunk (RFC 9112, 7.1). Extensions are refused: nobody uses them but to
/// have two readers see two ends.
fn next_chunk(chunk: &Chunk, byte: u8) -> Result<State, HttpFault> {
    let chunk = match (chunk, byte) {
        (Chunk::Size { size, digits }, b'\r') if *digits > 0 => Chunk::SizeEnd(*size),
        (Chunk::Size { size, digits }, _) if *digits < MAX_SIZE_DIGITS => {
            let digit = char::from(byte).to_digit(16).ok_or(HttpFault::AmbiguousLength)?;
            let size = size.saturating_mul(16).saturating_add(u64::from(digit));
            Chunk::Size { size, digits: digits.saturating_add(1) }
        }
        (Chunk::SizeEnd(0), b'\n') => return Ok(State::Trailer { total: 0, line: 0, return_seen: false }),
        (Chunk::SizeEnd(size), b'\n') => Chunk::Data(*size),
        (Chunk::DataReturn, b'\r') => Chunk::DataEnd,
        (Chunk::DataEnd, b'\n') => Chunk::Size { size: 0, digits: 0 },
        _ => return Err(HttpFault::AmbiguousLength),
    };
    Ok(State::Chunk(chunk))
}

/// What the first bytes of a stream that is not TLS claim.
pub(super) fn claim(bytes: &[u8]) -> Claim {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
    let text = bytes.get(start..).unwrap_or_default();
    // What is decided must not depend on how much has come: a word counts once it has ended or is too long for a method, and
    // then no byte behind that counts.
    let longest = MAX_METHOD_BYTES.saturating_add(1);
    let seen = text.get(..longest).unwrap_or(text);
    let word_ends = seen.iter().position(u8::is_ascii_whitespace);
    let word = seen.get(..word_ends.unwrap_or(seen.len())).unwrap_or_default();
    // No method of any server has such bytes.
    if word.iter().any(|byte| byte.is_ascii_control() || !byte.is_ascii()) {
        return Claim::None;
    }
    // The first line of SSH (RFC 4253, 4.2), if it is not a request by an odd method as well.
    if start == 0 && word.starts_with(b"SSH-") {
        let banner = text.get(..MAX_BANNER_BYTES).unwrap_or(text);
        let line = banner.iter().position(|byte| *byte == b'\n').and_then(|end| banner.get(..end));
        let is_request = |line: &[u8]| line.windows(6).any(|part| part.eq_ignore_ascii_case(b" HTTP/"));
        match line {
            Some(line) if !is_request(line) => return Claim::None,
            None if banner.len() < MAX_BANNER_BYTES => return Claim::Unknown,
            Some(_) | None => {}
        }
    }
    if word_ends.is_none() {
        return if word.len() < longest { Claim::Unknown } else { Claim::Nameless };
    }
    match Head::parse(bytes) {
        Ok(Some(head)) => Claim::Name(head.host),
        Ok(None) => Claim::Unknown,
        Err(_) => Claim::Nameless,
    }
}

#[cfg(test)]
mod tests;
