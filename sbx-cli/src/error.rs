//! The one error type of the commands, and the one place where exit codes are decided.

use std::{error::Error, fmt};

use sbx_proto::Exit;

/// Result of a command.
pub(crate) type Result<T> = std::result::Result<T, CommandError>;

/// How a command ended well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// A question was answered with no (`sbx check` found faults, `sbx image verify` found damage).
    No,
    /// A command ran in a sandbox and ended so.
    Guest(Exit),
}

/// What kind of failure it is, which decides the exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Wrong use, a wrong manifest, or a question that could not be asked.
    Usage,
    /// sbx itself failed.
    Failed,
    /// The command could not be run in the sandbox.
    NotExecutable,
    /// The command was not found in the sandbox.
    NotFound,
    /// Nothing more to say: everything was printed already, as for faults of a manifest.
    Reported,
}

/// Why a command failed, what caused it, and what the user can do.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
    details: Vec<(String, Vec<String>)>,
}

impl CommandError {
    /// sbx failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The user asked for something that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The faults were printed already.
    pub(crate) fn reported() -> Self {
        Self::new(Kind::Reported, "")
    }

    /// An error of `kind`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, hints: Vec::new(), details: Vec::new() }
    }

    /// An error of the sandbox process, as if it were ours: its message and causes, outermost first, and its hints.
    pub(crate) fn told(chain: Vec<String>, hints: Vec<String>) -> Self {
        let mut lines = chain.into_iter();
        let error = Self::failed(lines.next().unwrap_or_default());
        let causes: Vec<_> = lines.collect();
        let error = if causes.is_empty() { error } else { error.with_source(causes.join(": ")) };
        hints.into_iter().fold(error, Self::with_hint)
    }

    /// With what caused it.
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With where it happened, before the message.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// With something that the user can do; may be given more than once.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With the last lines of something, under a title; nothing is shown if there are none.
    pub(crate) fn with_lines(mut self, title: impl Into<String>, lines: Vec<String>) -> Self {
        if !lines.is_empty() {
            self.details.push((title.into(), lines));
        }
        self
    }

    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and all its causes, outermost first, each once.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut lines = vec![self.message.clone()];
        let mut next: Option<&dyn Error> = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = next {
            let line = error.to_string();
            if lines.last() != Some(&line) {
                lines.push(line);
            }
            next = error.source();
        }
        lines
    }

    /// What the user can do.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Titled last lines of logs.
    pub(crate) fn details(&self) -> &[(String, Vec<String>)] {
        &self.details
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The exit code of the program: the guest command's own, 128+n for a signal, and the codes of docs/cli.md for the rest.
pub(crate) fn exit_code(result: &Result<Outcome>) -> u8 {
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::No) => 1,
        Ok(Outcome::Guest(Exit::Code(code))) => *code,
        Ok(Outcome::Guest(Exit::Signal(signal))) => u8::try_from(signal.saturating_add(128)).unwrap_or(255),
        Err(error) => match error.kind() {
            Kind::Usage | Kind::Reported => 2,
            Kind::Failed => 125,
            Kind::NotExecutable => 126,
            Kind::NotFound => 127,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        assert_eq!(exit_code(&Ok(Outcome::Done)), 0);
        assert_eq!(exit_code(&Ok(Outcome::Guest(Exit::Code(41)))), 41);
        assert_eq!(exit_code(&Ok(Outcome::Guest(Exit::Signal(9)))), 137);
        assert_eq!(exit_code(&Err(CommandError::usage("x"))), 2);
        assert_eq!(exit_code(&Err(CommandError::failed("x"))), 125);
        assert_eq!(exit_code(&Err(CommandError::new(Kind::NotExecutable, "x"))), 126);
        assert_eq!(exit_code(&Err(CommandError::new(Kind::NotFound, "x"))), 127);
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let inner = std::io::Error::other("disk on fire");
        let error = CommandError::failed("cannot write").with_source(inner);
        assert_eq!(error.chain(), ["cannot write", "disk on fire"]);
    }
}
