//! One machine: its devices put together, started under an engine, watched to its end.
//!
//! ```text
//! MachineConfig ─▶ devices ─▶ Engine ─▶ built ─▶ running ──▶ exited (powered off, panicked, killed, engine failed)
//!                                                   │  vsock(): streams to and from the guest
//!                                                   └─ kill(), or the Machine is dropped
//! ```
//!
//! Starting does not wait for the guest. Whoever waits for it to say something waits for [`Waiter::wait`] as well: a
//! guest that will never be ready ends, and nobody needs a time-out to find out.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::MachineConfig;
use crate::console::{Log, Tail};
use crate::engine::{Engine, Logs, RunningGuest, kvm::BootError};
use crate::seccomp;
use crate::virtio::VirtioDevice;
use crate::virtio::block::{BlockDevice, DiskError};
use crate::virtio::fs::{self, ShareError};
use crate::virtio::net::{Link, NetDevice};
use crate::virtio::rng::RngDevice;
use crate::virtio::vsock::VsockDevice;

pub use crate::virtio::vsock::VsockHandle;

/// Context id of the guest on its socket device; 0 to 2 are reserved (virtio 1.2, 5.10.4).
const GUEST_CID: u64 = 3;

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A disk cannot be used.
    #[error("cannot attach the {which} disk")]
    Disk {
        /// `root` or `scratch`.
        which: &'static str,
        /// Why not.
        #[source]
        source: DiskError,
    },
    /// A directory cannot be shared.
    #[error("cannot share the host's directories")]
    Share(#[source] ShareError),
    /// The machine's own directory, or something in it.
    #[error("cannot use {path}")]
    Directory {
        /// What is there.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The engine's program did not start.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel or the initramfs cannot be loaded.
    #[error("cannot boot {path}")]
    Boot {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BootError,
    },
    /// A network card has to be connected to something, and only a network card can be.
    #[error("a machine has a network card and a link for it, or neither")]
    Link,
    /// The host is out of something.
    #[error("cannot {doing}")]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Why a machine ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExitReason {
    /// The guest powered itself off.
    PoweredOff,
    /// We ended it.
    Killed,
    /// The guest's kernel panicked.
    Panicked {
        /// What it said.
        message: String,
    },
    /// The engine ended although the guest ran.
    Crashed {
        /// How.
        status: String,
    },
    /// KVM could not go on with one of the guest's processors.
    ProcessorFailed {
        /// Which, where and why.
        what: String,
    },
    /// The engine did not even start the guest.
    EngineFailed {
        /// How it ended.
        status: String,
    },
}

impl fmt::Display for ExitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => write!(formatter, "the guest powered off"),
            Self::Killed => write!(formatter, "the machine was ended"),
            // The guest's words, without what could move a terminal's cursor.
            Self::Panicked { message } => {
                let message: String = message.chars().filter(|letter| !letter.is_control()).collect();
                write!(formatter, "the guest's kernel panicked: {message}")
            }
            Self::Crashed { status } => write!(formatter, "QEMU ended while the guest ran ({status})"),
            Self::ProcessorFailed { what } => write!(formatter, "KVM could not go on with the guest: {what}"),
            Self::EngineFailed { status } => {
                write!(formatter, "QEMU ended before the guest ran ({status})")
            }
        }
    }
}

/// How a machine ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MachineExit {
    /// Why.
    pub reason: ExitReason,
    /// The last lines on the guest's console, as the guest wrote them.
    pub console_tail: Vec<String>,
    /// The last lines of the engine's own complaints.
    pub engine_tail: Vec<String>,
}

/// A machine that runs, or did. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    vsock: VsockHandle,
    waiter: Waiter,
}

impl Machine {
    /// Builds the machine and lets its guest begin.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn start(
        config: &MachineConfig,
        engine: &Engine,
        link: Option<Box<dyn Link>>,
    ) -> Result<Self, StartError> {
        let machine = Self::build(config, engine, link)?;
        machine.run();
        Ok(machine)
    }

    /// Builds the machine, with everything but a guest that does something. The console goes to `console.log` in the
    /// machine's directory, what the engine complains about to `engine.log`. `link` is what the network card is connected to, if
    /// the configuration has one.
    ///
    /// # Errors
    /// What prevents a start at once; what goes wrong later is how the machine ends.
    pub fn build(
        config: &MachineConfig,
        engine: &Engine,
        link: Option<Box<dyn Link>>,
    ) -> Result<Self, StartError> {
        let log = |name: &str| {
            let path = config.directory.join(name);
            Log::create(&path).map_err(|source| StartError::Directory { path, source })
        };
        let logs = Logs { console: log("console.log")?, engine: log("engine.log")? };
        let (console, complaints) = (logs.console.tail(), logs.engine.tail());
        let (devices, vsock) = devices(config, link)?;
        let guest = engine.build(config, devices, logs)?;
        Ok(Self { vsock, waiter: Waiter { guest: Arc::from(guest), console, complaints } })
    }

    /// Lets the guest begin, when every thread that [`seccomp::spawn`] started has its filter. The caller has its own.
    pub fn run(&self) {
        seccomp::wait_for_filters();
        self.waiter.guest.begin();
    }

    /// The door to the guest's sockets.
    #[must_use]
    pub fn vsock(&self) -> VsockHandle {
        self.vsock.clone()
    }

    /// Ends the machine at once, like pulling the plug. Does not wait.
    pub fn kill(&self) {
        self.waiter.guest.kill();
    }

    /// Something to wait with on another thread.
    #[must_use]
    pub fn waiter(&self) -> Waiter {
        self.waiter.clone()
    }

    /// Waits for the machine to end.
    #[must_use]
    pub fn wait(&self) -> MachineExit {
        self.waiter.wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A waiter elsewhere may keep the guest's handle; the guest itself ends now.
        self.kill();
        let _ = self.wait();
    }
}

/// Waits for a machine to end. Clones wait for the same machine.
#[derive(Clone, Debug)]
pub struct Waiter {
    guest: Arc<dyn RunningGuest>,
    console: Tail,
    complaints: Tail,
}

impl Waiter {
    /// Waits, on any thread; returns at once if the machine has ended.
    #[must_use]
    pub fn wait(&self) -> MachineExit {
        let reason = self.guest.wait();
        MachineExit { reason, console_tail: self.console.lines(), engine_tail: self.complaints.lines() }
    }
}

/// All devices, in the order in which the guest numbers them: the first disk is `/dev/vda`.
fn devices(
    config: &MachineConfig,
    link: Option<Box<dyn Link>>,
) -> Result<(Vec<Box<dyn VirtioDevice>>, VsockHandle), StartError> {
    let disk = |which| move |source| StartError::Disk { which, source };
    let root = BlockDevice::from_extents("root", &config.root).map_err(disk("root"))?;
    let scratch = BlockDevice::from_file("scratch", &config.scratch).map_err(disk("scratch"))?;
    let shares = fs::shares(&config.shares, config.ids).map_err(StartError::Share)?;
    let (vsock, handle) = VsockDevice::new(GUEST_CID)
        .map_err(|source| StartError::Host { doing: "make the socket device", source })?;
    let mut devices: Vec<Box<dyn VirtioDevice>> = vec![
        Box::new(root),
        Box::new(scratch),
        Box::new(shares),
        Box::new(vsock),
        Box::new(RngDevice::new()),
    ];
    match (config.network, link) {
        (Some(card), Some(link)) => devices.push(Box::new(NetDevice::new(card.mac, card.mtu, link))),
        (None, None) => {}
        _ => return Err(StartError::Link),
    }
    Ok((devices, handle))
}

#[cfg(test)]
mod tests;
