//! Snapshots with packages and the effect of setup commands in them.

mod agents;
mod apk;
mod apt;
mod dnf;
mod killed;
mod managers;
mod published;
mod run;
mod setup;
mod site;
mod together;

use std::{fs, path::Path};

use sbx_tests::{Environment, Outcome};
use serde_json::Value;

/// `sbx up -- sh -c SCRIPT`, by a user who agrees to what the manifest opens.
fn up(env: &Environment, script: &str) -> Outcome {
    env.sbx(&["up", "--yes", "--", "sh", "-c", script])
}

/// The layers that steps have made, sorted.
fn layers(env: &Environment) -> Vec<String> {
    let records = fs::read_dir(env.home().join("steps/v1")).unwrap().map(|entry| entry.unwrap().path());
    let records = records.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let layer = |path: &Path| {
        let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        record["layer"].as_str().unwrap().to_owned()
    };
    let mut layers: Vec<_> = records.map(|path| layer(&path)).collect();
    layers.sort();
    layers
}

/// Forgets what was downloaded and made, as on another machine; the lock stays.
fn forget(env: &Environment) {
    env.sbx(&["rm", "--force"]).success();
    for made in ["downloads", "steps"] {
        fs::remove_dir_all(env.home().join(made)).unwrap();
    }
}

/// Directories of machines that build, which are gone when nothing is built.
fn leftovers(env: &Environment) -> usize {
    fs::read_dir(env.home().join("provision/machines")).map_or(0, Iterator::count)
}
