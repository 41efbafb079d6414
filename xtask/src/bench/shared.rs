//! Figures of snapshots that others have pushed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::bed::{Bed, SANDBOX, failed};
use super::measure::{brief, median};
use super::{BenchError, Figure, Limit};
use crate::program;

/// Runs, each of which pulls and boots.
const RUNS: usize = 7;
/// The sandbox.
const SANDBOX_SHARED: &str = "shared";
/// What is in the snapshot besides the image: libraries, as packages have them, about 100 MB.
const STEPS: &str = "setup \"for n in 1 2; do mkdir ~/$n && cp -r /usr/lib /usr/share ~/$n; done\"\n";

/// `sbx up --locked -- true` of a snapshot that is in a registry, less the same when the snapshot is here, and less what it takes
/// skopeo to download the snapshot.
pub(super) fn up_shared(bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    drop(bed.running()?);
    let plain = fs::read_to_string(bed.workspace().join("sandbox.kdl"))
        .map_err(|source| failed("read the manifest", source))?;
    let repository = bed.path("shared");
    fs::create_dir_all(&repository).map_err(|source| failed("make a repository", source))?;
    let share = format!("share \"{}/acme/sandboxes\"\n", bed.registry.address());
    let manifest = plain.replace(SANDBOX, SANDBOX_SHARED) + &share + STEPS;
    fs::write(repository.join("sandbox.kdl"), manifest)
        .map_err(|source| failed("write the manifest", source))?;
    let sbx = |arguments: &[&str]| {
        let mut command = bed.sbx(arguments);
        command.current_dir(&repository);
        command
    };
    let layers = bed.home().join("layers/v1/sha256");
    let before = names(&layers)?;
    program::output(&mut sbx(&["lock", "--yes"]))?;
    let pushed = program::output(&mut sbx(&["push", "--yes"]))?;
    let reference = format!("docker://{}", String::from_utf8_lossy(&pushed).trim());
    let (mut pulled, mut cached, mut downloads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        forget(bed, &layers, &before)?;
        let up = || sbx(&["up", "--locked", "--engine", "qemu", "--", "true"]);
        pulled.push(brief(&mut up())?.as_secs_f64() * 1e3);
        program::output(&mut sbx(&["rm", "--force"]))?;
        cached.push(brief(&mut up())?.as_secs_f64() * 1e3);
        program::output(&mut sbx(&["rm", "--force"]))?;
        let copy = bed.path("copy");
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["copy", "-q", "--src-tls-verify=false", &reference])
            .arg(format!("dir:{}", copy.display()));
        downloads.push(brief(&mut skopeo)?.as_secs_f64() * 1e3);
        remove(&copy)?;
    }
    let (pulled, cached, download) = (median(pulled), median(cached), median(downloads));
    let beyond =
        Figure::new("up-shared beyond", pulled - cached - download, "ms").at_most(Limit::Value(150.0));
    let figure =
        Figure::new("up-shared", pulled, "ms").against("snapshot here, and its download", cached + download);
    Ok(vec![figure, beyond])
}

/// Takes out of the store what the steps made.
fn forget(bed: &Bed, layers: &Path, before: &BTreeSet<OsString>) -> Result<(), BenchError> {
    for layer in names(layers)?.difference(before) {
        remove(&layers.join(layer))?;
    }
    remove(&bed.home().join("steps"))?;
    // Its own and the image's: both are written again, as for somebody who has neither.
    remove(&bed.home().join("snapshots"))
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>, BenchError> {
    let entries = fs::read_dir(directory).map_err(|source| failed("list layers", source))?;
    Ok(entries.flatten().map(|entry| entry.file_name()).collect())
}

fn remove(path: &Path) -> Result<(), BenchError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(failed("delete", source)),
        _ => Ok(()),
    }
}
