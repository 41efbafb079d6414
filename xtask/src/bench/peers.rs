//! Programs of others that we are measured against, installed once below the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::BenchError;
use super::bed::failed;
use crate::cache;
use crate::output;
use crate::program;

/// The virtio-fs server that the figures of the workspace are compared with.
const VIRTIOFSD: &str = "1.14.0";
/// The Python package that carries the program `msb`.
const MICROSANDBOX: &str = "microsandbox";

/// How long a server may take until its socket is there, and between two looks for it.
const SOCKET_LIMIT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A program and what it says it is.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its path.
    pub(super) program: PathBuf,
    /// Its version, in its own words.
    pub(super) version: String,
}

/// Starts the server `name` and waits for its socket.
pub(super) fn serve(command: &mut Command, socket: &Path, name: &str) -> Result<Child, BenchError> {
    let start_failed = |source| failed(format!("start {name}"), source);
    // The last one was killed and left it.
    let _ = fs::remove_file(socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(start_failed)?;
    let begin = Instant::now();
    while !socket.exists() {
        let ended = child.try_wait().map_err(start_failed)?.is_some();
        if ended || begin.elapsed() > SOCKET_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(start_failed(std::io::ErrorKind::TimedOut.into()));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(child)
}

/// microsandbox from the Python registry: the program inside the package, not the script around it.
pub(super) fn microsandbox() -> Result<Peer, BenchError> {
    let place = cache::directory("tools")?.join(MICROSANDBOX);
    let _lock = cache::lock(&place, || {})?;
    if !place.exists() {
        output::step("peers", "installing microsandbox from the Python registry");
        let part = cache::beside(&place, "part");
        cache::remove(&part)?;
        program::output(Command::new("python3").args(["-m", "venv"]).arg(&part))?;
        program::output(Command::new(part.join("bin/pip")).args(["install", "--quiet", MICROSANDBOX]))?;
        cache::publish(&part, &place)?;
    }
    let program = bundled(&place.join("lib"))?;
    let version = program::output(Command::new(&program).arg("--version"))?;
    let version = String::from_utf8_lossy(&version).trim().to_owned();
    Ok(Peer { program, version })
}

/// `lib/python3.x/site-packages/microsandbox/_bundled/bin/msb`, for whichever x.
fn bundled(lib: &Path) -> Result<PathBuf, BenchError> {
    let read_failed = |source| failed(format!("read {}", lib.display()), source);
    let pythons = fs::read_dir(lib).map_err(read_failed)?.flatten();
    let mut programs =
        pythons.map(|python| python.path().join("site-packages").join(MICROSANDBOX).join("_bundled/bin/msb"));
    programs.find(|path| path.exists()).ok_or_else(|| read_failed(std::io::ErrorKind::NotFound.into()))
}

/// virtiofsd from the Rust registry.
pub(super) fn virtiofsd() -> Result<Peer, BenchError> {
    let place = cache::directory("tools")?.join(format!("virtiofsd-{VIRTIOFSD}"));
    let _lock = cache::lock(&place, || {})?;
    let program = place.join("bin/virtiofsd");
    if !program.exists() {
        output::step("peers", "compiling virtiofsd from the Rust registry, about two minutes");
        let mut install = program::cargo();
        install.args(["install", "--quiet", "--locked", "virtiofsd", "--version", VIRTIOFSD, "--root"]);
        program::output(install.arg(&place))?;
    }
    Ok(Peer { program, version: VIRTIOFSD.to_owned() })
}
