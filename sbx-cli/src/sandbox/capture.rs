//! What was written in a sandbox, as a tar.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
};

use sbx_proto::{AgentReply, AgentRequest, Exit, read_frame, write_frame};

use super::control;
use crate::{
    error::{CommandError, Result},
    ui::printable,
};

/// Bytes of the guest's explanation that are kept.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Ends every command of the sandbox in `directory`, and gives everything that differs from its image as a tar with the
/// whiteouts of the OCI image specification. Nothing can be started in it afterwards.
///
/// The tar ends with an error unless the guest said that it is whole.
pub(crate) fn capture(directory: &Path) -> Result<impl Read + use<>> {
    let mut connection = control::open_agent(directory)?;
    write_frame(&mut connection, &AgentRequest::Capture).map_err(|error| {
        CommandError::failed("cannot ask the sandbox for what was written in it")
            .with_source(io::Error::other(error))
    })?;
    Ok(Capture { connection, chunk: io::Cursor::default(), message: Vec::new(), ended: false })
}

/// The tar while it comes.
#[derive(Debug)]
struct Capture {
    connection: UnixStream,
    chunk: io::Cursor<Vec<u8>>,
    /// What the guest says of a failure.
    message: Vec<u8>,
    ended: bool,
}

impl Capture {
    /// Takes the next frame.
    fn advance(&mut self) -> io::Result<()> {
        match read_frame(&mut self.connection).map_err(io::Error::other)? {
            AgentReply::Stdout(bytes) => self.chunk = io::Cursor::new(bytes),
            AgentReply::Stderr(bytes) => {
                let room = MESSAGE_BYTES_MAX.saturating_sub(self.message.len());
                self.message.extend(bytes.into_iter().take(room));
            }
            AgentReply::Exited(Exit::Code(0)) => self.ended = true,
            AgentReply::Exited(_) => {
                return Err(io::Error::other(printable(&String::from_utf8_lossy(&self.message))));
            }
            AgentReply::Refused { message, .. } => return Err(io::Error::other(printable(&message))),
            AgentReply::Started { .. } | AgentReply::StdinWindow { .. } | AgentReply::StdinClosed => {
                return Err(io::Error::other("the guest's agent answered out of turn"));
            }
        }
        Ok(())
    }
}

impl Read for Capture {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.chunk.read(buffer)? {
                0 if self.ended || buffer.is_empty() => return Ok(0),
                0 => self.advance()?,
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sbx_proto::RefusedKind;

    use super::*;

    /// What comes of these frames.
    fn read(frames: &[AgentReply]) -> io::Result<Vec<u8>> {
        let (mut guest, connection) = UnixStream::pair().unwrap();
        for frame in frames {
            write_frame(&mut guest, frame).unwrap();
        }
        drop(guest);
        let mut capture =
            Capture { connection, chunk: io::Cursor::default(), message: Vec::new(), ended: false };
        let mut bytes = Vec::new();
        capture.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn only_what_the_guest_calls_whole_has_an_end() {
        let part = |bytes: &[u8]| AgentReply::Stdout(bytes.to_vec());
        let exit = |code| AgentReply::Exited(Exit::Code(code));
        assert_eq!(read(&[part(b"ab"), part(b""), part(b"c"), exit(0)]).unwrap(), b"abc");
        assert!(read(&[part(b"ab")]).is_err(), "the connection broke off");
        let failed = read(&[part(b"ab"), AgentReply::Stderr(b"no\x1b[2J".to_vec()), exit(1)]).unwrap_err();
        assert!(failed.to_string().starts_with("no") && !failed.to_string().contains('\x1b'), "{failed}");
        let refused = AgentReply::Refused { kind: RefusedKind::Failed, message: "not here".to_owned() };
        assert_eq!(read(&[refused]).unwrap_err().to_string(), "not here");
        assert!(read(&[AgentReply::Started { pid: 1 }, exit(0)]).is_err());
        assert!(read(&[AgentReply::Exited(Exit::Signal(9))]).is_err());
    }
}
