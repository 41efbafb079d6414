//! `sudo` for images with and without one.
//!
//! This same binary, bound setuid to `/run/sbx/bin/sudo`; that directory comes first in the `PATH` of every
//! command. Login shells set a `PATH` of their own (Debian's `/etc/profile` does), so `/usr/local/bin/sudo` is made a
//! link to it, too, unless the image has something there. Everything else of ours stays out of the image's
//! directories.
//!
//! The sandbox is the wall, not the user: whom the host made the agent may become root without a password. Other
//! users of the image (a database server's, say) may not.

mod arguments;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::fs::{CWD, Gid, Uid};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use sbx_proto::User;

use self::arguments::{Arguments, Mode};
use crate::accounts::Accounts;
use crate::console::chain;
use crate::exec::DEFAULT_PATH;
use crate::identity::Identity;
use crate::mount::{MountError, make_directory};
use crate::program;

/// Where our `sudo` is, first in every `PATH`.
pub(crate) const DIRECTORY: &str = "/run/sbx/bin";

/// Says who may use it: one uid.
const PERMITTED: &str = "/run/sbx/sudo-uid";

/// Where login shells find it.
const LINK: &str = "/usr/local/bin/sudo";

/// What `sudo` gives when it could not run the command.
const FAILURE: u8 = 1;

/// This program as a mount of its own, taken before the initramfs goes out of reach.
#[derive(Debug)]
pub(crate) struct Binary {
    tree: OwnedFd,
}

impl Binary {
    /// Takes `/init` of the initramfs.
    pub(crate) fn take() -> Result<Self, MountError> {
        let take = || {
            fs::set_permissions("/init", fs::Permissions::from_mode(0o4755))?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(open_tree(CWD, "/init", flags)?)
        };
        let tree = take().map_err(|source: io::Error| MountError::Prepare {
            what: "take hold of /init".to_owned(),
            source,
        })?;
        Ok(Self { tree })
    }

    /// Puts it where commands find it, for `user`.
    pub(crate) fn install(&self, user: &User) -> Result<(), MountError> {
        let target = Path::new(DIRECTORY).join("sudo");
        make_directory(Path::new(DIRECTORY))?;
        let install = || -> io::Result<()> {
            fs::write(PERMITTED, user.uid.to_string())?;
            File::create(&target)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            Ok(move_mount(&self.tree, "", CWD, &target, flags)?)
        };
        install().map_err(|source| MountError::Prepare { what: "install sudo".to_owned(), source })?;
        if Path::new(LINK).symlink_metadata().is_err() {
            // An image without the directory has no login shells that look there.
            let _ = symlink(&target, LINK);
        }
        Ok(())
    }
}

