//! A throw-away machine: booted over a snapshot, told to run programs, looked at, and gone.
//!
//! ```text
//! $SBX_HOME/provision/
//!   sweep.lock             held while a directory is made or leftovers are removed
//!   machines/<random>/     the directory of a sandbox, that `sbx ls` does not show; `start.lock` is held by whoever uses it
//!       in/  out/          what the guest finds at /run/sbx/in (read-only) and leaves at /run/sbx/out
//!   logs/<step>.log        what the programs of a step last said
//! ```
//! Its sandbox process holds a lease of ours and nothing else, so that it ends with this process. What a killed one leaves
//! is removed by the next.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use sbx_image::Snapshot;
use sbx_proto::{BootConfig, Home};
use sbx_vmm::{config::MachineConfig, scratch};

use super::{
    client::{IN, OUT},
    old_files::{self, Removed},
};
use crate::{
    context::Context,
    error::{CommandError, Result},
    network::NetworkPlan,
    sandbox::{
        blueprint,
        control::{self, Lease},
        directory::{Lock, SandboxDirectory},
        plan::{Clock, Plan},
        spawn::{self, Foundation, Started},
        state::{Phase, State, now},
    },
    shares::ProjectShare,
};

/// The same for everybody: some packages note the name of the machine.
const HOSTNAME: &str = "sandbox";

/// What a machine is to be.
#[derive(Debug)]
pub(super) struct Setting<'s> {
    /// Kernel, guest and engine.
    pub(super) foundation: &'s Foundation,
    /// The root file system.
    pub(super) snapshot: &'s Snapshot,
    /// What may be reached; nothing if none.
    pub(super) network: Option<NetworkPlan>,
    /// What time it is.
    pub(super) clock: Clock,
    /// Variables of everything that runs in it.
    pub(super) environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Number of vCPUs.
    pub(super) vcpus: u8,
    /// Memory in MiB.
    pub(super) memory_mib: u32,
    /// Size of the disk in bytes; it is sparse.
    pub(super) disk_bytes: u64,
}

/// A machine that runs, as long as this lives.
#[derive(Debug)]
pub(super) struct Machine {
    directory: SandboxDirectory,
    process: Child,
    lease: Option<Lease>,
    scripts: std::cell::Cell<u32>,
    _lock: Lock,
}

impl Machine {
    /// Boots a machine. What its network refuses goes to `tell`.
    ///
    /// # Errors
    /// If it does not come up.
    pub(super) fn boot(
        context: &Context,
        setting: &Setting<'_>,
        workbench: Workbench,
        tell: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        let Workbench { directory, lock } = workbench;
        scratch::prepare(&directory.scratch(), setting.disk_bytes).map_err(|error| {
            CommandError::failed("cannot prepare the disk of a machine that builds a snapshot")
                .with_source(error)
        })?;
        let shares = shares(&directory);
        let plan = Plan {
            machine: setting.machine(&directory, &shares),
            boot: setting.boot_config(&shares),
            clock: setting.clock,
            engine: setting.foundation.choice.engine.clone(),
            network: setting.network.clone(),
            linger: false,
            // Nothing in it is worth a shutdown in order, whoever lets go of it.
            grace_milliseconds: 0,
        };
        setting.state(&directory).write(&directory)?;
        let Started { process, mut lease } = spawn::start(context, &directory, &plan)?;
        lease.listen(tell);
        Ok(Self { directory, process, lease: Some(lease), scripts: std::cell::Cell::new(0), _lock: lock })
    }

    /// The directory of its sandbox process.
    pub(super) fn directory(&self) -> &SandboxDirectory {
        &self.directory
    }

    /// What the guest left at [`OUT`].
    pub(super) fn out(&self) -> PathBuf {
        out_directory(&self.directory)
    }

    /// Writes a file that the guest finds in [`IN`], under a name that no file has had yet.
    pub(super) fn give(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = in_directory(&self.directory).join(name);
        fs::write(&path, content).map_err(|error| {
            CommandError::failed(format!("cannot write {}", path.display())).with_source(error)
        })
    }

    /// A number that no program of this machine has had.
    pub(super) fn next_number(&self) -> u32 {
        let number = self.scripts.get();
        self.scripts.set(number.saturating_add(1));
        number
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing in it is worth a shutdown in order.
        if let Some(mut lease) = self.lease.take() {
            lease.hear_out(&self.directory.run());
        }
        control::stop(&self.directory.run(), 0);
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.directory.wait_until_dead();
        remove(self.directory.path());
    }
}

