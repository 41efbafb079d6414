//! What a run of the program left behind.

use std::{fmt, process::Output};

/// Output and exit code of one run.
#[derive(Clone)]
pub struct Outcome {
    /// What was run.
    pub command: String,
    /// Exit code; none if it died of a signal.
    pub code: Option<i32>,
    /// Standard output, byte for byte.
    pub stdout_bytes: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// From what the system says.
    pub fn new(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code(),
            stdout_bytes: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout_bytes).into_owned()
    }

    /// Standard output without the white space around it, of a run that must have succeeded.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    #[must_use]
    pub fn text(self) -> String {
        self.success().stdout().trim().to_owned()
    }

    /// The run ended with 0.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// The run ended with `code`.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Standard error has `part` in it.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn stderr_has(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no `{part}` in {self:?}");
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` ended with {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code,
            self.stdout(),
            self.stderr
        )
    }
}
