//! Pseudo-terminals for commands.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use sbx_proto::WindowSize;

/// The two ends of a new pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Our end: what the user types goes in, what the user sees comes out. Does not block.
    pub controller: OwnedFd,
    /// The command's end.
    pub device: OwnedFd,
}

impl Terminal {
    /// Makes a terminal that belongs to `owner`, so that programs may open it by its path.
    pub(crate) fn open(size: WindowSize, owner: Option<Uid>) -> Result<Self, Errno> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&controller)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let device = ioctl_tiocgptpeer(&controller, flags)?;
        if let Some(owner) = owner {
            fchown(&device, Some(owner), None::<Gid>)?;
        }
        // Erasing a character erases all bytes of it. Everybody's text is UTF-8 now.
        let mut modes = tcgetattr(&device)?;
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&device, OptionalActions::Now, &modes)?;
        resize(&controller, size)?;
        rustix::io::ioctl_fionbio(&controller, true)?;
        Ok(Self { controller, device })
    }
}

/// Gives the terminal a new size; the kernel tells its foreground process group.
pub(crate) fn resize(controller: impl AsFd, size: WindowSize) -> Result<(), Errno> {
    tcsetwinsize(controller, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })
}
