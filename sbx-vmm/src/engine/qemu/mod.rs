//! The `qemu` engine: QEMU's microvm machine as a child process, with our devices served to it over vhost-user.
//!
//! ```text
//! sbx (devices, one thread each) ◀── sockets NAME.sock, guest memory as a shared memfd ──▶ qemu-system-x86_64
//!   │  console.log ◀── standard output                                                        │
//!   └  engine.log  ◀── standard error ────────────────────────────────────────────────────────┘
//! ```
//!
//! QEMU runs in the machine's directory and gets the names of the sockets relative to it, since the path of a socket
//! has at most 107 bytes.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::{Accelerator, ChooseError, Logs, RunningGuest};
use crate::config::MachineConfig;
use crate::gate::Gate;
use crate::machine::StartError;
use crate::virtio::{VirtioDevice, vhost_user};

mod command;
mod facts;
mod frequency;
mod process;

pub use facts::{Facts, FactsError, Version, inspect, version};

use process::Served;

/// The program that is looked for in PATH.
const PROGRAM: &str = "qemu-system-x86_64";

/// The oldest QEMU that sbx is tested with: the one of Debian 12.
pub const OLDEST: Version = Version { major: 7, minor: 2 };

/// The QEMU at `wanted`, or the one in PATH, absolute.
pub(super) fn find(wanted: Option<&Path>) -> Result<PathBuf, ChooseError> {
    let missing = |program: &Path| ChooseError::QemuMissing { program: program.to_path_buf() };
    if let Some(program) = wanted {
        let absolute = std::path::absolute(program).map_err(|_| missing(program))?;
        return if is_executable(&absolute) { Ok(absolute) } else { Err(missing(program)) };
    }
    search(std::env::var_os("PATH").as_deref()).ok_or_else(|| missing(Path::new(PROGRAM)))
}

fn search(path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(PROGRAM))
        .find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Serves the devices, and starts QEMU, which waits for its devices to answer before the guest begins.
pub(super) fn build(
    program: &Path,
    accelerator: Accelerator,
    config: &MachineConfig,
    devices: Vec<Box<dyn VirtioDevice>>,
    logs: Logs,
) -> Result<Box<dyn RunningGuest>, StartError> {
    let directory = Directory::open(&config.directory)?;
    let mut arguments = command::machine(config, accelerator);
    let gate = Gate::default();
    let mut servers = Vec::with_capacity(devices.len());
    for (index, device) in devices.into_iter().enumerate() {
        let name = format!("{}{index}", device.kind().name());
        arguments.extend(command::device(&name, &*device));
        let listener = directory.listen(&command::socket(&name))?;
        let server = vhost_user::serve(device, listener, gate.clone())
            .map_err(|source| StartError::Host { doing: "serve a device", source })?;
        servers.push(server);
    }
    let process = process::Qemu::start(program, arguments, config, Served { servers, gate }, logs)?;
    Ok(Box::new(process))
}

/// The machine's directory, open, so that a socket's path is short however long the directory's is.
struct Directory<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Directory<'a> {
    fn open(path: &'a Path) -> Result<Self, StartError> {
        let flags = rustix::fs::OFlags::DIRECTORY.bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(path)
            .map_err(|source| StartError::Directory { path: path.to_path_buf(), source })?;
        Ok(Self { path, file })
    }

    /// Listens on the socket `name`, in place of one that an earlier run left.
    fn listen(&self, name: &str) -> Result<UnixListener, StartError> {
        let failed = |source| StartError::Directory { path: self.path.join(name), source };
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        UnixListener::bind(format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd())).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_work_in_a_deep_directory_and_replace_stale_ones() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let opened = Directory::open(&deep).unwrap();
        drop(opened.listen("block0.sock").unwrap());
        assert!(deep.join("block0.sock").exists(), "left behind as by a killed process");
        drop(opened.listen("block0.sock").unwrap());
    }

    #[test]
    fn the_first_program_in_path_is_taken_and_relative_directories_are_not() {
        assert_eq!(search(Some(OsStr::new("/nowhere:.:/dev"))), None);
        assert_eq!(search(None), None);
    }
}
