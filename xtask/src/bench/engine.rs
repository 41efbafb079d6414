//! Figures of the kvm engine that do not depend on how fast its guests are: they hold on an emulated KVM, too.
//!
//! Measured with machines without an operating system, `sbx-vmm/examples/bare_metal.rs`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::bed::{Bed, failed};
use super::measure::median;
use super::resources::{mebibytes, resident};
use super::{BenchError, Figure, Limit};
use crate::cache;
use crate::program;

/// Runs of a machine that ends at once.
const RUNS: usize = 31;
/// Blocks that two runs read; what both runs do besides cancels out.
const FEW_BLOCKS: u32 = 100;
const MANY_BLOCKS: u32 = 2_100;
/// Until then a machine has started.
const STARTED_AFTER: Duration = Duration::from_millis(500);

/// Process start to exit of a machine of 512 MiB and one processor that writes one port; the same until the process knows that
/// the guest has done so; and with all devices. Against a process that does nothing but make an empty machine and close it,
/// which is KVM's own time: when it takes a machine apart it waits for several grace periods of RCU, of which each takes some
/// ticks of the host's timer, or none.
pub(super) fn first_instruction(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    const KINDS: [&str; 3] = ["empty", "port", "devices"];
    let machine = machine(bed)?;
    let (mut values, mut ends) = ([const { Vec::new() }; KINDS.len()], Vec::new());
    for round in 0..=RUNS {
        for (kind, values) in KINDS.iter().zip(&mut values) {
            let (ended, exited) = life(&machine, kind)?;
            // The first finds the program on the disk.
            if round > 0 {
                values.push(exited);
                if *kind == "port" {
                    ends.push(ended);
                }
            }
        }
    }
    let ([empty, port, devices], ended) = (values.map(median), median(ends));
    let figure =
        |name, value| Figure::new(name, value, "ms").against("an empty machine made and closed", empty);
    Ok(vec![
        figure("first-instruction", port).at_most(Limit::Value(8.0)),
        Figure::new("first-instruction ended", ended, "ms").at_most(Limit::Value(8.0)),
        figure("first-instruction devices", devices),
    ])
}

/// Milliseconds from the start of a process with a machine of this kind until it says that the guest has ended, and until its
/// exit.
fn life(machine: &Path, kind: &str) -> Result<(f64, f64), BenchError> {
    let mut command = Command::new(machine);
    command.arg(kind).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begin = Instant::now();
    let milliseconds = || begin.elapsed().as_secs_f64() * 1e3;
    let mut child = command.spawn().map_err(|source| failed("start a machine", source))?;
    if let Some(output) = &mut child.stdout {
        output.read(&mut [0]).map_err(|source| failed("read what a machine says", source))?;
    }
    let ended = milliseconds();
    let status = child.wait().map_err(|source| failed("wait for a machine", source))?;
    if status.success() {
        Ok((ended, milliseconds()))
    } else {
        Err(failed("run a machine", io::Error::other(status.to_string())))
    }
}

/// Resident memory of the same machine's process besides the guest's.
pub(super) fn vmm_memory(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let mut command = Command::new(machine(bed)?);
    command.args(["devices", "hold"]).stdin(Stdio::null());
    let mut child = command.spawn().map_err(|source| failed("start a machine", source))?;
    thread::sleep(STARTED_AFTER);
    let taken = resident(child.id());
    child.kill().and_then(|()| child.wait()).map_err(|source| failed("end a machine", source))?;
    let left = std::env::temp_dir().join(format!("sbx-bare-metal-{}", child.id()));
    fs::remove_dir_all(&left).map_err(|source| failed("remove a machine", source))?;
    Ok(vec![Figure::new("vmm-memory", taken?, "MiB").at_most(Limit::Value(5.0))])
}

/// System calls of the whole process for a random read of 4 KiB, one at a time, by a guest that polls.
pub(super) fn block_calls(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let machine = machine(bed)?;
    let few = calls(bed, &machine, FEW_BLOCKS)?;
    let many = calls(bed, &machine, MANY_BLOCKS)?;
    // Single calls that only one of the runs had, of the allocator's for example, are none of a read.
    let per_read = ((many - few) / f64::from(MANY_BLOCKS - FEW_BLOCKS) * 100.0).round() / 100.0;
    Ok(vec![Figure::new("block-calls", per_read, "").at_most(Limit::Value(3.0))])
}

/// Size of the stripped program with the guest in it.
pub(super) fn binary_size(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let size = fs::metadata(&bed.sbx).map_err(|source| failed("look at sbx", source))?.len();
    Ok(vec![Figure::new("binary-size", mebibytes(size), "MiB").at_most(Limit::Value(25e6 / 1_048_576.0))])
}

/// The program that makes the machines.
fn machine(_bed: &Bed) -> Result<PathBuf, BenchError> {
    if !Path::new("/dev/kvm").exists() {
        return Err(BenchError::NoKvm);
    }
    let mut build = program::cargo();
    build.args(["build", "--release", "--package", "sbx-vmm", "--features", "testing"]);
    program::run(build.args(["--example", "bare_metal"]).current_dir(cache::repository()))?;
    Ok(cache::target().join("release/examples/bare_metal"))
}

/// System calls of a machine that reads `blocks` blocks.
fn calls(bed: &Bed, machine: &Path, blocks: u32) -> Result<f64, BenchError> {
    let summary = bed.path("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&summary).arg(machine).args(["read", &blocks.to_string()]);
    program::output(&mut command)?;
    let text = fs::read_to_string(&summary).map_err(|source| failed("read strace's summary", source))?;
    total(&text).ok_or(BenchError::Unreadable { output: text })
}

/// Number of calls in the last line of `strace -c`.
fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_in_the_last_line_of_the_summary() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       83.33    0.000005           1         3         1 read\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.000006           1      1234         1 total\n";
        assert_eq!(total(summary), Some(1234.0));
        assert_eq!(total("nothing"), None);
    }
}
