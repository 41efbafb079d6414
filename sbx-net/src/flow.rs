//! One connection between the guest and something else.

use std::net::SocketAddr;
use std::time::Instant;

use slotmap::new_key_type;

use crate::name::Name;
use crate::sniff::HttpGuard;
use crate::tcp::TcpSocket;

new_key_type! {
    /// Names a connection as long as it lives; never reused soon.
    pub struct FlowId;

    /// Names datagrams to and from one place in the same way. A number of these may be one of a connection as well.
    pub struct ExchangeId;
}

impl FlowId {
    /// As a number, for event queues.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        slotmap::Key::data(&self).as_ffi()
    }

    /// What [`to_bits`](Self::to_bits) made.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        slotmap::KeyData::from_ffi(bits).into()
    }
}

/// The two ends, of which the guest's address is known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    /// Port of the guest.
    pub(crate) guest: u16,
    /// What the guest believes to be at the other end.
    pub(crate) remote: SocketAddr,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// A host, under the policy.
    Outside,
    /// A port of the host's loopback that the manifest names.
    HostService,
    /// A program on the host that came in through a published port.
    Published,
    /// The gateway's own name server.
    Names,
}

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) peer: Peer,
    pub(crate) stage: Stage,
    pub(crate) inspection: Inspection,
    /// The names that stood for the address when the connection began, and the one that the guest named.
    pub(crate) names: Vec<Name>,
    pub(crate) claimed: Option<Name>,
    /// What a stream to the name server holds of a question that is not whole yet.
    pub(crate) questions: Option<Vec<u8>>,
    /// Bytes of buffer in each direction, for the account of all.
    pub(crate) buffer_bytes: usize,
    /// The earliest timer that is set for it.
    pub(crate) timer: Option<Instant>,
    /// Whether it is in the queue of those to be looked at.
    pub(crate) queued: bool,
    /// Whether it waits for room among the frames to the guest.
    pub(crate) stalled: bool,
    /// Whether the driver was told that the guest has sent all that it will send.
    pub(crate) guest_ended: bool,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The host connects; the guest's SYN waits.
    Connecting {
        /// The IP packet.
        syn: Box<[u8]>,
    },
    /// The gateway is connected with the guest, or about to be.
    Open(Box<TcpSocket>),
}

/// Whether bytes of the guest may pass.
#[derive(Debug)]
pub(crate) enum Inspection {
    /// All may.
    Over,
    /// None, in neither direction, until they tell whom the guest speaks to.
    Waiting,
    /// Those of HTTP requests whose host was found to be right.
    Http(Box<Guarded>),
}

/// Requests on their way through the guard.
#[derive(Debug, Default)]
pub(crate) struct Guarded {
    pub(crate) guard: HttpGuard,
    /// Bytes that were taken from the guest and may be sent on.
    pub(crate) cleared: Vec<u8>,
}

impl Flow {
    pub(crate) fn new(key: Key, peer: Peer, stage: Stage) -> Self {
        Self {
            key,
            peer,
            stage,
            inspection: Inspection::Over,
            names: Vec::new(),
            claimed: None,
            questions: (peer == Peer::Names).then(Vec::new),
            buffer_bytes: 0,
            timer: None,
            queued: false,
            stalled: false,
            guest_ended: false,
        }
    }

    /// The socket, once there is one.
    pub(crate) fn socket(&mut self) -> Option<&mut TcpSocket> {
        match &mut self.stage {
            Stage::Open(socket) => Some(socket),
            Stage::Connecting { .. } => None,
        }
    }
}
