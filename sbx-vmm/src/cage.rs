//! The cage: what the sandbox process, and QEMU in it, can still reach once the guest runs.
//!
//! A guest that broke out of its devices would be a thread of this process. Landlock leaves it the machine's own files
//! and nothing else of the user's:
//!
//! | what | may |
//! |---|---|
//! | shared directories | as shared: read, or read and change |
//! | the sandbox's own directories, the scratch disk | read and change |
//! | kernel, initramfs, files of the root disk | read |
//! | QEMU, its libraries and data | read and execute |
//! | some of `/dev`, `/proc` and `/sys` | what QEMU and the C library need |
//! | TCP and UDP | nothing; in a machine with a network card, the card's thread only |
//! | signals and abstract sockets | within the cage only |
//!
//! `no_new_privs` keeps programs with more rights than ours from being a way out, and [`seccomp`] what of the kernel
//! can be reached at all. The kernel passes the cage on to children, and it cannot be left. What an older kernel's
//! Landlock cannot enforce is reported, not required: a sandbox is a virtual machine first. Filters of system calls are
//! older than anything else that sbx needs, and required.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::Serialize;

use crate::config::MachineConfig;
use crate::engine::Engine;
use crate::seccomp::{self, SeccompError, Violation};

/// The newest rules that this file was written for; an older kernel enforces those that it knows.
const RULES: ABI = ABI::V10;

/// The version of Landlock that has all of them.
pub const LANDLOCK_VERSION: i32 = RULES as i32;

/// Where programs have their libraries; Nix and Guix have everything in their stores.
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/libexec",
    "/nix/store",
    "/gnu/store",
];

/// What a program reads when it starts, and what QEMU and the C library look at: the dynamic linker's files, QEMU's
/// firmware, memory, processors, huge pages. Not `/proc` as a whole: to root, the kernel shows the environment of every
/// process there, cage or not. `/proc/self` means this process, not QEMU; the virtio-fs server looks at it when it
/// starts, and its way through the links in `/proc/self/fd` later needs no permission of its own, since Landlock looks at
/// where such a link leads.
const READABLE: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/share/qemu-firmware",
    "/usr/local/share/qemu",
    "/etc/localtime",
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/stat",
    "/proc/sys/vm",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/devices/system/clocksource",
    "/sys/kernel/mm",
    "/sys/module/kvm",
    "/dev/urandom",
    "/dev/random",
];

/// Where the host's resolver has its servers and names, for the thread that resolves names for the guest. A file that is
/// replaced cannot be reached any more, a file in a directory of these can.
const RESOLVER: &[&str] = &["/etc/resolv.conf", "/etc/hosts", "/run/systemd/resolve"];

/// Devices without memory of their own, and KVM.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/kvm"];

/// What is enforced.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CageReport {
    /// How much of the rules.
    pub landlock: Enforced,
    /// Version of Landlock that the kernel has, 0 if none.
    pub landlock_version: i32,
    /// Whether programs with more rights can give us none.
    pub no_new_privileges: bool,
    /// What becomes of a thread that makes a system call that it may not; nothing if there are no filters.
    pub system_calls: Option<Violation>,
}

/// How much of the rules a kernel enforces.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforced {
    /// All of them.
    Fully,
    /// Those that it knows.
    Partly,
    /// None: no Landlock, or it is off.
    Not,
}

