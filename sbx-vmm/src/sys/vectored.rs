//! Vectored reads and writes between a file and guest memory, without a copy in between.
//!
//! Guest memory changes under our feet, and a guest may name the same bytes twice in one request, so there must
//! never be a Rust reference to it. These functions pass its addresses to the kernel and look at nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Most buffers that one system call takes (IOV_MAX of Linux).
const MAX_BUFFERS: usize = 1024;

/// Reads from `file` at `offset` into `slices`, in one system call; returns the number of bytes, 0 at the end of the
/// file.
///
/// # Errors
/// What preadv(2) says.
pub(crate) fn read_at(file: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = position(offset)?;
    let vectors = vectors(slices);
    // SAFETY: every vector is a slice of mapped memory that stays mapped while `slices` is borrowed; the kernel
    // writes within them only, and nothing in this process has a Rust reference to guest memory.
    check(unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count(&vectors), offset) })
}

/// Writes `slices` to `file` at `offset`, in one system call; returns the number of bytes written.
///
/// # Errors
/// What pwritev(2) says.
pub(crate) fn write_at(file: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = position(offset)?;
    let vectors = vectors(slices);
    // SAFETY: as in `read_at`; the kernel only reads the vectors.
    check(unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count(&vectors), offset) })
}

/// Reads from the stream `socket` into `slices`; returns the number of bytes, 0 at the end of the stream.
///
/// # Errors
/// What readv(2) says, `WouldBlock` included.
pub(crate) fn receive(socket: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let vectors = vectors(slices);
    // SAFETY: as in `read_at`.
    check(unsafe { libc::readv(socket.as_raw_fd(), vectors.as_ptr(), count(&vectors)) })
}

/// Writes `slices` to the stream `socket`, without SIGPIPE; returns the number of bytes taken.
///
/// # Errors
/// What sendmsg(2) says, `WouldBlock` included.
pub(crate) fn send(socket: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = vectors(slices);
    // SAFETY: all-zero is a valid msghdr: no name, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    // SAFETY: `message` points to `vectors`, which outlives the call; those as in `read_at`.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// The addresses of the first `MAX_BUFFERS` slices.
fn vectors(slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    slices
        .iter()
        .take(MAX_BUFFERS)
        .map(|slice| libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
        .collect()
}

/// The number of `vectors`, of which there are at most `MAX_BUFFERS`.
fn count(vectors: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX)
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
