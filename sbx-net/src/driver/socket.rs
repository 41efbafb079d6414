//! A socket of the host that belongs to a connection of the guest.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use super::SourceId;
use super::proxy::Negotiation;

/// A socket, and what is known of it since it was last asked.
#[derive(Debug)]
pub(super) struct HostSocket {
    pub(super) descriptor: OwnedFd,
    pub(super) source: SourceId,
    pub(super) kind: Kind,
}

/// What it carries.
#[derive(Debug)]
pub(super) enum Kind {
    /// A connection that is being made to this address.
    Connecting(SocketAddr),
    /// A connection to a proxy that has not connected yet.
    Proxy(Box<Negotiation>),
    /// A connection.
    Stream(Stream),
}

/// What is known of a connection. It is waited for by edges: what was ready stays so until a call finds otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side has ended or failed, which a read will tell after all else.
    pub(super) ending: bool,
    /// The end was read.
    pub(super) ended: bool,
}

impl HostSocket {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A socket for connections or datagrams to `address`, that never blocks.
pub(super) fn open(address: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let descriptor = socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if kind == SocketType::STREAM {
        prepare(descriptor.as_fd());
    }
    Ok(descriptor)
}

/// Has a connection send at once, since the program in the guest has decided what to send together, and notice in the end when the
/// other host is gone. A host that refuses either has a connection that works all the same.
pub(super) fn prepare(descriptor: BorrowedFd<'_>) {
    let _ = sockopt::set_tcp_nodelay(descriptor, true);
    let _ = sockopt::set_socket_keepalive(descriptor, true);
}

/// Has a connection end with a reset when it is closed.
pub(super) fn reset_on_close(descriptor: BorrowedFd<'_>) {
    let _ = sockopt::set_socket_linger(descriptor, Some(Duration::ZERO));
}
