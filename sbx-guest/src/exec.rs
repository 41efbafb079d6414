//! From an [`ExecRequest`] to a running command.
//!
//! The command gets a session (and so a process group) of its own. With a terminal its standard streams are the
//! terminal, which is the session's controlling terminal; otherwise they are pipes. `/run/sbx/bin`, where our
//! `sudo` is, comes first in its `PATH`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sbx_proto::{BootConfig, ExecRequest, RefusedKind, User};

use crate::accounts::Accounts;
use crate::identity::{Identity, IdentityError};
use crate::limits;
use crate::program::{self, ProgramError};
use crate::reap::{Child, Reaper, SpawnError};
use crate::sudo;
use crate::sys::child::{self, ChildSetup};
use crate::terminal::Terminal;

/// `PATH` if nobody sets one: what Docker gives to containers.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every command of this boot has in common.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// Who runs commands that name nobody.
    pub user: User,
    /// Environment under that of the request.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where commands start that name no directory.
    pub directory: Vec<u8>,
    /// Where `passwd` and `group` are.
    pub etc: PathBuf,
}

/// A command that runs, and our ends of its standard streams. None of them blocks.
#[derive(Debug)]
pub(crate) struct Running {
    /// The process.
    pub child: Child,
    /// Its streams.
    pub streams: Streams,
}

/// Our ends of a command's standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    /// One for everything.
    Terminal(OwnedFd),
    /// One for each.
    Pipes {
        /// Written by us; none if the command reads `/dev/null`.
        stdin: Option<OwnedFd>,
        /// Read by us.
        stdout: OwnedFd,
        /// Read by us.
        stderr: OwnedFd,
    },
}

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// No such user or group.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No such program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// No such directory.
    #[error("cannot start in {directory}: {reason}")]
    Directory {
        /// What was asked for.
        directory: String,
        /// Why not.
        reason: &'static str,
    },
    /// A NUL byte where the kernel takes none.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which part of the request.
        what: &'static str,
    },
    /// No pipe or terminal.
    #[error("cannot make {what}")]
    Stream {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// The kernel would not execute it.
    #[error("{program}: {reason}")]
    Execute {
        /// The program.
        program: String,
        /// In words.
        reason: String,
        /// For the exit code.
        kind: RefusedKind,
    },
    /// The sandbox is going down.
    #[error(transparent)]
    Spawn(SpawnError),
}

impl Defaults {
    /// What the host sent at boot.
    pub(crate) fn of(config: &BootConfig) -> Self {
        Self {
            user: config.user.clone(),
            environment: config.environment.clone(),
            directory: config.directory.clone(),
            etc: PathBuf::from("/etc"),
        }
    }

    /// Adds variables that nobody has set.
    pub(crate) fn add_environment(&mut self, variables: Vec<(Vec<u8>, Vec<u8>)>) {
        for (name, value) in variables {
            if !self.environment.iter().any(|(own, _)| *own == name) {
                self.environment.push((name, value));
            }
        }
    }
}

impl ExecError {
    /// Which exit code the host is to give.
    pub(crate) fn kind(&self) -> RefusedKind {
        match self {
            Self::Program(ProgramError::NotExecutable { .. }) => RefusedKind::NotExecutable,
            Self::Program(_) => RefusedKind::NotFound,
            Self::Execute { kind, .. } => *kind,
            _ => RefusedKind::Failed,
        }
    }
}

/// Starts what was asked for.
pub(crate) fn start(
    request: &ExecRequest,
    defaults: &Defaults,
    reaper: &Reaper,
) -> Result<Running, ExecError> {
    let accounts = Accounts::read(&defaults.etc);
    let identity = Identity::resolve(request.user.as_deref(), &defaults.user, &accounts)?;
    let directory = directory(request.directory.as_deref().unwrap_or(&defaults.directory))?;
    let shell = program::shell(identity.shell.as_deref());
    let environment = environment(request, defaults, &identity, shell.as_deref().unwrap_or(b"/bin/sh"))?;

    let arguments = if request.arguments.is_empty() { vec![shell?] } else { request.arguments.clone() };
    if arguments.iter().any(|argument| argument.contains(&0)) {
        return Err(ExecError::Nul { what: "an argument" });
    }
    let Some((name, rest)) = arguments.split_first() else { return Err(ProgramError::NoShell.into()) };
    let path = environment.get(b"PATH".as_slice()).map(Vec::as_slice).unwrap_or_default();
    let program = program::find(name, path, &directory)?;

    let mut command = Command::new(&program);
    command.arg0(OsStr::from_bytes(name)).args(rest.iter().map(|argument| OsStr::from_bytes(argument)));
    command
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (OsStr::from_bytes(key), OsStr::from_bytes(value))));
    command.current_dir(&directory);
    let streams = connect(&mut command, request, &identity)?;
    child::prepare(&mut command, setup(&identity, request.terminal.is_some()));
    // Dropping the command closes our copies of the child's ends, so that its end is the last one.
    let child = reaper.spawn(&mut command).map_err(|error| explain(error, name, &program))?;
    Ok(Running { child, streams })
}

