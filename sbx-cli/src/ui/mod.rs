//! The one door to the terminal: data goes to stdout, everything for people to stderr.

mod patch;
mod pull;
mod style;
mod table;

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use anstream::AutoStream;
use miette::Diagnostic;

pub(crate) use self::{
    pull::PullProgress,
    style::{age, binary_size, bytes, elapsed_time, plural, printable, short_digest},
    table::Table,
};
use crate::{error::CommandError, workspace::diff::Line};

/// Columns of the label in front of a status line.
const LABEL_COLUMNS: usize = 9;

/// Output of one run of the program.
#[derive(Debug)]
pub(crate) struct Ui {
    terminal: bool,
}

impl Ui {
    /// For this process's stdout and stderr.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Whether there is a terminal to draw on.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether a question can be asked: somebody sits at both stdin and stderr.
    pub(crate) fn can_ask(&self) -> bool {
        self.terminal && io::stdin().is_terminal()
    }

    /// One line of data on stdout.
    pub(crate) fn data(&self, line: impl fmt::Display) {
        self.raw(&format!("{line}\n"));
    }

    /// Data on stdout, as it is.
    pub(crate) fn raw(&self, text: &str) {
        // A reader that went away (`sbx ls | head -1`) is not an error worth a word.
        let mut stdout = anstream::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    /// Data on stdout that need not be text, byte for byte.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// A patch on stdout: coloured and harmless on a terminal, byte for byte elsewhere.
    pub(crate) fn patch(&self, lines: &[Line]) {
        if io::stdout().is_terminal() {
            self.raw(&lines.iter().map(patch::render).collect::<String>());
        } else {
            self.bytes(&lines.iter().flat_map(|line| line.bytes.iter().copied()).collect::<Vec<_>>());
        }
    }

    /// Pretty JSON on stdout.
    pub(crate) fn json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.data(text),
            Err(error) => self.warning(format!("cannot write JSON: {error}")),
        }
    }

    /// One step that was done: `   image     docker.io/library/debian  sha256:3f1c9a…`.
    pub(crate) fn status(&self, label: &str, text: impl fmt::Display) {
        self.line(format_args!(
            "   {}{label:LABEL_COLUMNS$}{} {text}",
            style::LABEL,
            style::LABEL.render_reset()
        ));
    }

    /// A second line under a status.
    pub(crate) fn detail(&self, text: impl fmt::Display) {
        self.line(format_args!("   {:LABEL_COLUMNS$} {}{text}{}", "", style::DIM, style::DIM.render_reset()));
    }

    /// A line for people.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        self.line(format_args!("{text}"));
    }

    /// Something that did not stop us but that the user should know.
    pub(crate) fn warning(&self, text: impl fmt::Display) {
        self.line(format_args!("{}warning:{} {text}", style::WARNING, style::WARNING.render_reset()));
    }

    /// Something that happened in the sandbox while a command has the terminal, which may be `raw`.
    pub(crate) fn notice(&self, line: &str, raw: bool) {
        let (start, end) = if raw { ("\r", "\r\n") } else { ("", "\n") };
        let (label, reset) = (style::WARNING, style::WARNING.render_reset());
        let _ = stderr().write_all(format!("{start}{label}sbx:{reset} {line}{end}").as_bytes());
    }

    /// What the user can do.
    pub(crate) fn hint(&self, text: impl fmt::Display) {
        self.line(format_args!("{}hint:{} {text}", style::HINT, style::HINT.render_reset()));
    }

    /// An error with its causes, the last lines of logs that belong to it, and its hints.
    pub(crate) fn error(&self, error: &CommandError) {
        if error.kind() == crate::error::Kind::Reported {
            return;
        }
        // A message may quote a path or a name that a repository chose.
        for (index, line) in error.chain().iter().map(|line| printable(line)).enumerate() {
            if index == 0 {
                self.line(format_args!("{}error:{} {line}", style::ERROR, style::ERROR.render_reset()));
            } else {
                self.line(format_args!("  caused by: {line}"));
            }
        }
        for (title, lines) in error.details() {
            self.line(format_args!("  {title}:"));
            for line in lines {
                self.line(format_args!("    {}{line}{}", style::DIM, style::DIM.render_reset()));
            }
        }
        for hint in error.hints() {
            self.hint(printable(hint));
        }
    }

    /// A diagnostic with its place.
    pub(crate) fn diagnostic(&self, diagnostic: &dyn Diagnostic) {
        self.line(format_args!("{}", style::render(diagnostic, self.terminal)));
    }

    /// Progress of a pull.
    pub(crate) fn pull_progress(&self) -> PullProgress {
        PullProgress::new(self.terminal)
    }

    /// Asks a yes-or-no question; no is the answer of an empty line and of the end of input.
    pub(crate) fn confirm(&self, question: &str) -> bool {
        let mut stderr = stderr();
        let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        let answered = io::stdin().read_line(&mut answer).is_ok();
        answered && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }

    fn line(&self, arguments: fmt::Arguments<'_>) {
        // One write per line, so that lines of several processes do not mix.
        let mut stderr = stderr();
        let _ = stderr.write_all(format!("{arguments}\n").as_bytes());
    }
}

fn stderr() -> AutoStream<io::StderrLock<'static>> {
    anstream::stderr().lock()
}
