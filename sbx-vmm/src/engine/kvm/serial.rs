//! The console: a 16550 whose output goes to the log, and whose input is silent.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};

use crate::console::Log;

/// Longest line that is held back to be written as a whole, in bytes.
const LINE_BYTES: usize = 256;

/// The first UART of a PC.
pub(super) struct Console {
    uart: Serial<Line, NoEvents, Output>,
}

impl Console {
    /// A console that writes to `log`, and rings `interrupt` when the guest asks for that.
    pub(super) fn new(log: Log, interrupt: OwnedFd) -> Self {
        Self { uart: Serial::new(Line(interrupt), Output { log, line: Vec::with_capacity(LINE_BYTES) }) }
    }

    /// The event of its interrupt.
    pub(super) fn interrupt(&self) -> &OwnedFd {
        &self.uart.interrupt_evt().0
    }

    /// The guest reads register `register`.
    pub(super) fn read(&mut self, register: u8) -> u8 {
        self.uart.read(register)
    }

    /// The guest writes register `register`.
    pub(super) fn write(&mut self, register: u8, value: u8) {
        if let Err(error) = self.uart.write(register, value) {
            tracing::debug!(?error, "the console cannot do what the guest asks for");
        }
    }

    /// Logs what was not a whole line yet.
    pub(super) fn finish(&mut self) {
        self.uart.writer_mut().write_line();
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

/// The interrupt line.
struct Line(OwnedFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        crate::virtio::ring(&self.0)
    }
}

/// The other end of the wire. A UART gives single bytes; the log gets lines.
struct Output {
    log: Log,
    line: Vec<u8>,
}

impl Output {
    fn write_line(&mut self) {
        if !self.line.is_empty() {
            self.log.append(&self.line);
            self.line.clear();
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' || self.line.len() >= LINE_BYTES {
                self.write_line();
            }
        }
        Ok(bytes.len())
    }

    /// Comes after each byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
