//! What is remembered about a sandbox, in `state.json`.

use std::{fs, io, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    death,
    directory::{SandboxDirectory, write_atomically},
};
use crate::error::{CommandError, Result};

/// Version of the file; one that is not ours is refused with a way out, never guessed at.
const VERSION: u32 = 1;

/// Everything that `sbx ls` and the next start want to know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Version of this file's format.
    pub(crate) version: u32,
    /// The manifest that the sandbox was made from.
    pub(crate) manifest: PathBuf,
    /// Directory of the manifest.
    pub(crate) workspace: PathBuf,
    /// The profile, if one was chosen.
    pub(crate) profile: Option<String>,
    /// The agent, if another one than the manifest's first was chosen.
    #[serde(default)]
    pub(crate) agent: Option<String>,
    /// All agents that it was started with, in the order of their names.
    #[serde(default)]
    pub(crate) agents: Vec<String>,
    /// Whether the next boot throws away what was written to the root file system; the home stays.
    #[serde(default)]
    pub(crate) fresh_root: bool,
    /// Whether the sandbox works on a copy of the workspace.
    #[serde(default)]
    pub(crate) clone: bool,
    /// The image as the manifest names it.
    pub(crate) image: String,
    /// Digest of the image's manifest.
    pub(crate) image_digest: String,
    /// Key of the snapshot that the disk belongs to; the disk cannot be used over another one.
    pub(crate) snapshot: String,
    /// Engine that it last ran on.
    pub(crate) engine: String,
    /// Number of vCPUs.
    pub(crate) vcpus: u8,
    /// Guest memory in MiB.
    pub(crate) memory_mib: u32,
    /// Size of the scratch disk in bytes.
    pub(crate) disk_bytes: u64,
    /// When the sandbox was made, in seconds since the Unix epoch.
    pub(crate) created: u64,
    /// Where it is in its life, as the process last wrote it.
    pub(crate) phase: Phase,
    /// When the phase began, in seconds since the Unix epoch.
    pub(crate) since: u64,
    /// Why it stopped, if it was not asked to.
    pub(crate) reason: Option<String>,
}

/// Where a sandbox is in its life; the module doc of [`super`] has the transitions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// The machine boots.
    Starting,
    /// The agent answers.
    Running,
    /// The guest powers off.
    Stopping,
    /// No machine.
    Stopped,
    /// No machine, and nobody got to write that down: the process was killed, or the host went away.
    Died,
}

impl Phase {
    /// For people and for `--json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Died => "died",
        }
    }
}

impl State {
    /// The version that this program writes.
    pub(crate) const fn version() -> u32 {
        VERSION
    }

    /// Reads the state of `directory`; none if there is no such sandbox.
    pub(crate) fn read(directory: &SandboxDirectory) -> Result<Option<Self>> {
        let path = directory.state();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(
                    CommandError::failed(format!("cannot read {}", path.display())).with_source(error)
                );
            }
        };
        let name = directory.name();
        let unusable = |error: CommandError| {
            error.with_hint(format!(
                "`sbx rm --force -n {name}` removes the sandbox; its workspace is not touched"
            ))
        };
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| {
            unusable(CommandError::failed(format!("{} is not readable", path.display())).with_source(error))
        })?;
        if state.version != VERSION {
            return Err(unusable(CommandError::failed(format!(
                "{} has version {}, this sbx knows version {VERSION}",
                path.display(),
                state.version
            ))));
        }
        Ok(Some(state))
    }

    /// Writes the state of `directory`.
    pub(crate) fn write(&self, directory: &SandboxDirectory) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            CommandError::failed("cannot encode the state of the sandbox").with_source(error)
        })?;
        write_atomically(&directory.state(), &text)
    }

    /// Moves on to `phase`.
    pub(crate) fn enter(&mut self, phase: Phase, reason: Option<String>) {
        self.phase = phase;
        self.since = now();
        self.reason = reason;
    }

    /// The phase, corrected by whether the process lives.
    pub(crate) fn phase_seen(&self, directory: &SandboxDirectory) -> Phase {
        match (self.phase, directory.is_alive()) {
            (Phase::Stopped, true) => Phase::Starting,
            (phase, true) => phase,
            (Phase::Stopped, false) => Phase::Stopped,
            (_, false) => Phase::Died,
        }
    }

    /// Why it is in the phase that is seen, as far as anybody knows.
    pub(crate) fn reason_seen(&self, directory: &SandboxDirectory) -> Option<String> {
        let died = || self.phase_seen(directory) == Phase::Died;
        self.reason.clone().or_else(|| died().then(|| death::UNSEEN.to_owned()))
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
