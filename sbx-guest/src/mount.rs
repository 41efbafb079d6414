//! Mounting, and the kernel's own file systems.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{FsPickFlags, MountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

/// Something could not be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The kernel refused.
    #[error("cannot mount {what} on {target}")]
    Mount {
        /// Device or file system.
        what: String,
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// There is nothing to mount on.
    #[error("cannot make the directory {path}")]
    Directory {
        /// The mount point.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else that a file system needs besides being mounted.
    #[error("cannot {what}")]
    Prepare {
        /// What was to be done.
        what: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

/// One line of the table of file systems.
struct Entry {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
}

const NOSUID_NODEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NOTHING: MountFlags = NOSUID_NODEV.union(MountFlags::NOEXEC);

/// What every Linux program may expect to find mounted, in order.
const SYSTEM: [Entry; 8] = [
    Entry { kind: "proc", target: "/proc", flags: NOTHING, options: c"" },
    Entry { kind: "sysfs", target: "/sys", flags: NOTHING, options: c"" },
    Entry { kind: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, options: c"mode=755" },
    Entry {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"newinstance,gid=5,mode=620,ptmxmode=666",
    },
    Entry { kind: "tmpfs", target: "/dev/shm", flags: NOSUID_NODEV, options: c"mode=1777" },
    Entry { kind: "mqueue", target: "/dev/mqueue", flags: NOTHING, options: c"" },
    Entry { kind: "cgroup2", target: "/sys/fs/cgroup", flags: NOTHING, options: c"nsdelegate" },
    Entry { kind: "tmpfs", target: RUN, flags: MountFlags::NODEV, options: c"mode=755" },
];

/// State of running programs, gone with the boot.
const RUN: &str = "/run";

/// How deep the image's directories in `/run` are made again.
const MAX_RUN_DEPTH: usize = 8;

/// Names that shells and scripts expect in `/dev` and that devtmpfs does not have.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts `what` of type `kind` on `target`, which is made if it is not there.
pub(crate) fn mount(
    kind: &str,
    what: &str,
    target: &Path,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), MountError> {
    make_directory(target)?;
    rustix::mount::mount(what, target, kind, flags, options).map_err(|source| MountError::Mount {
        what: what.to_owned(),
        target: target.display().to_string(),
        source,
    })
}

/// Makes a directory with all its parents.
pub(crate) fn make_directory(path: &Path) -> Result<(), MountError> {
    match fs::create_dir_all(path) {
        Ok(()) => Ok(()),
        Err(source) => Err(MountError::Directory { path: path.display().to_string(), source }),
    }
}

/// Mounts the devices alone, for the time before there is a root file system.
pub(crate) fn devices() -> Result<(), MountError> {
    mount("devtmpfs", "devtmpfs", Path::new("/dev"), MountFlags::NOSUID, c"mode=755")
}

/// Mounts everything that the kernel provides. Two of them are comforts that a kernel may lack.
pub(crate) fn system() -> Result<(), MountError> {
    // Read before it is hidden, so that daemons find the directories that their packages made for them.
    let run = directories_of(Path::new(RUN), 0);
    for Entry { kind, target, flags, options } in &SYSTEM {
        let mounted = mount(kind, kind, Path::new(target), *flags, options);
        if !matches!(*kind, "mqueue" | "cgroup2") {
            mounted?;
        }
    }
    for (target, link) in DEVICE_LINKS {
        let _ = symlink(target, link);
    }
    for directory in run {
        directory.make();
    }
    make_shared_directory(Path::new("/run/lock"));
    // On the image's own disk, as in a container: large, and kept until it is removed.
    if !Path::new("/tmp").exists() {
        make_shared_directory(Path::new("/tmp"));
    }
    if !Path::new("/etc/mtab").exists() && fs::create_dir_all("/etc").is_ok() {
        let _ = symlink("/proc/mounts", "/etc/mtab");
    }
    Ok(())
}

/// Whether the kernel command line has this word.
pub(crate) fn kernel_was_told(word: &str) -> bool {
    fs::read_to_string("/proc/cmdline")
        .is_ok_and(|line| line.split_ascii_whitespace().any(|found| found == word))
}

/// Changes one option of the mounted file system that `directory` is the root of.
pub(crate) fn reconfigure(directory: impl AsFd, flag: &str) -> Result<(), Errno> {
    let context = fspick(directory, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    fsconfig_set_flag(&context, flag)?;
    fsconfig_reconfigure(&context)
}

fn make_shared_directory(path: &Path) {
    let _ = fs::create_dir(path);
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o1777));
}

/// A directory with its owner and mode.
struct Directory {
    path: PathBuf,
    metadata: fs::Metadata,
}

impl Directory {
    fn make(&self) {
        let _ = fs::create_dir(&self.path);
        let _ = chown(&self.path, Some(self.metadata.uid()), Some(self.metadata.gid()));
        let _ = fs::set_permissions(&self.path, self.metadata.permissions());
    }
}

/// The directories below `path`, parents first.
fn directories_of(path: &Path, depth: usize) -> Vec<Directory> {
    let mut found = Vec::new();
    if depth >= MAX_RUN_DEPTH {
        return found;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if let Ok(metadata) = entry.metadata()
            && metadata.is_dir()
        {
            let path = entry.path();
            let below = directories_of(&path, depth.saturating_add(1));
            found.push(Directory { path, metadata });
            found.extend(below);
        }
    }
    found
}
