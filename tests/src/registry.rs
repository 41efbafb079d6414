//! A registry of a test's own: Debian's docker-registry on loopback.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The registry, which ends when it is dropped, and its files with it.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    host: String,
    directory: TempDir,
}

impl Registry {
    /// Starts one that knows nothing.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (config, storage) = (directory.path().join("registry.yml"), directory.path().join("storage"));
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = serve
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; Debian: apt install docker-registry"));
        let registry = Self { child, host, directory };
        let begun = Instant::now();
        while TcpStream::connect(&registry.host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "docker-registry does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// How images in it are called: this, a slash, and a name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The files of blobs, largest first.
    ///
    /// # Panics
    /// If they cannot be read.
    #[must_use]
    pub fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.directory.path().join("storage/docker/registry/v2/blobs"), &mut found);
        found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}
