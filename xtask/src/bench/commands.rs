//! Figures of single commands: version, ls, up, reset, exec.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::bed::{Bed, SANDBOX, failed};
use super::floor::Floor;
use super::measure::{brief, median};
use super::{BenchError, Figure, Limit};
use crate::program;

/// Runs of a command that takes milliseconds.
const BRIEF_RUNS: usize = 31;
/// Runs of a command that boots a machine.
const BOOT_RUNS: usize = 7;
/// Sandboxes that `sbx ls` has to list.
const LISTED: usize = 50;

/// `sbx --version`, process start to exit.
pub(super) fn version(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let taken = milliseconds(BRIEF_RUNS, || bed.sbx(&["--version"]))?;
    Ok(vec![Figure::new("version", taken, "ms").at_most(Limit::Value(5.0))])
}

/// `sbx ls` with many sandboxes: copies of one that has been up.
pub(super) fn list(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    drop(bed.running()?);
    let home = bed.path("listed");
    let original = bed.home().join("sandboxes").join(SANDBOX);
    fs::create_dir_all(home.join("sandboxes")).map_err(|source| failed("make sandboxes", source))?;
    for number in 0..LISTED {
        copy(&original, &home.join("sandboxes").join(format!("{SANDBOX}-{number}")))?;
    }
    let taken = milliseconds(BRIEF_RUNS, || bed.sbx_at(&home, &["ls"]))?;
    Ok(vec![Figure::new("ls", taken, "ms").at_most(Limit::Value(10.0))])
}

/// `sbx up -- true` with everything cached, against the shortest boot of the same machine.
pub(super) fn up(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let floor = Floor::like(&bed.running()?)?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..BOOT_RUNS {
        ours.push(brief(&mut bed.sbx(&["up", "--yes", "--engine", "qemu", "--", "true"]))?.as_secs_f64());
        floors.push(brief(&mut floor.command())?.as_secs_f64());
    }
    let boot = median(floors);
    let figure = Figure::new("up", median(ours), "s").against("a boot to a static init", boot);
    Ok(vec![figure.at_most(Limit::Ratio(1.6)), Figure::new("up floor", boot, "s").at_most(Limit::Value(1.0))])
}

/// `sbx reset` of a sandbox that is stopped: all but the boot.
pub(super) fn reset(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    drop(bed.running()?);
    let taken = milliseconds(BRIEF_RUNS, || bed.sbx(&["reset"]))?;
    Ok(vec![Figure::new("reset", taken, "ms").at_most(Limit::Value(1000.0))])
}

/// `sbx exec -- true` in a running sandbox.
pub(super) fn exec(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let running = bed.running()?;
    let taken = milliseconds(BRIEF_RUNS, || running.bed.sbx(&["exec", "--", "true"]))?;
    Ok(vec![Figure::new("exec", taken, "ms").at_most(Limit::Value(40.0))])
}

fn milliseconds(runs: usize, command: impl Fn() -> Command) -> Result<f64, BenchError> {
    // The first finds the program and its files on the disk.
    brief(&mut command())?;
    let mut values = Vec::new();
    for _ in 0..runs {
        values.push(brief(&mut command())?.as_secs_f64() * 1e3);
    }
    Ok(median(values))
}

/// Copies a directory of a sandbox, its sparse disk as a sparse one.
fn copy(from: &Path, to: &Path) -> Result<(), BenchError> {
    Ok(program::output(Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to)).map(drop)?)
}
