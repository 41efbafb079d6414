//! Which Debian packages each task needs, and how they come.
//!
//! A package counts as there when the file it is needed for is there, wherever that came from: other distributions name
//! their packages differently, and a tool in `~/.local/bin` is as good.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::output;
use crate::program::{self, ProgramError};

/// Something that a task needs and cargo does not bring.
#[derive(Debug)]
struct Tool {
    package: &'static str,
    probe: Probe,
    tasks: &'static [Purpose],
}

/// What a package is recognised by.
#[derive(Debug)]
enum Probe {
    /// A program in `PATH` or in a directory for administrators.
    Program(&'static str),
    /// A file at a fixed place.
    File(&'static str),
}

/// What tools are needed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// Compiling the guest kernel.
    Kernel,
    /// Making OCI images from Debian's packages.
    Image,
    /// The same as an ordinary user, who needs a range of user ids for the files of a root file system.
    ImageAsUser,
    /// Making one of the disk of a virtual machine.
    ImageOfDisk,
    /// Serving them.
    Registry,
    /// Booting a machine.
    Machine,
    /// Oracles and helpers that tests call.
    Test,
    /// Programs that we are measured against.
    Bench,
}

use Probe::{File, Program};
use Purpose::{Bench, Image, ImageAsUser, ImageOfDisk, Kernel, Machine, Registry, Test};

/// Every package that any task needs.
const TOOLS: &[Tool] = &[
    Tool { package: "linux-source-6.12", probe: File("/usr/src/linux-source-6.12.tar.xz"), tasks: &[Kernel] },
    Tool { package: "gcc", probe: Program("gcc"), tasks: &[Kernel] },
    Tool { package: "make", probe: Program("make"), tasks: &[Kernel] },
    Tool { package: "binutils", probe: Program("ld"), tasks: &[Kernel] },
    Tool { package: "flex", probe: Program("flex"), tasks: &[Kernel] },
    Tool { package: "bison", probe: Program("bison"), tasks: &[Kernel] },
    Tool { package: "bc", probe: Program("bc"), tasks: &[Kernel] },
    Tool { package: "libelf-dev", probe: File("/usr/include/gelf.h"), tasks: &[Kernel] },
    Tool { package: "libc6-dev", probe: File("/usr/include/stdio.h"), tasks: &[Kernel] },
    Tool { package: "patch", probe: Program("patch"), tasks: &[Kernel] },
    Tool { package: "xz-utils", probe: Program("xz"), tasks: &[Kernel] },
    Tool { package: "mmdebstrap", probe: Program("mmdebstrap"), tasks: &[Image] },
    Tool { package: "umoci", probe: Program("umoci"), tasks: &[Image] },
    Tool { package: "uidmap", probe: Program("newuidmap"), tasks: &[ImageAsUser] },
    Tool { package: "docker-registry", probe: Program("docker-registry"), tasks: &[Registry] },
    Tool { package: "skopeo", probe: Program("skopeo"), tasks: &[Registry] },
    Tool { package: "qemu-system-x86", probe: Program("qemu-system-x86_64"), tasks: &[Machine] },
    Tool { package: "erofs-utils", probe: Program("fsck.erofs"), tasks: &[Test] },
    Tool { package: "qemu-utils", probe: Program("qemu-img"), tasks: &[ImageOfDisk] },
    Tool { package: "python3-pip", probe: Program("pip3"), tasks: &[ImageOfDisk] },
    Tool { package: "e2fsprogs", probe: Program("e2fsck"), tasks: &[Test, ImageOfDisk] },
    Tool { package: "git", probe: Program("git"), tasks: &[Test] },
    Tool { package: "iproute2", probe: Program("ip"), tasks: &[Test, Bench] },
    Tool { package: "busybox-static", probe: File("/bin/busybox"), tasks: &[Test, Bench] },
    Tool { package: "openssl", probe: Program("openssl"), tasks: &[Test] },
    // Servers for real clients. None of these packages opens a port of the computer by itself that others reach.
    Tool { package: "python3", probe: Program("python3"), tasks: &[Test, ImageOfDisk] },
    Tool { package: "dropbear-bin", probe: Program("dropbear"), tasks: &[Test] },
    Tool { package: "postgresql-15", probe: File("/usr/lib/postgresql"), tasks: &[Test] },
    Tool { package: "iperf3", probe: Program("iperf3"), tasks: &[Test] },
    // Packages and repositories for dnf.
    Tool { package: "rpm", probe: Program("rpmbuild"), tasks: &[Test] },
    Tool { package: "createrepo-c", probe: Program("createrepo_c"), tasks: &[Test] },
    Tool { package: "strace", probe: Program("strace"), tasks: &[Test, Bench] },
    Tool { package: "cpio", probe: Program("cpio"), tasks: &[Test, Bench] },
    Tool { package: "passt", probe: Program("passt"), tasks: &[Bench] },
    Tool { package: "python3-venv", probe: File("/usr/share/doc/python3-venv"), tasks: &[Bench] },
    Tool { package: "libcap-ng-dev", probe: File("/usr/include/cap-ng.h"), tasks: &[Bench] },
    Tool { package: "libseccomp-dev", probe: File("/usr/include/seccomp.h"), tasks: &[Bench] },
];

/// Directories of programs that are not in the `PATH` of ordinary users.
const ADMINISTRATION: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Why a task cannot have its tools.
#[derive(Debug, Error)]
pub(crate) enum ToolsError {
    /// Only an administrator could install them.
    #[error("packages are missing; install them with\n    {command}\nand try again")]
    Missing {
        /// What to type.
        command: String,
    },
    /// This is not Debian or one of its children.
    #[error("no apt-get here; install what your distribution calls {packages}, and try again")]
    NotDebian {
        /// Debian's names.
        packages: String,
    },
    /// apt-get failed.
    #[error("cannot install {packages}")]
    Install {
        /// What was asked for.
        packages: String,
        /// What apt-get said.
        source: ProgramError,
    },
}

/// Installs what is missing for these purposes, or says how to.
pub(crate) fn ensure(purposes: &[Purpose]) -> Result<(), ToolsError> {
    // Kernels and images are made side by side, and apt-get does not wait for another one.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !present(&Program("apt-get")) {
        return Err(ToolsError::NotDebian { packages });
    }
    let Some(prefix) = administrator() else {
        let command = format!("sudo apt-get install --no-install-recommends {packages}");
        return Err(ToolsError::Missing { command });
    };
    output::step("packages", format_args!("installing {packages}"));
    let failed = |source| ToolsError::Install { packages: packages.clone(), source };
    // The lists of a new machine are empty or old.
    program::output(&mut apt_get(prefix, &["update"])).map_err(failed)?;
    let mut install = apt_get(prefix, &["install", "-y", "--no-install-recommends"]);
    program::output(install.args(missing)).map_err(failed)?;
    Ok(())
}

