//! The shortest boot that the same QEMU, kernel and flags allow: to a static init that powers off.
//!
//! The flags are read from the QEMU of a running sandbox, so that the floor follows what the engine does: machine,
//! accelerator, processor, memory and kernel command line are taken over, the devices are not.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::BenchError;
use super::bed::{Bed, Running, failed};
use crate::program;

/// Options of QEMU that make the machine rather than its devices.
const TAKEN: [&str; 9] = ["-M", "-machine", "-accel", "-cpu", "-smp", "-m", "-object", "-global", "-kernel"];

/// Powers off at once: reboot(2), which triple-faults with `reboot=t`, and QEMU runs with `-no-reboot`.
const INIT: &str = r#"
void _start(void)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result)
        : "a"(169L), "D"(0xfee1dead), "S"(672274793L), "d"(0x01234567L) : "rcx", "r11", "memory");
    for (;;) { }
}
"#;

/// A machine that does nothing.
#[derive(Debug)]
pub(super) struct Floor {
    program: String,
    arguments: Vec<String>,
}

impl Floor {
    /// With the flags of the sandbox's machine.
    pub(super) fn like(running: &Running<'_>) -> Result<Self, BenchError> {
        let words = machine(running.bed)?;
        let initramfs = initramfs(running.bed)?;
        let mut arguments = machine_options(&words);
        arguments.extend(["-append".to_owned(), command_line(&words)]);
        arguments.extend(["-initrd".to_owned(), initramfs.display().to_string()]);
        for word in ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "null"] {
            arguments.push(word.to_owned());
        }
        let program = words.into_iter().next().unwrap_or_default();
        Ok(Self { program, arguments })
    }

    /// The command line to run it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// Command line of the QEMU of the sandbox in this bed.
pub(super) fn machine(bed: &Bed) -> Result<Vec<String>, BenchError> {
    let home = bed.home().display().to_string();
    let lines = processes().filter_map(|(_, words)| {
        let first = words.first()?;
        let name = Path::new(first).file_name()?.to_str()?;
        (name.starts_with("qemu-system") && words.iter().any(|word| word.contains(&home))).then_some(words)
    });
    lines.last().ok_or(BenchError::NoProcess { what: "QEMU" })
}

/// Number and command line of each process.
pub(super) fn processes() -> impl Iterator<Item = (u32, Vec<String>)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some((number, words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()))
    })
}

/// The options that make the machine, with their values.
pub(super) fn machine_options(words: &[String]) -> Vec<String> {
    let pairs = words.iter().zip(words.iter().skip(1));
    pairs
        .filter(|(option, _)| TAKEN.contains(&option.as_str()))
        .flat_map(|(a, b)| [a.clone(), b.clone()])
        .collect()
}

/// The kernel command line.
pub(super) fn command_line(words: &[String]) -> String {
    let mut pairs = words.iter().zip(words.iter().skip(1));
    pairs.find(|(option, _)| *option == "-append").map(|(_, value)| value.clone()).unwrap_or_default()
}

fn initramfs(bed: &Bed) -> Result<PathBuf, BenchError> {
    let directory = bed.path("floor");
    fs::create_dir_all(&directory).map_err(|source| failed("make a directory", source))?;
    fs::write(directory.join("init.c"), INIT).map_err(|source| failed("write the init program", source))?;
    let mut compile = Command::new("gcc");
    compile.args(["-O2", "-static", "-nostdlib", "-o", "init", "init.c"]).current_dir(&directory);
    program::output(&mut compile)?;
    pack(&directory, &["init"])
}

/// An initramfs of these files of a directory, in the same place.
pub(super) fn pack(directory: &Path, files: &[&str]) -> Result<PathBuf, BenchError> {
    let mut pack = Command::new("cpio");
    pack.args(["--quiet", "-o", "-H", "newc", "-F", "initramfs"]).current_dir(directory);
    let pack_failed = |source| failed("pack the init program", source);
    let mut child = pack.stdin(std::process::Stdio::piped()).spawn().map_err(pack_failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(files.join("\n").as_bytes()).map_err(pack_failed)?;
    }
    child.wait().map_err(pack_failed)?;
    Ok(directory.join("initramfs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_taken_and_the_devices_are_not() {
        let words = "qemu -M microvm,acpi=off -device vhost-user-fs-device -cpu max -append quiet -chardev x";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(machine_options(&words).join(" "), "-M microvm,acpi=off -cpu max");
        assert_eq!(command_line(&words), "quiet");
    }
}
