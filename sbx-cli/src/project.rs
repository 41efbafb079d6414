//! A repository and what its `sandbox.kdl` declares, with every path made absolute and every default filled in.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sbx_image::{Platform, Source, source::SourceError};
use sbx_manifest::{
    Feature, Manifest,
    model::{Agent, WorkspaceMode},
};

use crate::{
    agents,
    context::Context,
    error::{CommandError, Result},
    shares::{self, ProjectShare, Wanted},
    ui::Ui,
};

/// The file that declares a sandbox.
pub(crate) const MANIFEST: &str = "sandbox.kdl";

/// What the language has and this version cannot do.
const MISSING: [Feature; 3] = [Feature::Secrets, Feature::Docker, Feature::Mcp];

/// Memory when the manifest says nothing, in MiB, unless the host has less than twice that.
const DEFAULT_MEMORY_MIB: u64 = 4096;

/// Disk when the manifest says nothing, in bytes; it is sparse.
const DEFAULT_DISK_BYTES: u64 = 40 << 30;

/// vCPUs when the manifest says nothing, at most: a host may have many more than an agent can use.
const MAX_DEFAULT_VCPUS: u8 = 16;

/// Larger than any manifest may be; the parser says so with a place.
const MAX_READ_BYTES: u64 = 4 << 20;

/// A repository with its manifest.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Directory of the manifest, without symbolic links.
    pub(crate) root: PathBuf,
    /// The manifest's own path.
    pub(crate) manifest_path: PathBuf,
    /// The profile that is applied.
    pub(crate) profile: Option<String>,
    /// The agent that was asked for instead of the manifest's first.
    pub(crate) agent: Option<String>,
    manifest: Manifest,
}

impl Project {
    /// The project around `directory`.
    ///
    /// # Errors
    /// If there is no manifest, or if it has faults, which are printed.
    pub(crate) fn find(context: &Context, directory: &Path) -> Result<Self> {
        Self::open(context, &root_of(directory)?.join(MANIFEST), None)
    }

    /// The project whose manifest is at `path`, with `profile` applied.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub(crate) fn open(context: &Context, path: &Path, profile: Option<&str>) -> Result<Self> {
        Self::of_text(context, path, &read(path)?, profile)
    }

    /// The project whose manifest is at `path`, if it said `text`, with `profile` applied.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub(crate) fn of_text(
        context: &Context,
        path: &Path,
        text: &[u8],
        profile: Option<&str>,
    ) -> Result<Self> {
        let (name, ui) = (display_name(path), &context.ui);
        let catalogue = agents::catalogue(&context.paths)?;
        let parsed = sbx_manifest::parse_with(&name, text, &catalogue).map_err(|faults| {
            ui.diagnostic(&faults);
            CommandError::reported()
        })?;
        for warning in &parsed.warnings {
            ui.diagnostic(warning);
        }
        let root = path.parent().unwrap_or_else(|| Path::new("/")).to_path_buf();
        let project = Self {
            root,
            manifest_path: path.to_path_buf(),
            profile: None,
            agent: None,
            manifest: parsed.manifest,
        };
        project.with_profile(ui, profile)
    }

    /// This project with a profile applied.
    ///
    /// # Errors
    /// If the manifest has no such profile; the fault is printed.
    pub(crate) fn with_profile(mut self, ui: &Ui, profile: Option<&str>) -> Result<Self> {
        if let Some(name) = profile {
            self.manifest = self.manifest.with_profile(name).map_err(|fault| {
                ui.diagnostic(&fault);
                CommandError::reported()
            })?;
            self.profile = Some(name.to_owned());
        }
        Ok(self)
    }

    /// This project with the agent called `agent` before all others, as if the manifest said so.
    ///
    /// # Errors
    /// If nobody says what that is.
    pub(crate) fn with_agent(mut self, context: &Context, agent: Option<&str>) -> Result<Self> {
        let Some(name) = agent else { return Ok(self) };
        let agents = &mut self.manifest.settings.agents;
        let wanted = match agents.iter().position(|agent| agent.name.value == name) {
            Some(index) => agents.remove(index),
            None => Agent::unnamed(agents::find(context, name)?),
        };
        agents.insert(0, wanted);
        self.agent = Some(name.to_owned());
        Ok(self)
    }

    /// The names of all agents, in their order.
    pub(crate) fn agents(&self) -> Vec<String> {
        let agents = self.manifest.settings.agents.iter();
        let mut names: Vec<_> = agents.map(|agent| agent.name.value.clone()).collect();
        names.sort_unstable();
        names
    }

    /// What `sbx up` starts, with `more` arguments; none for a login shell.
    pub(crate) fn command(&self, more: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let agent = self.manifest.settings.agents.first();
        agent.map_or_else(|| more.to_vec(), |agent| agent.command(more))
    }
}

