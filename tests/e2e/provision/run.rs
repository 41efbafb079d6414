//! A run of the program beside the test, which reads what it says and decides when it ends.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStderr, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// The run. Its lines have what it logs of its own work among them.
pub(super) struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
}

impl Run {
    /// Starts it.
    pub(super) fn start(mut command: Command) -> Self {
        command.env("SBX_LOG", "sbx=debug,sbx_image=debug").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits until it says `text`.
    #[track_caller]
    pub(super) fn says(&mut self, text: &str) {
        let seen = &mut self.seen;
        let mut lines = self.lines.by_ref().map_while(Result::ok).inspect(|line| seen.push(line.clone()));
        let found = lines.any(|line| line.contains(text));
        drop(lines);
        assert!(found, "it never said `{text}`: {:#?}", self.seen);
    }

    /// Whether it has said `text` so far.
    pub(super) fn has_said(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self
    }

    /// Stops it where it is, or lets it go on.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ends, however it does.
    pub(super) fn ends(mut self) {
        self.child.wait().unwrap();
    }

    /// Waits until it ends, and expects that all went well.
    #[track_caller]
    pub(super) fn success(mut self) -> Self {
        self.seen.extend(self.lines.by_ref().map_while(Result::ok));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.seen);
        self
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
