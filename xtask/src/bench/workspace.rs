//! Figures of the workspace: our virtio-fs server against virtiofsd, under the same QEMU with the same work.
//!
//! The work is a script in the image's Python, run in the sandbox for ours. For theirs the same kernel boots with the
//! machine options of the sandbox's QEMU, the same image unpacked to an ext4 disk, and virtiofsd behind the device.
//! The two machines take turns, each booted anew, and of each part the medians are compared: the host's noise changes
//! by the minute, and a turn takes half of one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::bed::{Bed, failed};
use super::measure::{figures, median};
use super::{BenchError, Figure, Limit, floor, peers};
use crate::program;

/// What the guest runs.
const SCRIPT: &str = include_str!("workspace.py");
/// Turns of each machine.
const TURNS: usize = 3;
/// Names of the repositories: one for each machine, whose stat(2) its index holds.
const TREES: [&str; 2] = ["ours", "theirs"];
/// Files of the repository whose status is asked for, in directories of a hundred.
const FILES: usize = 20_000;

/// What one turn took, in seconds, by the names of the script.
type Times = BTreeMap<String, f64>;

/// Names of the script's figures and what they are.
const PARTS: [(&str, &str); 4] = [
    ("write", "fs write 256 MiB and fsync"),
    ("read", "fs read 256 MiB"),
    ("small", "fs 5,000 small files"),
    ("status", "fs git status, 20,000 files"),
];

/// All four figures.
pub(super) fn measure(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let virtiofsd = peers::virtiofsd()?;
    let workspace = bed.workspace();
    fs::write(workspace.join("workspace.py"), SCRIPT)
        .map_err(|source| failed("write the script that measures", source))?;
    for tree in TREES {
        prepare(&workspace.join(tree))?;
    }
    spread(&workspace.join("small"))?;
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (figures, words) = ours(bed)?;
        all_ours.push(figures);
        all_theirs.push(Theirs { bed, words: &words }.measure(&virtiofsd.program)?);
    }
    let what = format!("virtiofsd {}", virtiofsd.version);
    let middle =
        |turns: &[Times], part| median(turns.iter().filter_map(|turn| turn.get(part)).copied().collect());
    let figure = |(part, name)| {
        let figure = Figure::new(name, middle(&all_ours, part), "s");
        figure.against(&what, middle(&all_theirs, part)).at_most(Limit::Ratio(1.0))
    };
    Ok(PARTS.map(figure).into())
}

/// One turn of the sandbox, and the command line of its QEMU.
fn ours(bed: &mut Bed) -> Result<(Times, Vec<String>), BenchError> {
    let directory = bed.workspace().display().to_string();
    let script = format!("{directory}/workspace.py");
    let running = bed.running()?;
    let words = ["exec", "-u", "root", "--", "python3", &script, &directory, TREES[0]];
    let output = program::output(&mut running.bed.sbx(&words))?;
    Ok((figures(&output, PARTS.len())?, floor::machine(running.bed)?))
}

/// A directory whose subdirectories ext4 puts far from each other (`chattr +T`); other file systems do not need that.
///
/// ext4 does not use an inode again that was freed within the last minute, and looks at each of those anew for every
/// file that it makes near them. Five thousand files took thirty times as long where five thousand had just been deleted,
/// which hid the servers that are compared here.
fn spread(directory: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(directory).map_err(|source| failed("make a directory", source))?;
    program::succeeds(Command::new("chattr").arg("+T").arg(directory));
    Ok(())
}

/// A repository with many files.
fn prepare(tree: &Path) -> Result<(), BenchError> {
    if tree.exists() {
        return Ok(());
    }
    let write_failed = |source| failed("write the files to measure with", source);
    for number in 0..FILES {
        let directory = tree.join(format!("{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory).map_err(write_failed)?;
        }
        let text = format!("file {number}\n");
        fs::write(directory.join(format!("{:02}.txt", number % 100)), text).map_err(write_failed)?;
    }
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"];
    for words in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "all"]] {
        let mut git = Command::new("git");
        program::output(git.arg("-C").arg(tree).args(identity).args(words))?;
    }
    Ok(())
}