/// The nearest directory at or above `directory` that has a manifest, without symbolic links.
pub(crate) fn root_of(directory: &Path) -> Result<PathBuf> {
    let directory = fs::canonicalize(directory).map_err(|error| {
        CommandError::failed(format!("cannot resolve {}", directory.display())).with_source(error)
    })?;
    directory
        .ancestors()
        .find(|candidate| candidate.join(MANIFEST).is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            CommandError::usage(format!("there is no {MANIFEST} in {} or above it", directory.display()))
                .with_hint("`sbx init` writes one that fits this repository")
        })
}

impl Project {
    /// Refuses what this version cannot do, at its place.
    ///
    /// # Errors
    /// If there is anything; the faults are printed.
    pub(crate) fn refuse_unsupported(&self, ui: &Ui) -> Result<()> {
        let mut missing = MISSING.to_vec();
        let platform = self.manifest.image.platform.as_ref();
        if platform.is_some_and(|platform| platform.value.parse() != Ok(Platform::host())) {
            missing.push(Feature::Platform);
        }
        let faults = self.manifest.unsupported(&missing);
        for fault in &faults {
            ui.diagnostic(fault);
        }
        if faults.is_empty() { Ok(()) } else { Err(CommandError::reported()) }
    }

    /// The manifest, with the profile applied.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The sandbox's name: the manifest's, or the directory's.
    pub(crate) fn name(&self) -> String {
        self.manifest.name.as_ref().map_or_else(|| name_of(&self.root), |name| name.value.clone())
    }

    /// The image as the manifest names it.
    pub(crate) fn image(&self) -> String {
        self.manifest.image.reference.value.clone()
    }

    /// Where the image is; paths are relative to the manifest.
    ///
    /// # Errors
    /// If the manifest and the store do not agree on what an image name is.
    pub(crate) fn source(&self) -> Result<Source> {
        let image = self.image();
        let source: Source = image.parse().map_err(|error: SourceError| {
            CommandError::usage(format!("`{image}` is not an image")).with_source(error)
        })?;
        Ok(source.relative_to(&self.root))
    }

    /// Number of vCPUs: the manifest's, or the host's.
    pub(crate) fn vcpus(&self) -> u8 {
        self.manifest.settings.resources.cpus.as_ref().map_or_else(
            || {
                let host = std::thread::available_parallelism().map_or(1, usize::from);
                u8::try_from(host).unwrap_or(u8::MAX).min(MAX_DEFAULT_VCPUS)
            },
            |cpus| cpus.value,
        )
    }

    /// Guest memory in MiB: the manifest's, or [`DEFAULT_MEMORY_MIB`], or half of what a small host has.
    pub(crate) fn memory_mib(&self) -> u32 {
        let bytes = self.manifest.settings.resources.memory_bytes.as_ref().map_or_else(
            || {
                let half_of_host = host_memory_bytes().map_or(u64::MAX, |bytes| bytes / 2);
                half_of_host.min(DEFAULT_MEMORY_MIB << 20)
            },
            |memory| memory.value,
        );
        u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
    }

    /// Size of the disk in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.manifest.settings.resources.disk_bytes.as_ref().map_or(DEFAULT_DISK_BYTES, |disk| disk.value)
    }

    /// The directories of the host that the guest sees: the workspace first, then the manifest's mounts.
    ///
    /// # Errors
    /// If one is not there, or would let the guest into sbx's own files.
    pub(crate) fn shares(&self, context: &Context) -> Result<Vec<ProjectShare>> {
        let workspace =
            self.manifest.settings.workspace.as_ref().map_or(".", |workspace| &workspace.path.value);
        let mounts = self.manifest.settings.mounts.iter().map(|mount| Wanted {
            host: mount.path.value.clone(),
            at: mount.at.as_ref().map(|at| at.value.clone()),
            read_only: mount.readonly,
        });
        shares::resolve(context, &self.root, workspace, self.is_clone(), mounts)
    }

    /// Whether the sandbox works on a copy of the workspace.
    pub(crate) fn is_clone(&self) -> bool {
        let workspace = self.manifest.settings.workspace.as_ref();
        let mode = workspace.and_then(|workspace| workspace.mode.as_ref());
        mode.is_some_and(|mode| mode.value == WorkspaceMode::Clone)
    }
}

/// A name from a directory's: what a manifest may say, and nothing else.
pub(crate) fn name_of(root: &Path) -> String {
    const MAX_BYTES: usize = 63;
    let text = root.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String = text
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .take(MAX_BYTES)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "sandbox".to_owned() } else { name.to_owned() }
}

/// Memory of the host in bytes.
fn host_memory_bytes() -> Option<u64> {
    let information = rustix::system::sysinfo();
    information.totalram.checked_mul(u64::from(information.mem_unit))
}

/// The name under which diagnostics show the file: relative to where the user is, if that is shorter.
pub(crate) fn display_name(path: &Path) -> String {
    let here = std::env::current_dir().and_then(fs::canonicalize).ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// The text of a manifest, bounded.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |error: io::Error| CommandError::usage(format!("cannot read {}", path.display())).with_source(error);
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_READ_BYTES).read_to_end(&mut text)).map_err(failed)?;
    Ok(text)
}
