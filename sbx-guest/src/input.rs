//! Standard input of a command.
//!
//! The host may send as many bytes as it was granted (see [`sbx_proto`]); they wait here until the command reads
//! them, and each byte that it took is granted anew.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use sbx_proto::STDIN_WINDOW_BYTES;

/// Credit is given back in portions of at least this size: fewer frames, and never a stall, because the host keeps
/// three quarters of its window meanwhile.
const GRANT_BYTES: usize = STDIN_WINDOW_BYTES as usize / 4;

/// Control-D, what a terminal takes for the end of input (`VEOF` of termios(3)).
const END_OF_TRANSMISSION: u8 = 0x04;

/// The way into a command's standard input.
#[derive(Debug)]
pub(crate) struct Input {
    /// Gone when the command closed its end, or had everything.
    target: Option<OwnedFd>,
    queue: VecDeque<u8>,
    /// No more bytes will be queued.
    ended: bool,
    /// Bytes that the command took and the host was not told of.
    taken: usize,
    is_terminal: bool,
}

/// The host sent more than it was granted.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("more standard input than was granted")]
pub(crate) struct Overrun;

impl Input {
    /// Standard input over a pipe; `None` if the command has none.
    pub(crate) fn pipe(target: Option<OwnedFd>) -> Self {
        Self { target, queue: VecDeque::new(), ended: false, taken: 0, is_terminal: false }
    }

    /// Standard input over a terminal.
    pub(crate) fn terminal(controller: OwnedFd) -> Self {
        Self { is_terminal: true, ..Self::pipe(Some(controller)) }
    }

    /// Queues bytes from the host.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Overrun> {
        if self.target.is_none() || self.ended {
            return Ok(());
        }
        if self.queue.len().saturating_add(bytes.len()) > STDIN_WINDOW_BYTES as usize {
            return Err(Overrun);
        }
        self.queue.extend(bytes);
        Ok(())
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        if self.is_terminal && !self.ended {
            self.queue.push_back(END_OF_TRANSMISSION);
        }
        self.ended = true;
        self.close_if_done();
    }

    /// Writes what the command takes without blocking. Returns whether the command has just closed its end.
    pub(crate) fn feed(&mut self) -> bool {
        let Some(target) = &self.target else { return false };
        while !self.queue.is_empty() {
            match rustix::io::write(target, self.queue.as_slices().0) {
                Ok(count) => {
                    self.queue.drain(..count);
                    self.taken = self.taken.saturating_add(count);
                }
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return self.close(),
            }
        }
        self.close_if_done();
        false
    }

    /// Gives up: nobody reads any more. Returns whether that is news.
    pub(crate) fn close(&mut self) -> bool {
        self.queue.clear();
        self.target.take().is_some()
    }

    /// What to grant the host now, if it is worth a frame.
    pub(crate) fn take_grant(&mut self) -> Option<u32> {
        if self.taken < GRANT_BYTES || self.ended || self.target.is_none() {
            return None;
        }
        u32::try_from(std::mem::take(&mut self.taken)).ok()
    }

    /// What to watch: writable if bytes wait. A pipe is also watched for its reader going away; a terminal says that
    /// by its output.
    pub(crate) fn watched(&self) -> Option<(BorrowedFd<'_>, bool)> {
        let waiting = !self.queue.is_empty();
        self.target.as_ref().filter(|_| waiting || !self.is_terminal).map(|target| (target.as_fd(), waiting))
    }

    fn close_if_done(&mut self) {
        if self.ended && self.queue.is_empty() && !self.is_terminal {
            self.target = None;
        }
    }
}
