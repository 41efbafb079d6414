//! What a guest says on its console, or an engine on its standard error: a bounded log file and the last lines.
//!
//! The writer is not trusted. It may write without end, without line breaks, and faster than any disk; it is always
//! drained, so that it never waits for us, and what goes beyond the limits is left out and counted.
//!
//! ```text
//! pipe ──▶ Log ──▶ NAME        up to `FILE_BYTES`, then renamed to NAME.1, which is replaced
//!              └─▶ last lines  `TAIL_LINES` of at most `LINE_BYTES`, for error messages
//! ```

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::seccomp::{self, Role};

/// Lines that are kept for error messages.
const TAIL_LINES: usize = 40;

/// Longest line that is kept for error messages, in bytes; the file has all of it.
const LINE_BYTES: usize = 512;

/// Size at which a log file is rotated, in bytes.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes per second that go to the file in the long run, and bytes that may come at once: far more than a kernel says
/// while it boots or dies, far less than what would be felt on a disk.
const RATE_BYTES: u64 = 256 * 1024;
const BURST_BYTES: u64 = 2 * 1024 * 1024;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 4096;

/// Stack of the thread that drains a pipe, in bytes.
const STACK_BYTES: usize = 64 * 1024;

/// How the kernel begins the line that says why it stopped (`panic()` in kernel/panic.c).
const PANIC_MARK: &str = "Kernel panic - not syncing: ";

/// The last lines of a log, shared with whoever wants to show them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    complete: VecDeque<String>,
    partial: Vec<u8>,
    panic: Option<String>,
}

impl Tail {
    /// The last lines, oldest first. They are whatever the guest wrote: not safe to show on a terminal as they are.
    #[must_use]
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = (!lines.partial.is_empty()).then(|| text(&lines.partial));
        lines.complete.iter().cloned().chain(partial).collect()
    }

    /// Why the kernel panicked, if a line said so.
    #[must_use]
    pub(crate) fn panic(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).panic.clone()
    }

    fn add(&self, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            if byte == b'\n' {
                let line = text(&std::mem::take(&mut lines.partial));
                lines.complete_line(line);
            } else if lines.partial.len() < LINE_BYTES {
                lines.partial.push(byte);
            }
        }
    }
}

impl Lines {
    fn complete_line(&mut self, line: String) {
        if self.panic.is_none()
            && let Some((_, reason)) = line.split_once(PANIC_MARK)
        {
            self.panic = Some(reason.to_owned());
        }
        if self.complete.len() == TAIL_LINES {
            self.complete.pop_front();
        }
        self.complete.push_back(line);
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// A log file with its tail.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    tail: Tail,
    allowance: Allowance,
    left_out: u64,
}

impl Log {
    /// Begins the log at `path` anew; what an earlier run left is kept as `NAME.1`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        keep_previous(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            file: Some(open(path)?),
            written: 0,
            tail: Tail::default(),
            allowance: Allowance { bytes: BURST_BYTES, at: Instant::now() },
            left_out: 0,
        })
    }

    pub(crate) fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Drains `source` until its end, on a thread of its own.
    pub(crate) fn drain(
        mut self,
        name: &str,
        mut source: impl Read + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        seccomp::spawn(thread, Role::Log, move || {
            let mut chunk = [0_u8; CHUNK_BYTES];
            loop {
                match source.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(count) => self.write(chunk.get(..count).unwrap_or_default(), Instant::now()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(%error, path = %self.path.display(), "cannot read what is to be logged");
                        break;
                    }
                }
            }
        })
    }

    /// Adds what was said just now.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.write(bytes, Instant::now());
    }

    fn write(&mut self, bytes: &[u8], now: Instant) {
        self.tail.add(bytes);
        let allowed = self.allowance.take(bytes.len() as u64, now);
        if !allowed {
            self.left_out = self.left_out.saturating_add(bytes.len() as u64);
            return;
        }
        if let Err(error) = self.write_file(bytes) {
            // A full disk must not stop the machine; the last lines are still there.
            tracing::warn!(%error, path = %self.path.display(), "cannot write the log");
            self.file = None;
        }
    }

    fn write_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written >= FILE_BYTES {
            keep_previous(&self.path)?;
            self.file = Some(open(&self.path)?);
            self.written = 0;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.left_out > 0 {
            let note =
                format!("\n[{} bytes left out: too much at once]\n", std::mem::take(&mut self.left_out));
            file.write_all(note.as_bytes())?;
        }
        file.write_all(bytes)?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// A token bucket of bytes.
#[derive(Debug)]
struct Allowance {
    bytes: u64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, wanted: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        let earned = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(RATE_BYTES) / 1000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(BURST_BYTES);
            self.at = now;
        }
        match self.bytes.checked_sub(wanted) {
            Some(rest) => {
                self.bytes = rest;
                true
            }
            None => false,
        }
    }
}

