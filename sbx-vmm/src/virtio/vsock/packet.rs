//! The header of a packet, and what its fields may say (virtio 1.2, 5.10.6).
//!
//! ```text
//! rx and tx chains: [ header, 44 bytes | data, `length` bytes ]
//!
//!  0 source_cid u64         8 destination_cid u64
//! 16 source_port u32       20 destination_port u32
//! 24 length u32            28 kind u16               30 operation u16
//! 32 flags u32             36 buffer_allocation u32  40 forward_count u32
//! ```
//!
//! All numbers are little-endian. The crate virtio-vsock is not used, because it takes data in one descriptor only
//! and Linux sends several (MSG_ZEROCOPY).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::virtio::buffers::Buffers;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// The host's address (virtio 1.2, 5.10.4).
pub(super) const HOST_CID: u64 = 2;

/// The only kind of socket there is: a stream of bytes.
pub(super) const STREAM: u16 = 1;

/// A packet's header as it is in guest memory.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(super) struct Header {
    pub(super) source_cid: U64,
    pub(super) destination_cid: U64,
    pub(super) source_port: U32,
    pub(super) destination_port: U32,
    pub(super) length: U32,
    pub(super) kind: U16,
    pub(super) operation: U16,
    pub(super) flags: U32,
    pub(super) buffer_allocation: U32,
    pub(super) forward_count: U32,
}

impl Header {
    /// Takes a packet apart; `None` if it is shorter than its header says. What lies behind the data is ignored.
    pub(super) fn parse(mut bytes: Buffers<'_>) -> Option<(Self, Buffers<'_>)> {
        let header: [u8; HEADER_BYTES] = bytes.take_front(HEADER_BYTES).read()?;
        let header = Self::read_from_bytes(&header).ok()?;
        let length = usize::try_from(header.length.get()).ok()?;
        let data = bytes.take_front(length);
        (data.len() == length).then_some((header, data))
    }

    /// Both ports, as seen from the host.
    pub(super) fn ports(&self) -> Ports {
        Ports { host: self.destination_port.get(), guest: self.source_port.get() }
    }

    /// The answer that tells the sender of this packet that there is no such connection.
    pub(super) fn reset(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            kind: self.kind,
            operation: Operation::Reset.code(),
            ..Self::default()
        }
    }
}

/// What identifies a connection: there is one host and one guest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// What a packet is for, with its number on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(super) enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Operation {
    /// The operation with this number.
    pub(super) fn from_code(code: U16) -> Option<Self> {
        Some(match code.get() {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// The operation's number.
    pub(super) fn code(self) -> U16 {
        U16::new(self as u16)
    }
}

/// Which directions an end has given up, in the flags of a shutdown packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Shutdown {
    /// The sender of the packet will receive no more.
    pub(super) receive: bool,
    /// The sender of the packet will send no more.
    pub(super) send: bool,
}

impl Shutdown {
    const RECEIVE: u32 = 1;
    const SEND: u32 = 2;

    pub(super) fn from_flags(flags: U32) -> Self {
        let flags = flags.get();
        Self { receive: flags & Self::RECEIVE != 0, send: flags & Self::SEND != 0 }
    }

    pub(super) fn flags(self) -> U32 {
        U32::new(if self.receive { Self::RECEIVE } else { 0 } | if self.send { Self::SEND } else { 0 })
    }

    /// What was given up before stays given up.
    pub(super) fn and(self, other: Self) -> Self {
        Self { receive: self.receive || other.receive, send: self.send || other.send }
    }

    pub(super) fn is_complete(self) -> bool {
        self.receive && self.send
    }
}
