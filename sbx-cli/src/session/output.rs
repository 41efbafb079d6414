//! Standard output and error of the command, to ours, byte for byte.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use sbx_proto::AgentRequest;

use super::Agent;
use crate::error::{CommandError, Result};

/// Signal number of SIGPIPE (signal(7)), the same in every guest that we run.
const SIGPIPE: i32 = 13;

/// One of our own streams.
#[derive(Debug)]
pub(super) struct Output {
    name: &'static str,
    /// None once its reader went away.
    file: Option<File>,
}

impl Output {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self::new("stdout", io::stdout().as_fd().try_clone_to_owned())
    }

    /// Standard error.
    pub(super) fn stderr() -> Self {
        Self::new("stderr", io::stderr().as_fd().try_clone_to_owned())
    }

    /// Not through `io::stdout`, which is line-buffered and would cut binary output into small writes.
    fn new(name: &'static str, descriptor: io::Result<OwnedFd>) -> Self {
        Self { name, file: descriptor.ok().map(File::from) }
    }

    /// Writes all of `bytes`. When the reader is gone, the command gets the SIGPIPE that it would get without us.
    ///
    /// # Errors
    /// If the stream cannot be written for another reason, such as a full disk.
    pub(super) fn write(&mut self, bytes: &[u8], agent: &Agent) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        match file.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.file = None;
                agent.send(&AgentRequest::Signal(SIGPIPE));
                Ok(())
            }
            Err(error) => {
                Err(CommandError::failed(format!("cannot write to {}", self.name)).with_source(error))
            }
        }
    }
}