impl Setting<'_> {
    fn machine(&self, directory: &SandboxDirectory, shares: &[ProjectShare]) -> MachineConfig {
        MachineConfig {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            kernel: self.foundation.kernel.clone(),
            initramfs: self.foundation.initramfs.clone(),
            kernel_parameters: self.foundation.kernel_parameters.clone(),
            root: blueprint::root(self.snapshot),
            scratch: directory.scratch(),
            shares: shares.iter().map(blueprint::share).collect(),
            network: self.network.as_ref().map(|_| blueprint::card()),
            ids: blueprint::ids(),
            directory: directory.run(),
        }
    }

    fn boot_config(&self, shares: &[ProjectShare]) -> BootConfig {
        let network = self.network.as_ref();
        BootConfig {
            hostname: HOSTNAME.to_owned(),
            unix_nanoseconds: 0,
            user: blueprint::user(),
            shares_tag: blueprint::SHARES_TAG.to_owned(),
            mounts: shares.iter().map(blueprint::mount).collect(),
            environment: self.environment.clone(),
            network: network.map(|_| blueprint::network()),
            registries: network.is_some_and(|network| !network.registries.is_empty()),
            certificates: network.map(|_| crate::network::certificates()).unwrap_or_default(),
            files: Vec::new(),
            home: Home::InRoot,
            fresh_root: false,
            setup_directories: Vec::new(),
            directory: b"/".to_vec(),
        }
    }

    /// The sandbox process wants to note how it goes; nobody else reads it.
    fn state(&self, directory: &SandboxDirectory) -> State {
        State {
            version: State::version(),
            manifest: PathBuf::new(),
            workspace: directory.path().to_path_buf(),
            profile: None,
            clone: false,
            agent: None,
            agents: Vec::new(),
            fresh_root: false,
            image: String::new(),
            image_digest: String::new(),
            snapshot: self.snapshot.key.clone(),
            engine: self.foundation.choice.engine.name().to_owned(),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            disk_bytes: self.disk_bytes,
            created: now(),
            phase: Phase::Starting,
            since: now(),
            reason: None,
        }
    }
}

/// The directory of a machine that is about to boot, in which files can be laid ready for it.
#[derive(Debug)]
pub(super) struct Workbench {
    directory: SandboxDirectory,
    lock: Lock,
}

impl Workbench {
    /// A new one, after what killed processes left was removed.
    pub(super) fn new(context: &Context) -> Result<Self> {
        let home = home(context);
        let machines = home.join("machines");
        let failed = |path: &Path, error: io::Error| {
            CommandError::failed(format!("cannot make {}", path.display())).with_source(error)
        };
        private_directory(&machines).map_err(|error| failed(&machines, error))?;
        // Between the making of a directory and the taking of its lock nobody may think that it is left over.
        let _sweeping = lock_sweep(&home).map_err(|error| failed(&home, error))?;
        remove_leftovers(&machines);
        let path = tempfile::Builder::new().rand_bytes(8).prefix("m").tempdir_in(&machines);
        let path = path.map_err(|error| failed(&machines, error))?.keep();
        let directory = SandboxDirectory::new(path);
        directory.create()?;
        for share in [in_directory(&directory), out_directory(&directory)] {
            private_directory(&share).map_err(|error| failed(&share, error))?;
        }
        let lock = directory.lock_start()?;
        Ok(Self { directory, lock })
    }

    /// What the guest will find at [`IN`].
    pub(super) fn input(&self) -> PathBuf {
        in_directory(&self.directory)
    }
}

/// Where machines and the logs of steps are.
pub(super) fn home(context: &Context) -> PathBuf {
    context.paths.home.join("provision")
}

/// Where the output of steps is kept.
pub(super) fn logs(context: &Context) -> PathBuf {
    home(context).join("logs")
}

fn in_directory(directory: &SandboxDirectory) -> PathBuf {
    directory.path().join("in")
}

fn out_directory(directory: &SandboxDirectory) -> PathBuf {
    directory.path().join("out")
}

fn shares(directory: &SandboxDirectory) -> Vec<ProjectShare> {
    let share = |name: &str, host: PathBuf, at: &str, read_only| ProjectShare {
        name: name.to_owned(),
        host,
        at: at.into(),
        read_only,
        protected: Vec::new(),
    };
    vec![share("in", in_directory(directory), IN, true), share("out", out_directory(directory), OUT, false)]
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes what killed processes left, as far as it is not used any more.
pub(crate) fn sweep(context: &Context) {
    let home = home(context);
    if let Ok(_sweeping) = lock_sweep(&home) {
        remove_leftovers(&home.join("machines"));
    }
}

/// Removes the output of steps that were last taken so long ago.
pub(crate) fn prune_logs(context: &Context, age: Duration) -> Removed {
    old_files::remove(&logs(context), age)
}

fn lock_sweep(home: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(home.join("sweep.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Removes the directories of machines that nobody uses.
fn remove_leftovers(machines: &Path) {
    let Ok(entries) = fs::read_dir(machines) else { return };
    for entry in entries.flatten() {
        let directory = SandboxDirectory::new(entry.path());
        let lock = File::open(directory.path().join("start.lock"));
        if lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        if directory.is_alive() {
            // It has lost its lease and is on its way down; in that it need not take its time, and we do not wait.
            control::stop(&directory.run(), 0);
        } else {
            remove(directory.path());
        }
    }
}

/// What cannot be removed now is swept by the next.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::debug!(path = %path.display(), %error, "cannot remove the directory of a machine");
    }
}
