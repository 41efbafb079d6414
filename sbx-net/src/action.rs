//! What the gateway wants to have done with sockets of the host.

use std::net::SocketAddr;

use crate::dns::Server;
use crate::flow::{ExchangeId, FlowId};
use crate::name::Name;

/// Something for the driver to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Connect, and tell with `connected` or `connect_failed`.
    Connect {
        /// For this flow.
        flow: FlowId,
        /// Where to.
        address: SocketAddr,
        /// The name that stands for the address, for a proxy that resolves names itself.
        name: Option<Name>,
    },
    /// Move bytes between the flow and its socket, then `settle` it.
    Transfer(FlowId),
    /// Close the flow's socket.
    Close {
        /// Of this flow.
        flow: FlowId,
        /// With a reset, since the guest's side ended with one.
        reset: bool,
    },
    /// Send a datagram, with a socket of the exchange's own that is opened for the first one.
    Datagram {
        /// For this exchange.
        exchange: ExchangeId,
        /// Where to.
        address: SocketAddr,
        /// The data.
        data: Vec<u8>,
    },
    /// Close the socket of this exchange.
    EndExchange(ExchangeId),
    /// Ask a name server of the host, and tell with `handle_answer` or `handle_no_answer`.
    Ask {
        /// Whom.
        server: Server,
        /// The question, without its length.
        bytes: Vec<u8>,
        /// Names the question.
        token: u64,
        /// Over a connection, since the answer does not fit into a datagram.
        over_tcp: bool,
    },
}

/// Why the host could not connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectFailure {
    /// Somebody said no.
    Refused,
    /// Nobody is there, or the host has no way there.
    Unreachable,
}

/// What the guest has for the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outgoing<'b> {
    /// These bytes, perhaps more behind them.
    Bytes(&'b [u8]),
    /// Nothing now.
    Nothing,
    /// Nothing any more: the direction ends here. Said once.
    End,
}

/// What became of an offer of bytes for the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incoming<R> {
    /// There was room, and this is what the reader said.
    Read(R),
    /// There is no room now, or none may pass yet; another `Transfer` will follow.
    Full,
}
