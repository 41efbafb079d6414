//! Engines: what runs the guest's processors, and how the one for this machine is chosen.
//!
//! ```text
//! probe() ──▶ KvmProbe ──▶ choose() ──▶ Engine ──▶ Machine::build() ──▶ RunningGuest
//!                │
//!                └─ advice()
//! ```
//!
//! The devices are the same under every engine; an engine brings the transport between them and the guest.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::MachineConfig;
use crate::console::Log;
use crate::machine::{ExitReason, StartError};
use crate::virtio::VirtioDevice;

mod advice;
mod end;
pub mod kvm;
mod parameters;
mod probe;
pub mod qemu;

pub use advice::is_nested;
pub use probe::{KvmProbe, probe};

/// An engine by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Our own machine monitor on /dev/kvm.
    Kvm,
    /// QEMU as a child process, our devices served to it.
    Qemu,
}

impl EngineKind {
    /// The name that users know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through the kernel.
    Kvm,
    /// QEMU's translator, one thread per vCPU.
    Tcg,
}

/// An engine with everything that it needs to know of this computer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Our own machine monitor.
    Kvm,
    /// QEMU.
    Qemu {
        /// The program, absolute.
        program: PathBuf,
        /// What executes the guest.
        accelerator: Accelerator,
    },
}

impl Engine {
    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> EngineKind {
        match self {
            Self::Kvm => EngineKind::Kvm,
            Self::Qemu { .. } => EngineKind::Qemu,
        }
    }

    /// The name that users know.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Serves `devices` to a new guest, which waits to begin. What it says goes to `logs`.
    pub(crate) fn build(
        &self,
        config: &MachineConfig,
        devices: Vec<Box<dyn VirtioDevice>>,
        logs: Logs,
    ) -> Result<Box<dyn RunningGuest>, StartError> {
        match self {
            Self::Kvm => kvm::build(config, devices, logs),
            Self::Qemu { program, accelerator } => qemu::build(program, *accelerator, config, devices, logs),
        }
    }
}

/// Where an engine sends what it and the guest say.
#[derive(Debug)]
pub(crate) struct Logs {
    /// The guest's console.
    pub(crate) console: Log,
    /// What the engine itself complains about.
    pub(crate) engine: Log,
}

/// A guest that an engine runs. Dropping it ends the guest.
pub(crate) trait RunningGuest: fmt::Debug + Send + Sync {
    /// Lets the guest execute its first instruction. Called once every thread of the process has its filter.
    fn begin(&self);

    /// Ends the guest at once; nothing happens if it has ended. Called from any thread, any number of times.
    fn kill(&self);

    /// Waits for the end of the guest, until all that it said is logged. Called from any thread, any number of times.
    fn wait(&self) -> ExitReason;
}

/// The engine to use, and why not the best one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// The engine.
    pub engine: Engine,
    /// One line for the user if the guest will be slower than it might be.
    pub reason: Option<String>,
}

/// Why there is no engine.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChooseError {
    /// The kvm engine was asked for, and there is no KVM that could run it.
    #[error("the kvm engine cannot run here: {probe}")]
    KvmUnusable {
        /// What there is.
        probe: KvmProbe,
    },
    /// There is no QEMU.
    #[error("{program} is not installed, or not in PATH; on Debian: apt install qemu-system-x86")]
    QemuMissing {
        /// What was looked for.
        program: PathBuf,
    },
}

impl ChooseError {
    /// What to do about it, besides what the message says.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::KvmUnusable { probe } => probe.advice(),
            Self::QemuMissing { .. } => None,
        }
    }
}

/// Chooses the engine for this computer: ours if KVM runs on the hardware, QEMU otherwise. `requested` is the user's wish,
/// for which an emulated KVM will do; `qemu` is a QEMU that is not in PATH.
///
/// # Errors
/// If the engine is not there.
pub fn choose(
    requested: Option<EngineKind>,
    qemu: Option<&Path>,
    probe: &KvmProbe,
) -> Result<Choice, ChooseError> {
    match (requested, probe) {
        (None | Some(EngineKind::Kvm), KvmProbe::Hardware { .. }) => {
            Ok(Choice { engine: Engine::Kvm, reason: None })
        }
        (Some(EngineKind::Kvm), KvmProbe::Emulated { .. }) => {
            let reason = format!("{probe}: the guest's kernel runs a thousand times slower than it could");
            Ok(Choice { engine: Engine::Kvm, reason: Some(reason) })
        }
        (Some(EngineKind::Kvm), _) => Err(ChooseError::KvmUnusable { probe: probe.clone() }),
        (_, KvmProbe::Hardware { .. }) => {
            let program = qemu::find(qemu)?;
            Ok(Choice { engine: Engine::Qemu { program, accelerator: Accelerator::Kvm }, reason: None })
        }
        _ => {
            let program = qemu::find(qemu)?;
            let reason = Some(format!("{probe}: the guest runs in software emulation"));
            Ok(Choice { engine: Engine::Qemu { program, accelerator: Accelerator::Tcg }, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("my-qemu");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (directory, path)
    }

    #[test]
    fn hardware_is_used_and_its_absence_explained() {
        let (_directory, path) = program();
        let hardware = KvmProbe::Hardware { iterations_per_second: 2_000_000_000 };
        let ours = Choice { engine: Engine::Kvm, reason: None };
        let gone = Some(Path::new("/nowhere/qemu"));
        assert_eq!(choose(None, gone, &hardware), Ok(ours.clone()), "QEMU is not needed");
        assert_eq!(choose(Some(EngineKind::Kvm), gone, &hardware), Ok(ours));
        let choice = choose(Some(EngineKind::Qemu), Some(&path), &hardware).unwrap();
        assert_eq!(choice.reason, None);
        assert_eq!(choice.engine, Engine::Qemu { program: path.clone(), accelerator: Accelerator::Kvm });

        let emulated = KvmProbe::Emulated { iterations_per_second: 400_000 };
        assert_eq!(choose(None, Some(&path), &emulated).unwrap().engine.kind(), EngineKind::Qemu);
        let forced = choose(Some(EngineKind::Kvm), gone, &emulated).unwrap();
        assert_eq!(forced.engine, Engine::Kvm);
        assert!(forced.reason.unwrap().starts_with("/dev/kvm is emulated"));

        let missing = choose(Some(EngineKind::Qemu), Some(&path), &KvmProbe::Missing).unwrap();
        assert_eq!(missing.engine.name(), "qemu");
        assert_eq!(missing.engine, Engine::Qemu { program: path, accelerator: Accelerator::Tcg });
        assert_eq!(
            missing.reason.unwrap(),
            "there is no /dev/kvm (no virtualization, or no kvm module): the guest runs in software emulation"
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (_directory, path) = program();
        let denied = KvmProbe::NoPermission { group: "kvm".to_owned() };
        let error = choose(Some(EngineKind::Kvm), Some(&path), &denied).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kvm engine cannot run here: /dev/kvm is for the group `kvm`, which you are not in"
        );
        assert_eq!(error.advice(), denied.advice());
        let gone = Path::new("/nowhere/qemu");
        assert_eq!(
            choose(None, Some(gone), &KvmProbe::Missing),
            Err(ChooseError::QemuMissing { program: gone.to_path_buf() })
        );
    }
}
