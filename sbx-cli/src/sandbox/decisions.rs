//! What the network decided: written down in `policy.log`, and told to whoever holds a lease.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::PathBuf,
};

use rustix::net::{SendFlags, send};
use sbx_proto::encode_frame;

use super::{control::Notice, directory::SandboxDirectory};
use crate::{network::journal::Entry, ui::printable};

/// Bytes of `policy.log` after which it becomes `policy.log.1`, in place of an older one.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// Refusals that terminals are told of in a sandbox's life: who has seen so many looks into the log.
const MAX_NOTICES: usize = 200;

/// Only the user may see what the sandbox reaches for.
const FILE_MODE: u32 = 0o600;

/// Writes decisions down and tells them.
#[derive(Debug)]
pub(super) struct Decisions {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    listeners: Vec<UnixStream>,
    told: HashSet<String>,
}

impl Decisions {
    /// For the log of the sandbox in `directory`, which is continued.
    pub(super) fn new(directory: &SandboxDirectory) -> Self {
        Self {
            path: directory.policy_log(),
            file: None,
            bytes: 0,
            listeners: Vec::new(),
            told: HashSet::new(),
        }
    }

    /// Tells refusals over this connection as well, from now on.
    pub(super) fn add_listener(&mut self, connection: &UnixStream) {
        // A sandbox that stays up sees many commands come and go, and may have nothing to tell for days.
        self.tell(&[]);
        match connection.try_clone() {
            Ok(connection) => self.listeners.push(connection),
            Err(error) => tracing::warn!(%error, "a terminal will not hear of refusals"),
        }
    }

    /// Something was decided.
    pub(super) fn decided(&mut self, entry: &Entry) {
        if let Err(error) = self.write(entry) {
            // Tried anew with the next one: a disk that was full may have room then.
            tracing::warn!(%error, "cannot write {}", self.path.display());
            self.file = None;
        }
        let Some(line) = entry.notice().map(|line| printable(&line)) else { return };
        if self.told.len() >= MAX_NOTICES || !self.told.insert(line.clone()) {
            return;
        }
        let Ok(frame) = encode_frame(&Notice { line }) else { return };
        self.tell(&frame);
    }

    /// Sends `frame`, which may be nothing, to all listeners. Nobody is waited for: a connection that is full or gone hears no
    /// more.
    fn tell(&mut self, frame: &[u8]) {
        self.listeners.retain(|listener| {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            send(listener, frame, flags).is_ok_and(|count| count == frame.len())
        });
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if self.bytes >= MAX_LOG_BYTES {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(&self.path)?;
                self.bytes = file.metadata()?.len();
                // A line that a killed process left half written ends here.
                if self.bytes > 0 {
                    (&file).write_all(b"\n")?;
                }
                self.file.insert(file)
            }
        };
        file.write_all(&line)?;
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_that_are_gone_are_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut decisions = Decisions::new(&SandboxDirectory::new(directory.path().to_path_buf()));
        let (stays, _here) = UnixStream::pair().unwrap();
        decisions.add_listener(&stays);
        for _ in 0..100 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            decisions.add_listener(&ours);
            drop(theirs);
        }
        assert!(decisions.listeners.len() <= 2, "{}", decisions.listeners.len());
    }
}