fn setup(identity: &Identity, controlling_terminal: bool) -> ChildSetup {
    // Only tests run as somebody else than root, and then only commands of that same user.
    let credentials = rustix::process::geteuid().is_root().then(|| {
        let groups = identity.groups.iter().map(|id| Gid::from_raw(*id)).collect();
        (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid), groups)
    });
    ChildSetup { controlling_terminal, credentials, limits: limits::of_commands() }
}

fn directory(wanted: &[u8]) -> Result<PathBuf, ExecError> {
    if wanted.contains(&0) {
        return Err(ExecError::Nul { what: "the directory" });
    }
    let directory = Path::new(OsStr::from_bytes(if wanted.is_empty() { b"/" } else { wanted }));
    let error = |reason| ExecError::Directory { directory: directory.display().to_string(), reason };
    match directory.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(directory.to_owned()),
        Ok(_) => Err(error("it is not a directory")),
        Err(_) => Err(error("there is no such directory in the sandbox")),
    }
}

/// Environment of the command: what the user is, then what the host set at boot, then the request.
fn environment(
    request: &ExecRequest,
    defaults: &Defaults,
    identity: &Identity,
    shell: &[u8],
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ExecError> {
    let mut variables = BTreeMap::new();
    variables.insert(b"HOME".to_vec(), identity.home.clone());
    variables.insert(b"SHELL".to_vec(), shell.to_vec());
    variables.insert(b"PATH".to_vec(), DEFAULT_PATH.as_bytes().to_vec());
    if let Some(name) = &identity.name {
        variables.insert(b"USER".to_vec(), name.clone());
        variables.insert(b"LOGNAME".to_vec(), name.clone());
    }
    if request.terminal.is_some() {
        variables.insert(b"TERM".to_vec(), b"xterm".to_vec());
    }
    for (key, value) in defaults.environment.iter().chain(&request.environment) {
        if key.is_empty() || key.contains(&b'=') || key.contains(&0) || value.contains(&0) {
            return Err(ExecError::Nul { what: "the name or value of an environment variable" });
        }
        variables.insert(key.clone(), value.clone());
    }
    if let Some(path) = variables.get_mut(b"PATH".as_slice()) {
        *path = program::path_with(sudo::DIRECTORY, path).as_bytes().to_vec();
    }
    Ok(variables)
}

fn connect(command: &mut Command, request: &ExecRequest, identity: &Identity) -> Result<Streams, ExecError> {
    let owner = rustix::process::geteuid().is_root().then(|| Uid::from_raw(identity.uid));
    if let Some(size) = request.terminal {
        let failed = |source| ExecError::Stream { what: "a terminal", source };
        let Terminal { controller, device } = Terminal::open(size, owner).map_err(failed)?;
        let copy = || {
            device.try_clone().map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)))
        };
        command.stdin(copy()?).stdout(copy()?).stderr(device);
        return Ok(Streams::Terminal(controller));
    }
    let pipe = |ours: End| pipe(ours, owner).map_err(|source| ExecError::Stream { what: "a pipe", source });
    let stdin = if request.stdin {
        let (ours, theirs) = pipe(End::Write)?;
        command.stdin(theirs);
        Some(ours)
    } else {
        command.stdin(Stdio::null());
        None
    };
    let (stdout, theirs) = pipe(End::Read)?;
    command.stdout(theirs);
    let (stderr, theirs) = pipe(End::Read)?;
    command.stderr(theirs);
    Ok(Streams::Pipes { stdin, stdout, stderr })
}

#[derive(Clone, Copy)]
enum End {
    Read,
    Write,
}

/// A pipe of which we keep one end, which does not block. It belongs to the command's user: opening `/dev/stdout`
/// asks for permission on the pipe itself.
fn pipe(ours: End, owner: Option<Uid>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    if owner.is_some() {
        fchown(&read, owner, None::<Gid>)?;
    }
    let (ours, theirs) = match ours {
        End::Read => (read, write),
        End::Write => (write, read),
    };
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Says what exec meant: that the file itself is there was seen before.
fn explain(error: SpawnError, name: &[u8], program: &Path) -> ExecError {
    let SpawnError::Start { source } = &error else { return ExecError::Spawn(error) };
    let (kind, reason) = match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => (
            RefusedKind::NotFound,
            format!(
                "{} is there, but its interpreter (the #! line) or dynamic loader is not",
                program.display()
            ),
        ),
        Some(Errno::ACCESS | Errno::PERM) => (RefusedKind::NotExecutable, "permission denied".to_owned()),
        Some(Errno::NOEXEC) => (
            RefusedKind::NotExecutable,
            "exec format error (a program for another machine, or no program)".to_owned(),
        ),
        Some(Errno::TOOBIG) => (RefusedKind::Failed, "the arguments and environment are too long".to_owned()),
        _ if source.kind() == io::ErrorKind::InvalidInput => {
            (RefusedKind::Failed, "not a valid command".to_owned())
        }
        _ => (RefusedKind::Failed, source.to_string()),
    };
    ExecError::Execute { program: String::from_utf8_lossy(name).into_owned(), reason, kind }
}
