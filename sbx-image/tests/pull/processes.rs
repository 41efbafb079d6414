//! Several processes on one store, and processes that are killed.
//!
//! The other processes are this test program itself, asked to run [`pull_for_another_test`] alone.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sbx_image::progress::Silent;
use sbx_image::{Source, Store};

use crate::image::TestImage;
use crate::server::{Ending, Server};
use crate::{TestStore, install_crypto, quick_options, runtime, with_causes};

const HOME: &str = "SBX_TEST_PULL_HOME";
const SOURCE: &str = "SBX_TEST_PULL_SOURCE";
/// A file with credentials, for tests whose credential helpers must be found in a `PATH` of their own.
pub(crate) const CREDENTIALS: &str = "SBX_TEST_PULL_CREDENTIALS";
/// Milliseconds that a credential helper may take.
pub(crate) const HELPER_TIMEOUT: &str = "SBX_TEST_PULL_HELPER_TIMEOUT";

/// Not a test: what the other processes run. Prints the layers that it stored, or the error.
#[test]
fn pull_for_another_test() {
    let (Ok(home), Ok(source)) = (std::env::var(HOME), std::env::var(SOURCE)) else { return };
    install_crypto();
    let store = Store::open(Path::new(&home)).unwrap();
    let source: Source = source.parse().unwrap();
    let mut options = quick_options();
    options.credential_files = std::env::var_os(CREDENTIALS).map(Into::into).into_iter().collect();
    if let Ok(milliseconds) = std::env::var(HELPER_TIMEOUT) {
        options.network.helper_timeout = Duration::from_millis(milliseconds.parse().unwrap());
    }
    let result = runtime().block_on(sbx_image::pull(&store, &source, &options, &Silent));
    match result.map(|image| (image.new_layers, store.snapshot(&image))) {
        Ok((new, Ok(_))) => println!("\nSTORED {new}"),
        Ok((_, Err(error))) => println!("\nFAILED {}", with_causes(&error)),
        Err(error) => println!("\nFAILED {}", with_causes(&error)),
    }
}

/// The command that pulls `source` into the store at `home`, after `wrapper` if there is one.
pub(crate) fn puller(wrapper: &[&str], home: &Path, source: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command.args(["--exact", "processes::pull_for_another_test", "--nocapture", "--test-threads=1"]);
    command.env(HOME, home).env(SOURCE, source).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the puller printed.
pub(crate) fn outcome(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("STORED") || line.starts_with("FAILED"));
    line.map(str::to_owned).unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn two_processes_share_the_work() {
    let image = TestImage::of_bytes(4 << 20);
    let server = Server::with_script(&image, |request, reply| {
        if request.is_blob() { reply.ending(Ending::Slow(Duration::from_millis(5))) } else { reply }
    });
    let test = TestStore::new();
    let start = || puller(&[], test.store.home(), &server.reference()).spawn().unwrap();
    let mut outcomes: Vec<String> = [start(), start(), start()].into_iter().map(outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["STORED 0", "STORED 0", "STORED 1"]);
    assert_eq!(server.requests(image.layers[0].hex()).len(), 1, "the layer came once");
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
    test.assert_sound();
}

#[test]
fn a_killed_pull_is_continued_by_the_next() {
    let image = TestImage::of_bytes(8 << 20);
    let layer = image.layers[0].clone();
    let name = layer.clone();
    let server = Server::with_script(&image, move |request, reply| {
        let first = request.path.ends_with(name.hex()) && request.earlier == 0;
        if first { reply.ending(Ending::Stall(5 << 20)) } else { reply }
    });
    let test = TestStore::new();
    let mut child = puller(&[], test.store.home(), &server.reference()).spawn().unwrap();
    let partial = test.store.home().join("blobs/v1/sha256").join(layer.hex()).with_extension("partial");
    wait_until(|| std::fs::metadata(&partial).is_ok_and(|metadata| metadata.len() >= 5 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!test.leftovers().is_empty());
    let pulled = test.pull(&server.reference()).unwrap();
    assert_eq!(server.requests(layer.hex())[1].header("range"), format!("bytes={}-", 5 << 20));
    assert!(pulled.downloaded_bytes < 4 << 20, "{}", pulled.downloaded_bytes);
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
    test.assert_sound();
}

#[test]
fn a_pull_that_is_killed_anywhere_leaves_a_sound_store() {
    let image = TestImage::of_bytes(6 << 20);
    let server = Server::with_script(&image, |request, reply| {
        if request.is_blob() { reply.ending(Ending::Slow(Duration::from_millis(2))) } else { reply }
    });
    let test = TestStore::new();
    for run in 0_u64..12 {
        let mut command = puller(&[], test.store.home(), &server.reference());
        command.process_group(0);
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(run * 25));
        child.kill().unwrap();
        child.wait().unwrap();
        test.assert_sound();
        if let Some(found) = test.find(&server.reference()) {
            assert_eq!(Some(found.manifest_digest), image.manifest);
        }
    }
    let pulled = test.pull(&server.reference()).unwrap();
    test.store.snapshot(&pulled).unwrap();
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
    test.assert_sound();
}

#[test]
fn what_lives_is_not_swept() {
    let image = TestImage::of_bytes(4 << 20);
    let name = image.layers[0].clone();
    let server = Server::with_script(&image, move |request, reply| {
        let layer = request.path.ends_with(name.hex());
        if layer { reply.ending(Ending::Slow(Duration::from_millis(10))) } else { reply }
    });
    let test = TestStore::new();
    let child = puller(&[], test.store.home(), &server.reference()).spawn().unwrap();
    wait_until(|| !server.requests(image.layers[0].hex()).is_empty());
    // Another pull sweeps while the first one works.
    let small = TestImage::of_bytes(10);
    let other = Server::new(&small);
    test.pull(&other.reference()).unwrap();
    assert_eq!(outcome(child), "STORED 1");
    test.assert_sound();
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_proxy_is_not_asked_for_this_machine() {
    let image = TestImage::of_bytes(10);
    let server = Server::new(&image);
    let test = TestStore::new();
    let mut command = puller(&[], test.store.home(), &server.reference());
    // Nothing listens there.
    let child =
        command.env("HTTP_PROXY", "http://127.0.0.1:9").env_remove("NO_PROXY").env_remove("no_proxy").spawn();
    assert_eq!(outcome(child.unwrap()), "STORED 1");
}
