//! A registry on loopback: Debian's package of the reference implementation, as a child that dies with us.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thiserror::Error;

use crate::cache::{self, CacheError};
use crate::image::Recipe;
use crate::output;
use crate::program::{self, ProgramError};
use crate::tools::{self, Purpose, ToolsError};

/// How long a registry may take until it answers; it is far below a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether it answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many ports are tried: between our choice and the registry's bind another process can take one.
const ATTEMPTS: usize = 5;

/// Why there is no registry.
#[derive(Debug, Error)]
pub(crate) enum RegistryError {
    /// The programs are not there.
    #[error("cannot serve images")]
    Tools(#[from] ToolsError),
    /// Its storage could not be made.
    #[error("cannot keep what the registry serves")]
    Cache(#[from] CacheError),
    /// No port, or a file of it could not be written.
    #[error("cannot prepare the registry")]
    Prepare(#[source] io::Error),
    /// It ended or did not answer.
    #[error("docker-registry does not answer; it said:\n{log}")]
    Silent {
        /// Its output.
        log: String,
    },
    /// An image could not be put into it.
    #[error("cannot push {image} to the registry")]
    Push {
        /// Name and tag.
        image: String,
        /// What failed.
        source: ProgramError,
    },
}

/// A running registry, which ends with this value or with the process.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    port: u16,
    _storage: TempDir,
    _lock: File,
}

impl Registry {
    /// Starts an empty registry on a free port of 127.0.0.1. Call from the main thread (see `dies_with_us`).
    pub(crate) fn start() -> Result<Self, RegistryError> {
        tools::ensure(&[Purpose::Registry])?;
        let root = cache::directory("registries")?;
        for storage in cache::abandoned(&root) {
            cache::remove(&storage)?;
        }
        let storage =
            tempfile::Builder::new().prefix("r").tempdir_in(&root).map_err(RegistryError::Prepare)?;
        let lock = cache::occupy(storage.path())?;
        let mut failure = String::new();
        for _ in 0..ATTEMPTS {
            let (mut child, port) = spawn(storage.path()).map_err(RegistryError::Prepare)?;
            if answers(&mut child, port) {
                output::step("registry", format_args!("127.0.0.1:{port}, Debian's docker-registry"));
                return Ok(Self { child, port, _storage: storage, _lock: lock });
            }
            end(&mut child);
            failure = fs::read_to_string(storage.path().join("log")).unwrap_or_default();
        }
        Err(RegistryError::Silent { log: failure })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts an image of an OCI layout into it under the image's own name.
    pub(crate) fn push(&self, layout: &Path, image: &Recipe) -> Result<(), RegistryError> {
        self.push_as(layout, image, &image.full_name())
    }

    /// Puts an image of an OCI layout into it under another name.
    pub(crate) fn push_as(&self, layout: &Path, image: &Recipe, name: &str) -> Result<(), RegistryError> {
        let mut copy = Command::new("skopeo");
        // Debian's skopeo wants a policy file that a container user may not have; ours says what we know: we made it.
        copy.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:{}", layout.display(), image.tag));
        copy.arg(format!("docker://{}/{name}", self.address()));
        program::output(&mut copy)
            .map_err(|source| RegistryError::Push { image: name.to_owned(), source })?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn spawn(storage: &Path) -> io::Result<(Child, u16)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = storage.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        serde_json::Value::from(storage.join("data").display().to_string())
    );
    fs::write(&config, text)?;
    let log = File::create(storage.join("log"))?;
    let mut command = program::dies_with_us("docker-registry");
    command.arg("serve").arg(&config);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok((command.spawn()?, port))
}

fn answers(child: &mut Child, port: u16) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < START_LIMIT {
        if asked(port)
            .is_ok_and(|answer| answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
        {
            return true;
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    false
}

fn asked(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(START_LIMIT))?;
    stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Can the registry that the world uses be reached from here? Asked with a connection only, nothing is sent.
pub(crate) fn reachable(host: &str) -> bool {
    let addresses = (host, 443).to_socket_addrs().into_iter().flatten();
    addresses.take(3).any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok())
}