/// Why `sudo` did not run the command.
#[derive(Debug, thiserror::Error)]
enum SudoError {
    #[error("only root and the sandbox's own user may use it")]
    NotPermitted,
    #[error("it is not setuid root here (no_new_privs, or a file system mounted nosuid)")]
    NotRoot,
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    #[error(transparent)]
    Shell(#[from] program::ProgramError),
    #[error("cannot become the user")]
    Become(#[source] rustix::io::Errno),
    #[error("{program}: command not found")]
    NotFound { program: String },
    #[error("{program}")]
    Execute {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// Whether this process was started as `sudo`, not as PID 1.
pub(crate) fn is_called() -> bool {
    rustix::process::getpid() != rustix::process::Pid::INIT
}

/// `sudo` itself: replaces this process by the command.
pub(crate) fn run() -> ExitCode {
    let words: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsString::into_vec).collect();
    let arguments = match Arguments::parse(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            complain(&format!("{error}\n{}", arguments::USAGE));
            return ExitCode::from(FAILURE);
        }
    };
    match arguments.mode {
        Mode::Print(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Mode::Nothing => ExitCode::SUCCESS,
        Mode::Run => {
            let Err(error) = execute(&arguments);
            complain(&chain(&error));
            ExitCode::from(FAILURE)
        }
    }
}

fn complain(message: &str) {
    let _ = io::stderr().write_all(format!("sudo: {message}\n").as_bytes());
}

fn execute(arguments: &Arguments) -> Result<std::convert::Infallible, SudoError> {
    let caller = rustix::process::getuid();
    let permitted = fs::read_to_string(PERMITTED).ok().and_then(|uid| uid.trim().parse().ok());
    if !caller.is_root() && Some(caller.as_raw()) != permitted {
        return Err(SudoError::NotPermitted);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(SudoError::NotRoot);
    }
    let accounts = Accounts::read(Path::new("/etc"));
    let root = User { name: "root".to_owned(), uid: 0, gid: 0, home: b"/root".to_vec() };
    let identity = Identity::resolve(arguments.spec().as_deref(), &root, &accounts)?;
    let caller_name = accounts.with_uid(caller.as_raw()).map(|account| account.name.clone());

    let mut command = command(arguments, &identity)?;
    set_environment(&mut command, arguments, &identity);
    command.env("SUDO_UID", caller.as_raw().to_string());
    command.env("SUDO_GID", rustix::process::getgid().as_raw().to_string());
    command.env(
        "SUDO_USER",
        OsString::from_vec(caller_name.unwrap_or_else(|| caller.as_raw().to_string().into())),
    );
    become_user(&identity).map_err(SudoError::Become)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let source = command.exec();
    Err(if source.kind() == io::ErrorKind::NotFound {
        SudoError::NotFound { program }
    } else {
        SudoError::Execute { program, source }
    })
}

/// What to run: the command, or a shell, which runs the command if there is one.
fn command(arguments: &Arguments, identity: &Identity) -> Result<Command, SudoError> {
    let words = arguments.command.iter().map(|word| OsStr::from_bytes(word));
    let (Some(program), false) = (words.clone().next(), arguments.login || arguments.shell) else {
        let preferred = std::env::var_os("SHELL").filter(|_| !arguments.login).map(OsString::into_vec);
        let shell = program::shell(preferred.as_deref().or(identity.shell.as_deref()))?;
        let shell = OsString::from_vec(shell);
        let mut command = Command::new(&shell);
        if arguments.login {
            // A name that begins with a dash is how a shell knows that it is a login shell.
            let name = Path::new(&shell).file_name().unwrap_or(&shell);
            command.arg0(OsString::from_vec([b"-", name.as_bytes()].concat()));
            command.current_dir(OsStr::from_bytes(&identity.home));
        }
        if !arguments.command.is_empty() {
            command.arg("-c").arg(OsString::from_vec(arguments::quoted(&arguments.command)));
        }
        return Ok(command);
    };
    let mut command = Command::new(program);
    command.args(words.skip(1));
    Ok(command)
}

/// The caller's environment, for the target user. (The C library has removed what could subvert a setuid program.)
fn set_environment(command: &mut Command, arguments: &Arguments, identity: &Identity) {
    if arguments.login {
        command.env_clear();
        for name in ["TERM", "LANG", "LC_ALL", "COLORTERM"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }
    if !arguments.preserve_environment || arguments.login {
        command.env("HOME", OsStr::from_bytes(&identity.home));
    }
    for name in ["USER", "LOGNAME"] {
        if let Some(user) = &identity.name {
            command.env(name, OsStr::from_bytes(user));
        }
    }
    if arguments.login {
        let shell = program::shell(identity.shell.as_deref()).unwrap_or_else(|_| b"/bin/sh".to_vec());
        command.env("SHELL", OsString::from_vec(shell));
    }
    let path = std::env::var_os("PATH").filter(|_| !arguments.login).unwrap_or_default().into_vec();
    command.env("PATH", with_system_directories(&path));
    for (name, value) in &arguments.variables {
        command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
    }
}

/// `PATH` with the directories of system programs, which ordinary users often lack.
fn with_system_directories(path: &[u8]) -> OsString {
    let mut directories: Vec<&[u8]> =
        path.split(|byte| *byte == b':').filter(|directory| !directory.is_empty()).collect();
    for directory in DEFAULT_PATH.as_bytes().split(|byte| *byte == b':') {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    program::path_with(DIRECTORY, &directories.join(&b':'))
}

/// For this process, which has one thread.
fn become_user(identity: &Identity) -> Result<(), rustix::io::Errno> {
    let groups: Vec<Gid> = identity.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_directories_are_added_at_the_end() {
        assert_eq!(
            with_system_directories(b"/opt/tool/bin:/usr/bin:/bin"),
            "/run/sbx/bin:/opt/tool/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin"
        );
        assert_eq!(with_system_directories(b"").to_string_lossy(), format!("/run/sbx/bin:{DEFAULT_PATH}"));
    }
}
