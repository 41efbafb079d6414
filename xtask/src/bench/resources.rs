//! Figures of what a sandbox takes: memory of its process, space on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::bed::{Bed, SANDBOX, failed};
use super::floor;
use super::{BenchError, Figure, Limit};
use crate::program;

/// After the boot a sandbox is idle when this has passed.
const IDLE_AFTER: Duration = Duration::from_secs(3);
/// Blocks that stat(2) counts in.
const BLOCK_BYTES: u64 = 512;

/// Resident memory of the sandbox process besides guest memory, and of QEMU for comparison.
pub(super) fn memory(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let running = bed.running()?;
    thread::sleep(IDLE_AFTER);
    let home = running.bed.home().display().to_string();
    let ours = |words: &[String]| words.iter().any(|word| word.contains(&home));
    let find = |name: &str| floor::processes().find(|(_, words)| is(words, name) && ours(words));
    let (process, _) = find("sbx").ok_or(BenchError::NoProcess { what: "the process" })?;
    let (qemu, _) = find("qemu-system").ok_or(BenchError::NoProcess { what: "QEMU" })?;
    Ok(vec![
        Figure::new("memory", resident(process)?, "MiB").at_most(Limit::Value(25.0)),
        Figure::new("memory of qemu", resident(qemu)?, "MiB"),
    ])
}

/// Space that a second sandbox of a stored image takes on the disk, after it has been up.
pub(super) fn disk(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    bed.pull()?;
    drop(bed.running()?);
    program::output(&mut bed.sbx(&["rm", "--force", "-n", SANDBOX]))?;
    let before = used(&bed.home())?;
    drop(bed.running()?);
    let after = used(&bed.home())?;
    let taken = mebibytes(after.saturating_sub(before));
    Ok(vec![Figure::new("disk", taken, "MiB").at_most(Limit::Value(2.0))])
}

fn is(words: &[String], name: &str) -> bool {
    let first = words.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str());
    first.is_some_and(|first| first.starts_with(name))
}

/// Resident memory of a process without what it shares with the guest, in MiB.
///
/// Guest memory is a memfd, so its mappings are named so in smaps; files of the store that are mapped are the page
/// cache's and shared with every sandbox, but they count here.
pub(super) fn resident(process: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{process}/smaps");
    let text = fs::read_to_string(&path).map_err(|source| failed(format!("read {path}"), source))?;
    Ok(mebibytes(resident_besides_guest(&text).saturating_mul(1024)))
}

/// Sum of `Rss` in KiB over the mappings that are not guest memory.
fn resident_besides_guest(smaps: &str) -> u64 {
    let mut guest = false;
    let mut sum = 0_u64;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(size)) if !guest => sum = sum.saturating_add(size.parse().unwrap_or(0)),
            (Some(first), _) if !first.ends_with(':') => guest = line.contains("/memfd:"),
            _ => {}
        }
    }
    sum
}

/// Blocks in use below a directory, in bytes.
fn used(directory: &Path) -> Result<u64, BenchError> {
    program::output(&mut Command::new("sync"))?;
    let read_failed = |source| failed(format!("read {}", directory.display()), source);
    let mut sum = 0_u64;
    for entry in fs::read_dir(directory).map_err(read_failed)?.flatten() {
        let metadata = entry.metadata().map_err(read_failed)?;
        sum = sum.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES));
        if metadata.is_dir() {
            sum = sum.saturating_add(used(&entry.path())?);
        }
    }
    Ok(sum)
}

#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_does_not_count() {
        let smaps = "7f0-7f1 rw-s 0 00:01 5 /memfd:guest (deleted)\nSize: 900 kB\nRss:  800 kB\nVmFlags: rd\n\
                     7f2-7f3 rw-p 0 00:00 0 [heap]\nSize: 20 kB\nRss:  12 kB\nPss: 12 kB\n\
                     7f4-7f5 r-xp 0 08:01 7 /usr/bin/sbx\nRss:  30 kB\n";
        assert_eq!(resident_besides_guest(smaps), 42);
    }
}
