//! What was written in the machine, as a tar: the upper directory of the root's overlay, in the words of the OCI image
//! specification.
//!
//! | in the upper directory | in the tar |
//! |---|---|
//! | a file, directory, link, device or FIFO | itself, with its extended attributes |
//! | a character device 0:0 | `.wh.NAME`: the image's file of this name is gone |
//! | a directory with `trusted.overlay.opaque` | itself and `.wh..wh..opq`: of the image's nothing is left in it |
//! | a directory with `trusted.overlay.redirect` | the same, with everything that is seen in it: it was renamed |
//! | a socket | nothing |
//!
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", "redirect_dir".) The order is the
//! directory's own; the host sorts. A file that goes by a name like a whiteout's has no place in an image.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use sbx_proto::{AgentReply, Exit, MAX_CHUNK_BYTES, write_frame};

use crate::console;

mod entry;
mod walk;

use walk::{View, Walk};

/// Everything that a capture needs of the machine.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The scratch disk's root.
    scratch: OwnedFd,
}

/// Why nothing, or not all, could be captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// A file could not be read.
    #[error("cannot {action} {path}")]
    Read {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The path is longer than any can be in an image.
    #[error("the path {path}… is longer than {limit} bytes")]
    Path {
        /// Its beginning.
        path: String,
        /// Most bytes.
        limit: usize,
    },
    /// The host does not take it.
    #[error("cannot send it")]
    Send(#[source] io::Error),
}

impl Changes {
    /// What was written to the scratch disk whose root is `scratch`.
    pub(crate) fn new(scratch: OwnedFd) -> Self {
        Self { scratch }
    }

    /// Sends the tar over `connection`, and how that ended.
    pub(crate) fn send(&self, connection: &mut File) {
        let mut tar = BufWriter::with_capacity(MAX_CHUNK_BYTES, Frames(&mut *connection));
        let sent = self.write(&mut tar).and_then(|()| tar.flush().map_err(CaptureError::Send));
        drop(tar);
        let exit = match sent {
            Ok(()) => Exit::Code(0),
            Err(error) => {
                let message = console::chain(&error);
                console::say(&format!("cannot capture the machine: {message}"));
                let _ = write_frame(&mut *connection, &AgentReply::Stderr(message.into_bytes()));
                Exit::Code(1)
            }
        };
        let _ = write_frame(connection, &AgentReply::Exited(exit));
    }

    fn write(&self, to: &mut dyn Write) -> Result<(), CaptureError> {
        let failed = |action, path: &str| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| CaptureError::Read { action, path, source: error.into() }
        };
        rustix::fs::syncfs(&self.scratch).map_err(failed("sync", "the scratch disk"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = openat(&self.scratch, "upper", flags, Mode::empty()).map_err(failed("open", "upper"))?;
        // Only the root's own file system: nothing that is mounted in it.
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let merged = open_tree(CWD, "/", clone).map_err(failed("open", "/"))?;
        write(upper.as_fd(), merged.as_fd(), to)
    }
}

/// Writes what is in the overlay's `upper` directory; `merged` is the overlay.
fn write(upper: impl AsFd, merged: impl AsFd, to: &mut dyn Write) -> Result<(), CaptureError> {
    let mut walk = Walk::new(to);
    let renamed = walk.all(&upper, b"", View::Upper)?;
    for path in renamed {
        walk.all(&merged, &path, View::Merged)?;
    }
    // Two empty records end an archive.
    to.write_all(&[0; 1024]).map_err(CaptureError::Send)
}

/// Sends what is written to it as a command's output.
struct Frames<'a>(&'a mut File);

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes.get(..MAX_CHUNK_BYTES).unwrap_or(bytes);
        write_frame(&mut *self.0, &AgentReply::Stdout(chunk.to_vec())).map_err(io::Error::other)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
