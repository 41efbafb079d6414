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
/// The sandbox with steps, and how many it has.
const LOCKED_SANDBOX: &str = "locked";
const LOCKED_STEPS: usize = 4;
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

/// `sbx up --locked -- true` of a machine whose steps are all cached, against the same machine without a lock and steps.
pub(super) fn up_locked(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    drop(bed.running()?);
    let plain = fs::read_to_string(bed.workspace().join("sandbox.kdl"))
        .map_err(|source| failed("read the manifest", source))?;
    let locked = bed.path("locked");
    fs::create_dir_all(&locked).map_err(|source| failed("make a repository", source))?;
    let steps = (1..=LOCKED_STEPS).map(|number| format!("setup \"echo {number} > ~/made-{number}\"\n"));
    let manifest = plain.replace(SANDBOX, LOCKED_SANDBOX) + &steps.collect::<String>();
    fs::write(locked.join("sandbox.kdl"), manifest).map_err(|source| failed("write the manifest", source))?;
    let up = |arguments: &[&str]| {
        let mut command = bed.sbx(arguments);
        command.current_dir(&locked);
        command
    };
    program::output(&mut up(&["up", "--yes", "--engine", "qemu", "--", "true"]))?;
    let (mut ours, mut plains) = (Vec::new(), Vec::new());
    for _ in 0..BOOT_RUNS {
        let run = brief(&mut up(&["up", "--locked", "--engine", "qemu", "--", "true"]))?;
        ours.push(run.as_secs_f64());
        plains.push(brief(&mut bed.sbx(&["up", "--engine", "qemu", "--", "true"]))?.as_secs_f64());
    }
    program::output(&mut up(&["rm", "--force"]))?;
    let figure =
        Figure::new("up-locked", median(ours), "s").against("without lock and steps", median(plains));
    Ok(vec![figure.at_most(Limit::Ratio(1.05))])
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
