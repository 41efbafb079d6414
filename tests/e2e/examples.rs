//! The examples for real projects: what their READMEs say, on an image like the one that they name, with the real
//! registries that the image's clients are set up for.

use std::{fs, path::Path};

use sbx_tests::{Environment, mirrors};

/// An environment whose repository is a copy of `examples/NAME`, on a small machine.
fn example(name: &str) -> Environment {
    let env = Environment::new().with_registry();
    copy(&env, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name), "");
    let mut manifest = env.read("sandbox.kdl");
    manifest.push_str("\nresources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n");
    let mirrors: String = mirrors().iter().map(|address| format!("    allow \"{address}\"\n")).collect();
    if manifest.contains("network ") {
        manifest = manifest.replace("network \"deny\" {\n", &format!("network \"deny\" {{\n{mirrors}"));
    } else {
        manifest.push_str(&format!("network \"deny\" {{\n{mirrors}}}\n"));
    }
    env.manifest(&manifest)
}

fn copy(env: &Environment, from: &Path, to: &str) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let name = format!("{to}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            copy(env, &entry.path(), &format!("{name}/"));
        } else {
            env.write(&name, fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn a_node_project_builds_and_tests_inside() {
    let env = example("node");
    let outcome = env.sbx(&["up", "--yes", "--", "npm", "test"]).success();
    assert!(outcome.stdout().contains("pass 2"), "{}", outcome.stdout());
    // What the setup made is in the snapshot; the repository has the place for it only.
    assert_eq!(fs::read_dir(env.repo().join("node_modules")).unwrap().count(), 0);
    let again = env.sbx(&["up", "--locked", "--", "npm", "test"]).success();
    assert!(!again.stderr.contains("setup"), "{}", again.stderr);
}

#[test]
fn a_python_project_tests_inside() {
    let env = example("python");
    let outcome = env.sbx(&["up", "--yes", "--", "pytest"]).success();
    assert!(outcome.stdout().contains("2 passed"), "{}", outcome.stdout());
    let lock = env.read("sandbox.lock");
    assert!(lock.lines().any(|line| line.starts_with("pip \"pytest\" \"")), "{lock}");
}

#[test]
fn a_rust_project_builds_and_tests_inside_without_a_network() {
    let env = example("rust");
    let outcome = env.sbx(&["up", "--yes", "--", "cargo", "test", "--offline"]).success();
    assert!(outcome.stdout().contains("2 passed"), "{}", outcome.stdout());
}