/// The machine with virtiofsd.
struct Theirs<'a> {
    bed: &'a Bed,
    /// Command line of our machine's QEMU.
    words: &'a [String],
}

impl Theirs<'_> {
    fn measure(&self, virtiofsd: &Path) -> Result<Times, BenchError> {
        let disk = self.disk()?;
        let socket = self.bed.path("fs.sock");
        let mut server = serve(virtiofsd, &socket, &self.bed.workspace())?;
        let said = program::output(&mut self.machine(&disk, &socket));
        let _ = server.kill();
        let _ = server.wait();
        figures(&said?, PARTS.len())
    }

    fn machine(&self, disk: &Path, socket: &Path) -> Command {
        let mut command = Command::new(self.words.first().map_or("qemu-system-x86_64", String::as_str));
        command.args(floor::machine_options(self.words));
        // Our own consoles are left out, so the console is the serial port whatever ours is.
        let line = floor::command_line(self.words);
        let kept = line.split(' ').filter(|word| !word.starts_with("console=")).collect::<Vec<_>>().join(" ");
        command.arg("-append");
        command.arg(format!("{kept} console=ttyS0 root=/dev/vda rw rootfstype=ext4 init=/measure"));
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]);
        command.arg("-drive").arg(format!("id=root,file={},format=raw,if=none", disk.display()));
        command.args(["-device", "virtio-blk-device,drive=root"]);
        command.arg("-chardev").arg(format!("socket,id=workspace,path={}", socket.display()));
        command.args(["-device", "vhost-user-fs-device,chardev=workspace,tag=workspace"]);
        command
    }

    /// An ext4 disk of the image with the script that measures as its init.
    fn disk(&self) -> Result<PathBuf, BenchError> {
        let disk = self.bed.path("root.ext4");
        if disk.exists() {
            return Ok(disk);
        }
        let root = self.bed.path("root");
        let write_failed = |source| failed("write the disk to measure with", source);
        fs::create_dir_all(&root).map_err(write_failed)?;
        let mut unpack = Command::new("tar");
        unpack.arg("-xzf").arg(layer(&self.bed.layout)?).args(["--exclude=./dev/*", "--exclude=dev/*", "-C"]);
        program::output(unpack.arg(&root))?;
        let init = root.join("measure");
        let text = format!(
            "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp\n\
             mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t tmpfs tmp /tmp &&\n\
             mount -t virtiofs workspace /mnt && python3 /mnt/workspace.py /mnt {}\n",
            TREES[1]
        );
        fs::write(&init, text).map_err(write_failed)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).map_err(write_failed)?;
        let mut make = Command::new("mkfs.ext4");
        // An ordinary user has no /usr/sbin in PATH.
        make.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        program::output(make.args(["-q", "-F", "-d"]).arg(&root).arg(&disk).arg("1G"))?;
        Ok(disk)
    }
}

/// The only layer of the small image: the largest file of its layout.
fn layer(layout: &Path) -> Result<PathBuf, BenchError> {
    let blobs = layout.join("blobs/sha256");
    let read_failed = |source| failed(format!("read {}", blobs.display()), source);
    let entries = fs::read_dir(&blobs).map_err(read_failed)?.flatten();
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let largest = entries.map(|entry| entry.path()).max_by_key(size);
    largest.ok_or_else(|| read_failed(std::io::ErrorKind::NotFound.into()))
}

fn serve(virtiofsd: &Path, socket: &Path, directory: &Path) -> Result<Child, BenchError> {
    let mut command = program::dies_with_us(&virtiofsd.display().to_string());
    command.arg("--socket-path").arg(socket).arg("--shared-dir").arg(directory).args(["--sandbox", "none"]);
    peers::serve(&mut command, socket, "virtiofsd")
}