fn keep_previous(path: &Path) -> io::Result<()> {
    let mut previous = path.as_os_str().to_owned();
    previous.push(".1");
    match std::fs::rename(path, &previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // The guest may have printed secrets.
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(&directory.path().join("console.log")).unwrap();
        (directory, log)
    }

    #[test]
    fn the_file_has_everything_and_the_tail_the_last_lines() {
        let (directory, log) = log();
        let tail = log.tail();
        let text: String = (0..100).map(|line| format!("line {line}\r\n")).collect();
        log.drain("test", Cursor::new(text.clone() + "half a line")).unwrap().join().unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.path().join("console.log")).unwrap(),
            text + "half a line"
        );
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES + 1);
        assert_eq!(lines.first().unwrap(), "line 60");
        assert_eq!(lines.last().unwrap(), "half a line");
        assert_eq!(tail.panic(), None);
    }

    #[test]
    fn a_line_without_end_is_cut_in_the_tail() {
        let (_directory, mut log) = log();
        log.write(&[b'x'; 10_000], Instant::now());
        log.write(b"\n\xff\n", Instant::now());
        assert_eq!(log.tail().lines(), ["x".repeat(LINE_BYTES), "\u{fffd}".to_owned()]);
    }

    #[test]
    fn a_kernel_panic_is_recognised() {
        let (_directory, mut log) = log();
        log.write(
            b"[    0.6] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n",
            Instant::now(),
        );
        assert_eq!(log.tail().panic().unwrap(), "Attempted to kill init! exitcode=0x00000100");
    }

    #[test]
    fn a_flood_neither_fills_the_disk_nor_hides_the_last_lines() {
        let (directory, mut log) = log();
        let mut now = Instant::now();
        for _ in 0..4096 {
            log.write(&[b'y'; CHUNK_BYTES], now);
        }
        log.write(b"\nthe end\n", now);
        assert_eq!(log.tail().lines().last().unwrap(), "the end");
        let size = || std::fs::metadata(directory.path().join("console.log")).unwrap().len();
        assert_eq!(size(), BURST_BYTES);
        now += Duration::from_secs(1);
        log.write(b"later\n", now);
        let text = std::fs::read_to_string(directory.path().join("console.log")).unwrap();
        assert!(text.ends_with("bytes left out: too much at once]\nlater\n"), "{}", &text[text.len() - 80..]);
    }

    #[test]
    fn a_long_log_is_rotated_and_an_earlier_run_is_kept() {
        let (directory, mut log) = log();
        let mut now = Instant::now();
        for _ in 0..=FILE_BYTES / CHUNK_BYTES as u64 {
            now += Duration::from_secs(1);
            log.write(&[b'z'; CHUNK_BYTES], now);
        }
        let size = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().len();
        assert_eq!(size("console.log.1"), FILE_BYTES);
        assert_eq!(size("console.log"), CHUNK_BYTES as u64);
        drop(Log::create(&directory.path().join("console.log")).unwrap());
        assert_eq!((size("console.log.1"), size("console.log")), (CHUNK_BYTES as u64, 0));
    }
}
