//! Bringing up the loopback interface.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets `IFF_UP` and `IFF_RUNNING` on `lo`; the kernel gives it 127.0.0.1 and ::1 by itself.
///
/// `socket` is any socket of the Internet family.
///
/// # Errors
/// What the kernel says.
pub(crate) fn bring_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = (*byte).cast_signed();
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags set, valid for the length of the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