/// Why there is no cage.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// The other threads would stay outside.
    #[error("a process with {threads} threads cannot be confined as a whole")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The threads cannot be counted.
    #[error("cannot read /proc/self/task")]
    Proc(#[source] io::Error),
    /// The kernel refused.
    #[error("the kernel refused the rules")]
    Rules(#[source] Box<RulesetError>),
    /// There is no filter of system calls.
    #[error("system calls cannot be filtered")]
    SystemCalls(#[from] SeccompError),
}

impl From<RulesetError> for CageError {
    fn from(error: RulesetError) -> Self {
        Self::Rules(Box::new(error))
    }
}

/// Confines this process for good to what the machine of `config` needs under `engine`, and to `directories` of the
/// caller, which it may change. To be called while there is only one thread; later ones are born in the cage, and
/// [`seccomp::install`] what is left to their kind. `violation` says what becomes of one that tries more.
///
/// A path that does not exist is left out, and cannot be reached when it comes to exist.
///
/// # Errors
/// If there are other threads, or the kernel has Landlock and refuses, or has no filters of system calls.
pub fn enter(
    config: &MachineConfig,
    engine: &Engine,
    directories: &[PathBuf],
    violation: Violation,
) -> Result<CageReport, CageError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(CageError::Proc)?.count();
    if threads != 1 {
        return Err(CageError::Threads { threads });
    }
    let report = confine_thread(config, engine, directories)?;
    seccomp::confine_process(violation, config.network.is_some())?;
    Ok(CageReport { system_calls: Some(violation), ..report })
}

/// What [`enter`] would enforce here, with `violation`.
///
/// # Errors
/// If a thread cannot be made, or the kernel has Landlock and refuses.
pub fn survey(violation: Violation) -> Result<CageReport, CageError> {
    let available = seccomp::is_available();
    // An empty cage around a thread that ends at once.
    std::thread::scope(|scope| {
        let report = scope.spawn(|| {
            let report =
                report(files()?.handle_access(AccessNet::from_all(RULES))?.create()?.restrict_self()?);
            let filtered = available && seccomp::forbid(violation, false).is_ok();
            Ok(CageReport { system_calls: filtered.then_some(violation), ..report })
        });
        report.join().unwrap_or_else(|_| Err(CageError::Proc(io::Error::other("a thread panicked"))))
    })
}

/// [`enter`] without its filter, for the calling thread alone and the threads and processes that it makes.
pub(crate) fn confine_thread(
    config: &MachineConfig,
    engine: &Engine,
    directories: &[PathBuf],
) -> Result<CageReport, CageError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let change = AccessFs::from_all(RULES) & !(AccessFs::Execute | AccessFs::IoctlDev);
    let execute = read | AccessFs::Execute;
    let ruleset = match config.network {
        None => files()?.handle_access(AccessNet::from_all(RULES))?,
        // Landlock would not know one thread from another later: `forbid_network` is for QEMU's, seccomp for the others.
        Some(_) => files()?,
    };
    let mut rules = Rules { ruleset: ruleset.create()? };
    for share in &config.shares {
        rules.allow(&share.host, if share.read_only { read } else { change })?;
    }
    for directory in directories.iter().chain([&config.directory]) {
        rules.allow(directory, change)?;
    }
    rules.allow(&config.scratch, change)?;
    for file in config.root.iter().map(|extent| &extent.file).chain([&config.kernel, &config.initramfs]) {
        rules.allow(file, read)?;
    }
    if let Engine::Qemu { program, .. } = engine {
        for place in program_places(program) {
            rules.allow(&place, execute)?;
        }
    }
    for path in LIBRARIES {
        rules.allow(Path::new(path), execute)?;
    }
    for path in READABLE {
        rules.allow(Path::new(path), read)?;
    }
    for path in RESOLVER.iter().filter(|_| config.network.is_some()) {
        rules.allow(Path::new(path), read)?;
    }
    for path in DEVICES {
        rules.allow(Path::new(path), AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    Ok(report(rules.ruleset.restrict_self()?))
}

/// Takes the network from the calling thread, and from the threads and programs that it makes, for good, in a process that
/// has one for the guest: QEMU is not the one to use it.
///
/// # Errors
/// If the kernel has Landlock and refuses, or has no filters of system calls.
pub(crate) fn forbid_network() -> Result<(), CageError> {
    Ruleset::default().handle_access(AccessNet::from_all(RULES))?.create()?.restrict_self()?;
    Ok(seccomp::go_offline()?)
}

/// The program, what a link in its place leads to, and what a `make install` put beside it.
fn program_places(program: &Path) -> Vec<PathBuf> {
    let mut places = vec![program.to_path_buf()];
    let target = program.canonicalize().unwrap_or_else(|_| program.to_path_buf());
    if let Some(prefix) = target.parent().and_then(Path::parent) {
        places
            .extend(["lib", "lib64", "libexec", "share/qemu", "share/seabios"].map(|name| prefix.join(name)));
    }
    places.push(target);
    places
}

struct Rules {
    ruleset: RulesetCreated,
}

impl Rules {
    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), CageError> {
        let Ok(opened) = PathFd::new(path) else {
            tracing::debug!(path = %path.display(), "not there, so not allowed");
            return Ok(());
        };
        // Rights to directories mean nothing for a file, and the kernel refuses them.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(RULES) };
        (&mut self.ruleset).add_rule(PathBeneath::new(opened, access))?;
        Ok(())
    }
}

/// Rules about files, and about whatever is outside of the cage.
fn files() -> Result<Ruleset, CageError> {
    Ok(Ruleset::default().handle_access(AccessFs::from_all(RULES))?.scope(Scope::from_all(RULES))?)
}

fn report(status: RestrictionStatus) -> CageReport {
    let landlock = match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    };
    let landlock_version = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => kernel_abi.unwrap_or(effective_abi as i32),
        _ => 0,
    };
    CageReport { landlock, landlock_version, no_new_privileges: status.no_new_privs, system_calls: None }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::Command;

    use super::*;
    use crate::config::{Extent, IdMap, NetworkCard, Share};
    use crate::engine::Accelerator;

    struct Outside {
        directory: tempfile::TempDir,
        config: MachineConfig,
        engine: Engine,
    }

    impl Outside {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            for name in ["run", "writable", "readable", "secret", "state"] {
                fs::create_dir(path(name)).unwrap();
                fs::write(path(name).join("file"), name).unwrap();
            }
            for name in ["kernel", "initramfs", "rootfs", "scratch", "qemu"] {
                fs::write(path(name), name).unwrap();
            }
            let share = |name: &str, read_only| Share {
                name: name.to_owned(),
                host: path(name),
                read_only,
                protected: Vec::new(),
            };
            let config = MachineConfig {
                vcpus: 1,
                memory_mib: 64,
                kernel: path("kernel"),
                initramfs: path("initramfs"),
                kernel_parameters: Vec::new(),
                root: vec![Extent { file: path("rootfs"), offset: 0, length: 4096 }],
                scratch: path("scratch"),
                shares: vec![share("writable", false), share("readable", true)],
                network: None,
                ids: IdMap { host_uid: 0, host_gid: 0, guest_uid: 0, guest_gid: 0 },
                directory: path("run"),
            };
            let engine = Engine::Qemu { program: path("qemu"), accelerator: Accelerator::Tcg };
            Self { directory, config, engine }
        }

        /// Runs `body` on a thread in the cage.
        fn confined<T: Send>(&self, body: impl FnOnce(&dyn Fn(&str) -> PathBuf) -> T + Send) -> T {
            let state = self.directory.path().join("state");
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let report = confine_thread(&self.config, &self.engine, &[state]).unwrap();
                    assert!(report.no_new_privileges && report.landlock != Enforced::Not, "{report:?}");
                    body(&|name| self.directory.path().join(name))
                });
                thread.join().unwrap()
            })
        }
    }

    fn denied<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn the_machines_files_are_reachable_as_they_should_be() {
        Outside::new().confined(|path| {
            for name in ["readable/file", "kernel", "initramfs", "rootfs"] {
                assert!(fs::read(path(name)).is_ok(), "{name}");
                assert!(denied(fs::write(path(name), "changed")), "{name}");
            }
            assert!(denied(fs::write(path("readable/new"), "")));
            assert!(denied(fs::remove_file(path("readable/file"))));
            for name in ["writable", "run", "state"] {
                fs::write(path(name).join("file"), "changed").unwrap();
                fs::rename(path(name).join("file"), path(name).join("renamed")).unwrap();
                fs::create_dir(path(name).join("new")).unwrap();
            }
            fs::write(path("scratch"), "changed").unwrap();
            drop(UnixListener::bind(path("run/socket")).unwrap());
        });
    }

    #[test]
    fn the_rest_is_out_of_reach() {
        Outside::new().confined(|path| {
            assert!(denied(fs::read(path("secret/file"))));
            assert!(denied(fs::read_dir(path("secret"))));
            assert!(denied(fs::write(path("secret/new"), "")));
            assert!(denied(fs::read(path("state/../secret/file"))));
            assert!(denied(fs::read("/etc/passwd")));
            assert!(denied(Command::new("/bin/true").spawn()));
            let environment = fs::read(format!("/proc/{}/environ", std::os::unix::process::parent_id()));
            assert!(denied(environment.as_ref().map_err(|error| error.kind().into())), "{environment:?}");
            std::os::unix::fs::symlink(path("secret/file"), path("writable/link")).unwrap();
            assert!(denied(fs::read(path("writable/link"))));
        });
    }

    #[test]
    fn there_is_no_network() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        assert!(TcpStream::connect(address).is_ok(), "it is there");
        let name = format!("sbx-cage-test-{}", std::process::id());
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let _abstract_server = UnixListener::bind_addr(&name).unwrap();
        Outside::new().confined(|_| {
            assert!(denied(TcpStream::connect(address)));
            assert!(denied(TcpListener::bind("127.0.0.1:0")));
            assert!(denied(UnixStream::connect_addr(&name)));
        });
    }

    #[test]
    fn there_is_a_network_where_there_is_a_card() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut outside = Outside::new();
        assert!(outside.confined(|_| denied(fs::read("/etc/hosts"))));
        outside.config.network = Some(NetworkCard { mac: [2; 6], mtu: 1500 });
        outside.confined(|path| {
            TcpStream::connect(address).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap();
            fs::read("/etc/hosts").unwrap();
            assert!(denied(fs::write("/etc/hosts", "")));
            assert!(denied(fs::read(path("secret/file"))));
            assert!(denied(fs::read("/etc/passwd")));
            // As the thread does that starts QEMU.
            Ruleset::default()
                .handle_access(AccessNet::from_all(RULES))
                .and_then(|ruleset| ruleset.create()?.restrict_self())
                .unwrap();
            assert!(denied(TcpStream::connect(address)));
            assert!(denied(TcpListener::bind("127.0.0.1:0")));
        });
    }

    #[test]
    fn a_process_with_other_threads_is_not_confined_by_half() {
        let outside = Outside::new();
        let error = enter(&outside.config, &outside.engine, &[], Violation::Kill).unwrap_err();
        assert!(matches!(error, CageError::Threads { threads: 2.. }), "{error}");
    }

    #[test]
    fn the_survey_confines_nobody_else() {
        let report = survey(Violation::Kill).unwrap();
        assert!(report.landlock_version > 0, "{report:?}");
        assert_eq!((report.no_new_privileges, report.system_calls), (true, Some(Violation::Kill)));
        assert!(fs::read("/etc/passwd").is_ok());
    }
}
