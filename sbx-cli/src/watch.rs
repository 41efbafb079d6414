//! Waiting for files to change, without looking again and again.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify,
};

/// A watch over a few directories.
#[derive(Debug)]
pub(crate) struct Watch {
    events: OwnedFd,
}

impl Watch {
    /// Of everything that is written, made, moved or closed in `directories`; one that is not there is left out.
    ///
    /// # Errors
    /// If the user has used up the watches that the system allows.
    pub(crate) fn new<'a>(directories: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let what = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::DELETE_SELF;
        for directory in directories {
            match inotify::add_watch(&events, directory, what) {
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { events })
    }

    /// Waits until something changed since the last time, or `other` is readable.
    ///
    /// # Errors
    /// If the kernel ends the watch.
    pub(crate) fn wait_or(&self, other: impl AsFd) -> io::Result<()> {
        let mut both = [PollFd::new(&self.events, PollFlags::IN), PollFd::new(&other, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if both.first().is_some_and(|events| !events.revents().is_empty()) {
            let mut buffer = [0_u8; 4096];
            rustix::io::read(&self.events, &mut buffer)?;
        }
        Ok(())
    }
}
