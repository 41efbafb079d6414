//! `sbx exec`.

use std::ffi::OsString;

use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    sandbox::launch::{self, Options},
    session::Wishes,
};

/// Run a command in the sandbox, which is started if it is stopped
///
/// The exit code is the command's own. With a terminal on both sides the command gets one; otherwise its input, output
/// and errors are passed through byte for byte.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Pass standard input on; always done, taken for the sake of habit
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal even if there is none here
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable, or pass on the one of that name
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// Run as this user: NAME or UID, with :GROUP if wanted
    #[arg(short, long)]
    user: Option<String>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Outcome> {
    let wishes = Wishes {
        arguments: args.command.into_iter().map(OsString::into_encoded_bytes).collect(),
        environment: args
            .env
            .into_iter()
            .map(variable)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect(),
        directory: args.workdir.map(OsString::into_encoded_bytes),
        user: args.user,
        force_terminal: args.tty,
    };
    launch::run(wishes, || launch::existing(context, &args.selection, &Options::default()))
}

/// `NAME=VALUE`, or the value that `NAME` has here; a name that is not set here is left out, as docker does.
fn variable(text: OsString) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let bytes = text.as_encoded_bytes();
    let mut parts = bytes.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    if name.is_empty() {
        return Err(CommandError::usage(format!("-e {}: the name is missing", text.to_string_lossy()))
            .with_hint("-e NAME=VALUE, or -e NAME to pass on your own"));
    }
    Ok(match parts.next() {
        Some(value) => Some((name.to_vec(), value.to_vec())),
        None => std::env::var_os(&text).map(|value| (name.to_vec(), value.into_encoded_bytes())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_or_passed_on() {
        assert_eq!(variable("A=b=c".into()).unwrap(), Some((b"A".to_vec(), b"b=c".to_vec())));
        assert_eq!(variable("A=".into()).unwrap(), Some((b"A".to_vec(), Vec::new())));
        assert_eq!(variable("SBX_SURELY_NOT_SET".into()).unwrap(), None);
        assert!(variable("=x".into()).is_err());
    }
}
