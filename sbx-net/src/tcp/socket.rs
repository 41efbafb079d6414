//! One connection of the guest.

use std::net::SocketAddr;

use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// How long the guest may take to complete a connection: a little less than Linux's own patience with its peers (five times a SYN-ACK,
/// 63 seconds). A guest that never does would have all connections taken by halves.
const HANDSHAKE: Duration = Duration::from_secs(60);

use super::buffers::LARGEST_BYTES;

/// What has become of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It goes on.
    Open,
    /// Both sides have ended it; bytes of the guest may still be there.
    Finished,
    /// One side ended it with a reset.
    Reset,
}

/// Sockets kept for reuse: with their buffers 8 MiB, besides what the budget has.
const MAX_SPARE: usize = 4;

/// Sockets whose connections have ended, to be used again: to get and clear two large buffers costs more than all the rest
/// of a short connection. A few are enough, since those that come and go at the same time are the ones that matter.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    sockets: Vec<TcpSocket>,
}

impl Spare {
    /// Keeps a socket that nobody uses any more. Only the largest are worth it.
    pub(crate) fn keep(&mut self, mut socket: TcpSocket) {
        let ended = !socket.socket().is_open();
        if ended && self.sockets.len() < MAX_SPARE && socket.socket().recv_capacity() == LARGEST_BYTES {
            socket.finished = false;
            socket.guest_finished = false;
            socket.socket_mut().set_timeout(Some(HANDSHAKE));
            self.sockets.push(socket);
        }
    }

    /// A socket of this size, which forgets all of its former connection when it begins another.
    fn take(&mut self, size: usize) -> Option<TcpSocket> {
        if size == LARGEST_BYTES { self.sockets.pop() } else { None }
    }
}

/// A socket, alone in its set.
#[derive(Debug)]
pub(crate) struct TcpSocket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// Whether the gateway's direction was ended.
    finished: bool,
    /// Whether the guest's direction was seen to have ended.
    guest_finished: bool,
}

impl TcpSocket {
    /// A socket with `size` bytes of buffer for each direction.
    fn new(size: usize) -> Self {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; size]), SocketBuffer::new(vec![0; size]));
        // The program at the other end knows whether to wait for more, and has done so.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(HANDSHAKE));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle, finished: false, guest_finished: false }
    }

    /// A socket for the connection that the guest opens to `remote`; it has to be given the guest's SYN.
    pub(crate) fn accepting(spare: &mut Spare, size: usize, remote: SocketAddr) -> Option<Self> {
        let mut this = spare.take(size).unwrap_or_else(|| Self::new(size));
        this.socket_mut().listen((smoltcp::wire::IpAddress::from(remote.ip()), remote.port())).ok()?;
        Some(this)
    }

    /// A socket that connects to the guest at `guest`, from `gateway`.
    pub(crate) fn connecting(
        size: usize,
        context: &mut Context,
        guest: SocketAddr,
        gateway: SocketAddr,
    ) -> Option<Self> {
        let mut this = Self::new(size);
        let guest = (smoltcp::wire::IpAddress::from(guest.ip()), guest.port());
        let gateway = (smoltcp::wire::IpAddress::from(gateway.ip()), gateway.port());
        this.socket_mut().connect(context, guest, gateway).ok()?;
        Some(this)
    }

    /// From now on the guest may take as long as it likes, since it may have been halted: it has completed the connection.
    pub(crate) fn has_time(&mut self) {
        if self.is_established() {
            self.socket_mut().set_timeout(None);
        }
    }

    pub(super) fn set(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }

    fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Whether both sides know of the connection.
    pub(crate) fn is_established(&self) -> bool {
        !matches!(self.socket().state(), State::Listen | State::SynSent | State::SynReceived)
    }

    /// What has become of the connection. To be asked whenever it may have changed.
    pub(crate) fn fate(&mut self) -> Fate {
        let state = self.socket().state();
        self.guest_finished |=
            matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        match state {
            // One that was closed by both sides lives on in the guest for a while (TIME-WAIT); here it is not kept, since
            // packets on this link do not come late.
            State::Closed | State::TimeWait if self.finished && self.guest_finished => Fate::Finished,
            State::Closed => Fate::Reset,
            _ => Fate::Open,
        }
    }

    /// Whether the guest may still send.
    pub(crate) fn may_receive(&self) -> bool {
        self.socket().may_recv() || !self.is_established()
    }

    /// Whether the guest has not ended its direction yet.
    pub(crate) fn may_send_more(&self) -> bool {
        matches!(self.socket().state(), State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Bytes of the guest that are next, as many as lie together.
    pub(crate) fn received(&mut self) -> &[u8] {
        self.socket_mut().peek(usize::MAX).unwrap_or_default()
    }

    /// Takes the first `count` bytes out.
    pub(crate) fn consume(&mut self, count: usize) {
        let _ = self.socket_mut().recv(|bytes| (count.min(bytes.len()), ()));
    }

    /// Has `fill` write bytes for the guest, as many as have room together, and say how many. False if there is no room.
    pub(crate) fn send<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        let socket = self.socket_mut();
        if !socket.can_send() {
            return None;
        }
        socket
            .send(|space| {
                let length = space.len();
                let (count, result) = fill(space);
                (count.min(length), result)
            })
            .ok()
    }

    /// Sends all of `bytes`; false, with some of them sent perhaps, if there is no room.
    pub(crate) fn send_whole(&mut self, bytes: &[u8]) -> bool {
        self.socket_mut().send_slice(bytes).is_ok_and(|count| count == bytes.len())
    }

    /// Ends the gateway's direction, after what is still to be sent.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.socket_mut().close();
    }

    /// Ends the connection with a reset.
    pub(crate) fn abort(&mut self) {
        self.socket_mut().abort();
    }
}
