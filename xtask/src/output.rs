//! The one door to the terminal.
//!
//! Everything for people goes to stderr: a step is a word and a sentence, and what takes long moves. On a terminal that
//! is a bar, elsewhere a plain line now and then, so that a log of CI stays readable. stdout is for results.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "this file is the door")]

use std::error::Error;
use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a count is printed where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// Says what is done now.
pub(crate) fn step(what: &str, text: impl Display) {
    eprintln!("{what:>10}  {text}");
}

/// One line of a result, on stdout.
pub(crate) fn result(line: impl Display) {
    println!("{line}");
}

/// An error with all its causes.
pub(crate) fn failure(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
}

/// Something that is counted while it goes on.
#[derive(Debug)]
pub(crate) struct Count {
    bar: ProgressBar,
    what: &'static str,
    unit: &'static str,
    printed: Instant,
}

impl Count {
    /// Begins to count up to about `expected`.
    pub(crate) fn start(what: &'static str, unit: &'static str, expected: u64) -> Self {
        let bar = ProgressBar::new(expected);
        let style =
            ProgressStyle::with_template("{prefix:>10}  {bar:24} {pos} of about {len} {msg}, {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.set_message(unit);
        Self { bar, what, unit, printed: Instant::now() }
    }

    /// One more.
    pub(crate) fn add(&mut self) {
        let position = self.bar.position().saturating_add(1);
        if self.bar.length().is_some_and(|expected| position > expected) {
            self.bar.set_length(position);
        }
        self.bar.set_position(position);
        if self.bar.is_hidden() && self.printed.elapsed() >= PLAIN_INTERVAL {
            self.printed = Instant::now();
            let expected = self.bar.length().unwrap_or(position);
            step(self.what, format_args!("{position} of about {expected} {}", self.unit));
        }
    }

    /// How many it was.
    pub(crate) fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        self.bar.position()
    }
}

/// A duration as people say it: `4 min 12 s`, `1.3 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_speech() {
        assert_eq!(duration(Duration::from_millis(1_340)), "1.3 s");
        assert_eq!(duration(Duration::from_secs(252)), "4 min 12 s");
    }
}
