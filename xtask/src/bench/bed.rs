//! What is measured on: a release build, a store of its own, a registry, and a repository with a sandbox.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::BenchError;
use crate::cache;
use crate::image;
use crate::kernel;
use crate::output;
use crate::program::{self, ProgramError};
use crate::registry::Registry;
use crate::tools::{self, Purpose};

/// The sandbox that most figures are taken in; the name is short, because sockets lie below it.
pub(super) const SANDBOX: &str = "bench";

/// The place of all measurements.
#[derive(Debug)]
pub(super) struct Bed {
    /// The program.
    pub(super) sbx: PathBuf,
    /// The guest kernel.
    pub(super) kernel: PathBuf,
    /// Serves the small image, and the large one once it has been asked for.
    pub(super) registry: Registry,
    /// OCI layout of the small image.
    pub(super) layout: PathBuf,
    directory: TempDir,
    _lock: File,
    pulled: bool,
}

impl Bed {
    /// Prepares everything that all figures need.
    pub(super) fn make() -> Result<Self, BenchError> {
        tools::ensure(&[Purpose::Machine, Purpose::Bench])?;
        let kernel = kernel::install()?;
        output::step("sbx", "compiling the release");
        let mut build = program::cargo();
        program::run(
            build.args(["build", "--release", "--package", "sbx-cli"]).current_dir(cache::repository()),
        )?;
        let layout = image::layout(&image::DEBIAN)?;
        let registry = Registry::start()?;
        registry.push(&layout, &image::DEBIAN)?;
        // Not in /tmp, which may be memory: stores are measured on a disk.
        let root = cache::directory("bench")?;
        let left = cache::abandoned(&root);
        let directory = tempfile::Builder::new().prefix("b").tempdir_in(root);
        let directory = directory.map_err(|source| failed("make a directory", source))?;
        let lock = cache::occupy(directory.path())?;
        let bed = Self {
            sbx: cache::target().join("release/sbx"),
            kernel,
            registry,
            layout,
            directory,
            _lock: lock,
            pulled: false,
        };
        for path in [bed.home(), bed.workspace()] {
            cache::create(&path)?;
        }
        for left in left {
            // The measurement was killed; its sandbox may still run.
            let mut remove = bed.sbx_at(&left.join("home"), &["rm", "--force", "-n", SANDBOX]);
            let _ = program::output(&mut remove);
            cache::remove(&left)?;
        }
        let manifest = format!(
            "sandbox \"{SANDBOX}\"\nagent \"shell\"\nimage \"docker.io/{}\"\n\
             resources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n",
            image::DEBIAN.full_name()
        );
        let path = bed.workspace().join("sandbox.kdl");
        fs::write(&path, manifest).map_err(|source| failed("write the manifest", source))?;
        Ok(bed)
    }

    /// $SBX_HOME of all that is measured here.
    pub(super) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The repository with the sandbox.
    pub(super) fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    /// A path for something temporary.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `sbx` with arguments, in the repository.
    pub(super) fn sbx(&self, arguments: &[&str]) -> Command {
        self.sbx_at(&self.home(), arguments)
    }

    /// The same with another $SBX_HOME.
    pub(super) fn sbx_at(&self, home: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.sbx);
        command.args(arguments).current_dir(self.workspace());
        command.env("SBX_HOME", home).env("SBX_KERNEL", &self.kernel);
        command.env("SBX_CONFIG", self.path("config.kdl"));
        command.env("SBX_MIRRORS", format!("docker.io=http://{}", self.registry.address()));
        command
    }

    /// Pulls the small image, once.
    pub(super) fn pull(&mut self) -> Result<(), ProgramError> {
        if !self.pulled {
            let name = format!("docker.io/{}", image::DEBIAN.full_name());
            program::output(&mut self.sbx(&["image", "pull", &name]))?;
            self.pulled = true;
        }
        Ok(())
    }

    /// The sandbox is up on QEMU, of which the figures here are, and detached until what is given back is dropped.
    pub(super) fn running(&mut self) -> Result<Running<'_>, ProgramError> {
        self.pull()?;
        program::output(&mut self.sbx(&["up", "--yes", "--engine", "qemu", "-d"]))?;
        Ok(Running { bed: self })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = program::output(&mut self.sbx(&["rm", "--force", "-n", SANDBOX]));
    }
}

/// A sandbox that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) bed: &'a Bed,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = program::output(&mut self.bed.sbx(&["stop", "-n", SANDBOX]));
    }
}

/// An error of the file system.
pub(super) fn failed(action: impl Into<String>, source: std::io::Error) -> BenchError {
    BenchError::Io { action: action.into(), source }
}
