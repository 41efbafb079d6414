//! Event file descriptors as transports use them: watched, rung, emptied.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

/// Adds `source` to `epoll`, level-triggered for reading.
pub(super) fn watch(epoll: &OwnedFd, source: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, source, EventData::new_u64(token), EventFlags::IN)?)
}

/// Adds one to the counter of `event`. A full counter means that whoever waits has been told already.
pub(crate) fn ring(event: impl AsFd) -> io::Result<()> {
    match rustix::io::write(event, &1_u64.to_ne_bytes()) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Empties the counter of `event`, which does not block.
pub(super) fn drain(event: impl AsFd) -> io::Result<()> {
    let mut counter = [0_u8; 8];
    match rustix::io::read(event, &mut counter) {
        Ok(8) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error.into()),
    }
}
