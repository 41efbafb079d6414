//! Bytes moved between the gateway and connections.

use std::io;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::Driver;
use super::socket::Kind;
use crate::action::{Incoming, Outgoing};
use crate::flow::FlowId;

impl Driver {
    /// Moves what can be moved of `flow`, both ways.
    pub(super) fn transfer(&mut self, now: Instant, flow: FlowId) {
        let is_stream = self.sockets.get(flow).is_some_and(|socket| matches!(socket.kind, Kind::Stream(_)));
        if is_stream && (self.serve_host(now, flow).is_err() || self.serve_guest(flow).is_err()) {
            self.gateway.host_failed(now, flow);
            return;
        }
        self.gateway.settle(now, flow);
    }

    fn serve_host(&mut self, now: Instant, flow: FlowId) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(flow) else { return Ok(()) };
        let Kind::Stream(stream) = &mut socket.kind else { return Ok(()) };
        while stream.writable {
            match self.gateway.outgoing(now, flow) {
                Outgoing::Bytes(bytes) => match send(&socket.descriptor, bytes, SendFlags::NOSIGNAL) {
                    Ok(count) => {
                        stream.writable = count == bytes.len();
                        self.gateway.sent(flow, count);
                    }
                    Err(Errno::AGAIN) => stream.writable = false,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                },
                Outgoing::Nothing => break,
                Outgoing::End => {
                    // The other side may be gone already, which the next read tells.
                    let _ = shutdown(&socket.descriptor, Shutdown::Write);
                    break;
                }
            }
        }
        Ok(())
    }

    fn serve_guest(&mut self, flow: FlowId) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(flow) else { return Ok(()) };
        let Kind::Stream(stream) = &mut socket.kind else { return Ok(()) };
        while stream.readable && !stream.ended {
            let descriptor = &socket.descriptor;
            let read = self.gateway.incoming(flow, |space| {
                let length = space.len();
                match recv(descriptor, space, RecvFlags::empty()) {
                    Ok((_, count)) => (count, Ok((count, length))),
                    Err(error) => (0, Err(error)),
                }
            });
            match read {
                Incoming::Full => break,
                Incoming::Read(Ok((0, _))) => {
                    stream.ended = true;
                    self.gateway.host_ended(flow);
                }
                // Less than there was room for is all that there was, unless the end comes right behind it.
                Incoming::Read(Ok((count, length))) => stream.readable = count == length || stream.ending,
                Incoming::Read(Err(Errno::AGAIN)) => stream.readable = false,
                Incoming::Read(Err(Errno::INTR)) => {}
                Incoming::Read(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
