//! The one ext4 ioctl that the guest needs.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `EXT4_IOC_RESIZE_FS`, `_IOW('f', 16, __u64)` (fs/ext4/ext4.h).
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// Grows the mounted ext4 file system that `directory` lies on to `blocks` blocks of its own block size.
///
/// # Errors
/// What the kernel says; `EPERM` or `EOPNOTSUPP` if this file system cannot be grown while mounted.
pub(crate) fn resize(directory: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the ioctl reads one u64 from the pointer, which is valid for the length of the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const blocks) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
