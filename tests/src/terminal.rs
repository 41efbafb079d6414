//! A person at a terminal.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use expectrl::{Expect, Session, session::OsSession};

/// How long a test waits for a line before it says that the line never came. Not a time that anything is meant to take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts `command` on a terminal of its own.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn open(mut command: Command) -> OsSession {
    command.stdin(Stdio::inherit());
    let mut session = Session::spawn(command).unwrap();
    session.set_expect_timeout(Some(PATIENCE));
    session
}

/// Waits until `text` is on the screen.
///
/// # Panics
/// If it never is.
#[track_caller]
pub fn wait_for(session: &mut OsSession, text: &str) -> String {
    match session.expect(text) {
        Ok(captures) => String::from_utf8_lossy(captures.as_bytes()).into_owned(),
        Err(error) => panic!("`{text}` never came: {error}"),
    }
}
