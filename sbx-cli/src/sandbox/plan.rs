//! What a sandbox process is to do, as the command that starts it writes it to `plan.json`.

use std::fs;

use sbx_proto::BootConfig;
use sbx_vmm::config::MachineConfig;
use serde::{Deserialize, Serialize};

use super::directory::{SandboxDirectory, write_atomically};
use crate::{
    error::{CommandError, Result},
    network::NetworkPlan,
};

/// Everything that the sandbox process needs; it reads nothing else.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The machine.
    pub(crate) machine: MachineConfig,
    /// What the guest is told when it dials home. Its clock is set when it is sent, as `clock` says.
    pub(crate) boot: BootConfig,
    /// What time it is in the guest.
    pub(crate) clock: Clock,
    /// The engine.
    pub(crate) engine: sbx_vmm::engine::Engine,
    /// The network, if the machine has one.
    pub(crate) network: Option<NetworkPlan>,
    /// Stay up without leases.
    pub(crate) linger: bool,
    /// Milliseconds between SIGTERM and SIGKILL in the guest when the last lease is gone.
    pub(crate) grace_milliseconds: u32,
}

/// A guest's clock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Clock {
    /// Kept at the host's.
    #[default]
    Host,
    /// Begins at this time, in nanoseconds since the Unix epoch, and is left alone: what is built does not depend on when.
    From(u64),
}

impl Plan {
    /// Reads the plan in `directory`.
    pub(crate) fn read(directory: &SandboxDirectory) -> Result<Self> {
        let path = directory.plan();
        let bytes = fs::read(&path).map_err(|error| {
            CommandError::failed(format!("cannot read {}", path.display())).with_source(error)
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            CommandError::failed(format!("cannot decode {}", path.display())).with_source(error)
        })
    }

    /// Writes the plan into `directory`.
    pub(crate) fn write(&self, directory: &SandboxDirectory) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| {
            CommandError::failed("cannot encode the plan of the sandbox").with_source(error)
        })?;
        write_atomically(&directory.plan(), &bytes)
    }
}
