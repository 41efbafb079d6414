//! Lines on the console, which the host keeps as the machine's log.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

/// Writes one line; a console that does not take it is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("sbx: {line}\n").as_bytes());
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let _ = write!(text, ": {source}");
        next = source.source();
    }
    text
}
