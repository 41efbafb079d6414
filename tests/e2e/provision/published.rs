//! Agents as their vendors publish them, from the registry that the image's npm is set up for.
//!
//! `published/NAME.lock` has the lines of the lock that pin an agent and all that is installed with it. What is downloaded is kept
//! from run to run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sbx_tests::{Environment, Outcome, mirrors};
use serde_json::Value;

use super::agents::version;

/// With this variable the tests write their locks anew instead of comparing: versions that a lock had stay, and whoever deletes
/// the file before gets those that the vendors publish now.
const RENEW: &str = "SBX_TEST_RENEW_AGENTS";

/// An environment with the suite's image that has Debian's node and npm, locked without anything else.
fn environment() -> Environment {
    let mirrors: String = mirrors().iter().map(|address| format!("    allow \"{address}\"\n")).collect();
    let env = Environment::new().with_registry().with_shared_downloads().manifest(&format!(
        "agent \"shell\"\nimage \"docker.io/library/clients:bookworm\"\nresources cpus=2 memory=\"2GiB\" disk=\"8GiB\"\n\
         network \"deny\" {{\n{mirrors}}}\n"
    ));
    env.sbx(&["lock", "--yes"]).success();
    env
}

/// Writes another agent into the manifest.
fn want(env: &Environment, agent: &str) {
    env.write("sandbox.kdl", env.read("sandbox.kdl").replace("agent \"shell\"", agent));
}

/// The lines of a lock that are about agents and what they are installed from, which are the same on every computer.
fn pins(lock: &str) -> String {
    let lines = lock.lines().filter(|line| line.starts_with("agent ") || line.starts_with("npm "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Asks an agent for its version as `sbx agent show` says it is asked.
fn ask(env: &Environment, agent: &str) -> Outcome {
    let shown: Value = serde_json::from_str(&env.sbx(&["agent", "show", agent, "--json"]).text()).unwrap();
    let words: Vec<&str> =
        shown["version_command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[0], shown["command"][0].as_str().unwrap());
    let up = ["up", "--locked", "--"];
    env.sbx(&[&up, &words[1..]].concat()).success()
}

/// The agent is installed as its lock says, and says the version that the lock says.
fn assert_installed(agent: &str) {
    let path = format!("{}/e2e/provision/published/{agent}.lock", env!("CARGO_MANIFEST_DIR"));
    let path = PathBuf::from(path);
    let pinned = fs::read_to_string(&path).unwrap_or_default();
    let env = environment();
    want(&env, &format!("agent \"{agent}\""));
    // The image is this computer's own; what is installed in it is the same everywhere.
    env.write("sandbox.lock", format!("{}{pinned}", env.read("sandbox.lock")));
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    if std::env::var_os(RENEW).is_some() {
        fs::write(&path, pins(&lock)).unwrap();
    } else {
        assert_eq!(pins(&lock), pinned, "{RENEW}=1 writes {} anew", path.display());
    }
    let (said, version) = (ask(&env, agent).stdout(), version(&lock, agent));
    // Copilot ends a sentence with it.
    let mut words = said.split_whitespace().map(|word| word.trim_end_matches('.'));
    assert!(words.any(|word| word == version), "{agent} {version}: {said}");
}

#[test]
fn claude_says_the_version_of_its_lock() {
    assert_installed("claude");
}

#[test]
fn codex_says_the_version_of_its_lock() {
    assert_installed("codex");
}

#[test]
fn copilot_says_the_version_of_its_lock() {
    assert_installed("copilot");
}

#[test]
fn gemini_says_the_version_of_its_lock() {
    assert_installed("gemini");
}

#[test]
fn opencode_says_the_version_of_its_lock() {
    assert_installed("opencode");
}

#[test]
fn qwen_says_the_version_of_its_lock() {
    assert_installed("qwen");
}

#[test]
fn a_package_that_nothing_pins_is_found_in_the_registry() {
    let env = environment();
    want(&env, "agent \"json5\" { install npm=\"json5\"; command \"json5\"; }");
    env.sbx(&["lock", "--yes"]).success();
    let said = env.sbx(&["up", "--locked", "--", "--version"]).text();
    assert_eq!(said, version(&env.read("sandbox.lock"), "json5"));
}

#[test]
fn the_documentation_names_the_versions_that_are_tested() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(directory.join("../docs/agents.md")).unwrap();
    let locks = fs::read_dir(directory.join("e2e/provision/published")).unwrap();
    for path in locks.map(|lock| lock.unwrap().path()) {
        let agent = path.file_stem().unwrap().to_str().unwrap();
        let lock = fs::read_to_string(&path).unwrap();
        let version = version(&lock, agent);
        assert!(document.contains(&format!(" {version}")), "{agent} {version}");
    }
}
