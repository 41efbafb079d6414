//! Figures of the store: a cold pull against microsandbox's, and the snapshot from what is stored.

use std::process::Command;

use super::bed::Bed;
use super::measure::{Sample, median, sample};
use super::{BenchError, Figure, Limit, peers};
use crate::cache;
use crate::image;
use crate::program;

/// Cold pulls of each program, in turns.
const PULL_RUNS: usize = 3;
/// Snapshots.
const SNAPSHOT_RUNS: usize = 7;

/// Cold `sbx image pull` of the large image, wall and processor time.
pub(super) fn pull(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let name = push_large(bed)?;
    let msb = peers::microsandbox()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..PULL_RUNS {
        let home = bed.path("pull");
        ours.push(sample(&mut bed.sbx_at(&home, &["image", "pull", &name]))?);
        cache::remove(&home)?;
        theirs.push(sample(&mut msb_pull(bed, &msb.program, &name))?);
        cache::remove(&bed.path("msb"))?;
    }
    let middle = |samples: &[Sample], part: fn(&Sample) -> f64| median(samples.iter().map(part).collect());
    let what = format!("msb pull, {}", msb.version);
    let figure = |name: &str, part: fn(&Sample) -> f64| {
        let figure = Figure::new(name, middle(&ours, part), "s").against(&what, middle(&theirs, part));
        figure.at_most(Limit::Ratio(0.7))
    };
    Ok(vec![figure("pull wall", |sample| sample.wall), figure("pull cpu", |sample| sample.cpu)])
}

/// The same image once its layers, and once its snapshot, are stored; from a layout, so that no registry is asked.
pub(super) fn snapshot(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let layout = image::layout(&image::LARGE)?;
    let name = format!("oci-layout:{}:{}", layout.display(), image::LARGE.tag);
    let home = bed.path("snapshot");
    program::output(&mut bed.sbx_at(&home, &["image", "pull", &name]))?;
    let (mut from_layers, mut stored) = (Vec::new(), Vec::new());
    for _ in 0..SNAPSHOT_RUNS {
        cache::remove(&home.join("snapshots"))?;
        from_layers.push(sample(&mut bed.sbx_at(&home, &["image", "pull", &name]))?.wall * 1e3);
        stored.push(sample(&mut bed.sbx_at(&home, &["image", "pull", &name]))?.wall * 1e3);
    }
    cache::remove(&home)?;
    Ok(vec![
        Figure::new("snapshot layers stored", median(from_layers), "ms").at_most(Limit::Value(150.0)),
        Figure::new("snapshot stored", median(stored), "ms").at_most(Limit::Value(10.0)),
    ])
}

/// Serves the large image and gives its name there.
fn push_large(bed: &Bed) -> Result<String, BenchError> {
    let layout = image::layout(&image::LARGE)?;
    bed.registry.push(&layout, &image::LARGE)?;
    Ok(format!("{}/{}", bed.registry.address(), image::LARGE.full_name()))
}

fn msb_pull(bed: &Bed, program: &std::path::Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["pull", "--quiet", "--insecure", name]);
    command.env("MSB_HOME", bed.path("msb")).env("HOME", bed.path("msb"));
    command
}