/// Is everything there for these purposes?
pub(crate) fn ready(purposes: &[Purpose]) -> bool {
    missing(purposes).is_empty()
}

/// Do we run as root?
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn missing(purposes: &[Purpose]) -> Vec<&'static str> {
    let needed = TOOLS.iter().filter(|tool| tool.tasks.iter().any(|task| purposes.contains(task)));
    needed.filter(|tool| !present(&tool.probe)).map(|tool| tool.package).collect()
}

fn present(probe: &Probe) -> bool {
    match probe {
        File(path) => Path::new(path).exists(),
        Program(name) => {
            let path = env::var_os("PATH").unwrap_or_default();
            let mut directories = env::split_paths(&path).chain(ADMINISTRATION.map(Into::into));
            directories.any(|directory| directory.join(name).is_file())
        }
    }
}

/// The words before a command that make it run as root, if that is possible without a question.
fn administrator() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    program::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> Command {
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"], arguments].concat();
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_files_by_path() {
        assert!(present(&Program("sh")));
        assert!(!present(&Program("no-such-program-of-ours")));
        assert!(present(&File("/proc/self/status")));
        assert!(!present(&File("/no/such/file")));
    }

    #[test]
    fn each_package_is_listed_once_and_for_something() {
        for (index, tool) in TOOLS.iter().enumerate() {
            assert!(!tool.tasks.is_empty(), "{}", tool.package);
            assert!(TOOLS.iter().skip(index + 1).all(|other| other.package != tool.package));
        }
    }
}
