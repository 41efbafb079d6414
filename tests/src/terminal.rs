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

/// Starts `command` from a shell on a terminal of its own, as a person does. Once it has ended, the shell prints
/// `ended CODE`, the settings of the terminal as `stty -a` shows them, and `over`.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn open_in_shell(command: &Command) -> OsSession {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#""$@"; echo "ended $?"; stty -a; echo over"#, "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    open(shell)
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
