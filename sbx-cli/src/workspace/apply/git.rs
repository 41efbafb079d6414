//! The host's git, on a repository of our own: it reads no configuration but that one's, and runs nothing.

use std::{
    ffi::OsStr,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use crate::{
    environment,
    error::{CommandError, Result},
    ui::printable,
    workspace::remove_all,
};

/// Lines of what git said that are shown.
const TAIL_LINES: usize = 8;

/// A bare repository that is removed with this, and git in it.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is removed by the next.
        let _ = remove_all(&self.directory);
    }
}

impl Scratch {
    /// A new one at `directory` that also has the objects in `borrowed`.
    ///
    /// # Errors
    /// If there is no git, or it fails.
    pub(super) fn new(directory: PathBuf, hash_bytes: usize, borrowed: &Path) -> Result<Self> {
        let failed =
            |error: io::Error| CommandError::failed("cannot prepare a repository").with_source(error);
        remove_all(&directory).map_err(failed)?;
        let scratch = Self { directory };
        let format = if hash_bytes == 32 { "--object-format=sha256" } else { "--object-format=sha1" };
        let mut init = plain();
        init.args(["init", "--quiet", "--bare", "--template=", format]).arg(&scratch.directory);
        run(init, &[])?;
        if borrowed.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(CommandError::usage(
                "git cannot borrow from a directory with a line break in its name",
            ));
        }
        let mut line = borrowed.as_os_str().as_encoded_bytes().to_vec();
        line.push(b'\n');
        fs::create_dir_all(scratch.objects().join("info")).map_err(failed)?;
        fs::write(scratch.objects().join("info/alternates"), line).map_err(failed)?;
        Ok(scratch)
    }

    /// Its objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.directory.join("objects")
    }

    /// git with `arguments` in this repository.
    pub(super) fn git(&self, arguments: &[&str]) -> Command {
        let mut command = plain();
        command
            .env("GIT_DIR", &self.directory)
            .env("GIT_INDEX_FILE", self.directory.join("sbx-index"))
            .env("GIT_LITERAL_PATHSPECS", "1")
            .args(arguments);
        command
    }

    /// Runs git with `arguments` and `input`; what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        run(self.git(arguments), input)
    }

    /// The one line that git printed.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn line(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let text = self.run(arguments, input)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Whether git ends well.
    pub(super) fn succeeds(&self, arguments: &[&str]) -> bool {
        run(self.git(arguments), &[]).is_ok()
    }
}

/// git without the user's, the system's and the surroundings' configuration.
pub(super) fn plain() -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", environment::value("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0"])
        .args(["-c", "maintenance.auto=false", "-c", "protocol.allow=never"])
        .current_dir("/");
    command
}

/// Runs `command` with `input`; what it printed.
///
/// # Errors
/// If it cannot be started or fails; with what it said.
pub(super) fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = spawn(command.stdin(Stdio::piped()))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // A git that gives up says why.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        child.wait_with_output()
    });
    judge(&command, output)
}

/// Runs `first` with `input`, and `second` with what that prints.
///
/// # Errors
/// If one of them cannot be started or fails.
pub(super) fn pipe(mut first: Command, input: &[u8], mut second: Command) -> Result<()> {
    let mut from = spawn(first.stdin(Stdio::piped()))?;
    let (stdin, stdout) = (from.stdin.take(), from.stdout.take());
    let into = spawn(second.stdin(stdout.map_or_else(Stdio::null, Stdio::from)))?;
    let (from, into) = thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        let from = scope.spawn(|| from.wait_with_output());
        let into = into.wait_with_output();
        (from.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended"))), into)
    });
    // The first has nobody to write to when the second fails, so that is the one that knows why.
    judge(&second, into)?;
    judge(&first, from).map(drop)
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CommandError::usage("there is no git on this machine")
            .with_hint("`sbx apply` and `sbx apply --patch FILE` do without"),
        _ => CommandError::failed("cannot run git").with_source(error),
    })
}

fn judge(command: &Command, output: io::Result<Output>) -> Result<Vec<u8>> {
    let output = output.map_err(|error| CommandError::failed("cannot run git").with_source(error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut words = command.get_args().filter_map(OsStr::to_str);
    let what = words.find(|word| !word.contains('=') && !word.starts_with('-')).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().map(printable).collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    Err(CommandError::failed(format!("`git {what}` failed"))
        .with_lines("it said", lines.into_iter().skip(skip).collect()))
}
