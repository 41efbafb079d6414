//! What a sandbox is made of, from what the manifest says and what the image brought.

use std::path::Path;

use sbx_image::{Snapshot, store::SnapshotExtent};
use sbx_net::ethernet::Link;
use sbx_proto::{BootConfig, Home, Mount, Network, PlacedFile, User};
use sbx_vmm::config::{Extent, IdMap, MachineConfig, NetworkCard, Share};

use super::{
    directory::SandboxDirectory,
    spawn::Foundation,
    state::{Phase, State, now},
};
use crate::{git, images::Prepared, network::NetworkPlan, project::Project, secrets, shares::ProjectShare};

/// Tag of the one virtio-fs device.
pub(crate) const SHARES_TAG: &str = "shares";

/// The user that commands run as. Agents refuse to run unattended as root, so it is never root.
const AGENT_NAME: &str = "agent";
const AGENT_HOME: &str = "/home/agent";

/// The agent's user and group id, whoever runs sbx: what is installed for the agent belongs to it for everybody who has the
/// same layers. It is the id that images have for their first user.
const AGENT_ID: u32 = 1000;

/// What programs find in their environment if neither image nor manifest say anything else. Without an empty template
/// directory `git init` would copy sample hooks to `.git/hooks`, which is protected, and give up.
const DEFAULTS: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("GIT_TEMPLATE_DIR", "")];

/// Everything that the plan of a sandbox is derived from.
#[derive(Debug)]
pub(super) struct Blueprint<'a> {
    /// The manifest.
    pub(super) project: &'a Project,
    /// What the guest sees of the host.
    pub(super) shares: &'a [ProjectShare],
    /// The image and its snapshot.
    pub(super) prepared: &'a Prepared,
    /// Directories that setup commands made in the workspace, relative to it.
    pub(super) setup_directories: &'a [String],
    /// Where the sandbox lives.
    pub(super) directory: &'a SandboxDirectory,
    /// Kernel, guest and engine.
    pub(super) foundation: &'a Foundation,
    /// Whether what was written to the root file system is thrown away.
    pub(super) fresh_root: bool,
    /// Who the user is to git.
    pub(super) git: Option<git::Identity>,
    /// The network, if there is one.
    pub(super) network: Option<&'a NetworkPlan>,
}

impl Blueprint<'_> {
    /// The machine.
    pub(super) fn machine(&self) -> MachineConfig {
        MachineConfig {
            vcpus: self.project.vcpus(),
            memory_mib: self.project.memory_mib(),
            kernel: self.foundation.kernel.clone(),
            initramfs: self.foundation.initramfs.clone(),
            kernel_parameters: self.foundation.kernel_parameters.clone(),
            root: root(&self.prepared.snapshot),
            scratch: self.directory.scratch(),
            shares: self.shares.iter().map(share).collect(),
            network: self.network.map(|_| card()),
            ids: ids(),
            directory: self.directory.run(),
        }
    }

    /// What the guest is told.
    pub(super) fn boot_config(&self) -> BootConfig {
        BootConfig {
            hostname: hostname(&self.directory.name()),
            unix_nanoseconds: 0,
            user: user(),
            shares_tag: SHARES_TAG.to_owned(),
            mounts: self.shares.iter().map(mount).collect(),
            environment: self.environment(),
            network: self.network.map(|_| network()),
            registries: self.network.is_some_and(|network| !network.registries.is_empty()),
            certificates: self.network.map(|_| crate::network::certificates()).unwrap_or_default(),
            files: self.files(),
            home: Home::OfItsOwn,
            fresh_root: self.fresh_root,
            setup_directories: self.setup_directories.iter().map(|path| path.clone().into_bytes()).collect(),
            directory: self.shares.first().map(|workspace| bytes_of(&workspace.at)).unwrap_or_default(),
        }
    }

    /// What programs find at their first start, and what git is told.
    fn files(&self) -> Vec<PlacedFile> {
        let workspace = self.shares.first().map(|share| share.at.to_string_lossy()).unwrap_or_default();
        let agents = self.project.manifest().settings.agents.iter();
        let files = agents.flat_map(|agent| &agent.definition.files).map(|file| PlacedFile {
            path: file.path.value.clone().into_bytes(),
            content: file.content_for(&workspace).into_bytes(),
        });
        files.chain(std::iter::once(git::system_configuration(self.git.as_ref()))).collect()
    }

    /// What `sbx ls` and the next start want to know.
    pub(super) fn state(&self, earlier: Option<&State>) -> State {
        let project = self.project;
        State {
            version: State::version(),
            manifest: project.manifest_path.clone(),
            workspace: project.root.clone(),
            profile: project.profile.clone(),
            agent: project.agent.clone(),
            agents: project.agents(),
            fresh_root: self.fresh_root,
            clone: project.is_clone(),
            image: project.image(),
            image_digest: self.prepared.image.manifest_digest.to_string(),
            snapshot: self.prepared.snapshot.key.clone(),
            engine: self.foundation.choice.engine.name().to_owned(),
            vcpus: project.vcpus(),
            memory_mib: project.memory_mib(),
            disk_bytes: project.disk_bytes(),
            created: earlier.map_or_else(now, |earlier| earlier.created),
            phase: Phase::Starting,
            since: now(),
            reason: None,
        }
    }

    /// The image's environment, then that of the agents, then the manifest's.
    fn environment(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut variables = Variables::new();
        for (name, value) in git::VARIABLES {
            variables.set(name, value);
        }
        for variable in self.prepared.environment() {
            if let Some((name, value)) = variable.split_once('=') {
                variables.set(name, value);
            }
        }
        let manifest = self.project.manifest();
        for variable in manifest.settings.agents.iter().flat_map(|agent| &agent.definition.env) {
            variables.set(&variable.name.value, &variable.value.value);
        }
        for (name, value) in secrets::placeholders(manifest).into_iter().chain(manifest.environment()) {
            variables.set(&name, &value);
        }
        variables.into_pairs()
    }
}

/// An environment that is put together: what is set later counts.
#[derive(Debug)]
pub(crate) struct Variables(Vec<(Vec<u8>, Vec<u8>)>);

impl Variables {
    /// What every machine has.
    pub(crate) fn new() -> Self {
        let pair = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        Self(DEFAULTS.iter().map(pair).collect())
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Names and values.
    pub(crate) fn into_pairs(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0
    }
}

/// The disk that is the root file system.
pub(crate) fn root(snapshot: &Snapshot) -> Vec<Extent> {
    let extent = |extent: &SnapshotExtent| Extent {
        file: extent.file.clone(),
        offset: extent.offset,
        length: extent.length,
    };
    snapshot.extents.iter().map(extent).collect()
}

/// A directory of the host on the virtio-fs device.
pub(crate) fn share(share: &ProjectShare) -> Share {
    Share {
        name: share.name.clone(),
        host: share.host.clone(),
        read_only: share.read_only,
        protected: share.protected.clone(),
    }
}

/// The same directory in the guest.
pub(crate) fn mount(share: &ProjectShare) -> Mount {
    Mount {
        share: share.name.clone(),
        protected: share.protected.iter().map(|path| bytes_of(path)).collect(),
        at: bytes_of(&share.at),
        read_only: share.read_only,
    }
}

/// The user that commands run as.
pub(crate) fn user() -> User {
    let ids = ids();
    User { name: AGENT_NAME.to_owned(), uid: ids.guest_uid, gid: ids.guest_gid, home: AGENT_HOME.into() }
}

/// The network card.
pub(crate) fn card() -> NetworkCard {
    let link = Link::default();
    NetworkCard { mac: link.guest_mac, mtu: link.mtu }
}

/// The user who runs sbx is the agent in the guest.
pub(crate) fn ids() -> IdMap {
    let (host_uid, host_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    IdMap { host_uid, host_gid, guest_uid: AGENT_ID, guest_gid: AGENT_ID }
}

/// What the guest is told of its network: the gateway is the way to everywhere, knows all names, and is the host.
pub(crate) fn network() -> Network {
    let link = Link::default();
    Network {
        mac: link.guest_mac,
        mtu: u32::from(link.mtu),
        addresses: vec![
            (link.guest_ipv4.into(), link.prefix_ipv4),
            (link.guest_ipv6.into(), link.prefix_ipv6),
        ],
        gateways: vec![link.gateway_ipv4.into(), link.gateway_ipv6.into()],
        name_servers: vec![link.gateway_ipv4.into()],
        search: crate::network::search_domains(),
        hosts: Vec::new(),
    }
}

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

/// A host name from a sandbox's name: letters, digits and hyphens, at most 63 (RFC 1123, 2.1).
fn hostname(name: &str) -> String {
    const MAX_BYTES: usize = 63;
    let mut hostname: String = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' })
        .take(MAX_BYTES)
        .collect();
    let end = hostname.trim_end_matches('-').len();
    hostname.truncate(end);
    let start = hostname.len() - hostname.trim_start_matches('-').len();
    hostname.drain(..start);
    if hostname.is_empty() { "sandbox".to_owned() } else { hostname }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_a_host_name() {
        assert_eq!(hostname("payments"), "payments");
        assert_eq!(hostname("My_App.2"), "my-app-2");
        assert_eq!(hostname("-x-"), "x");
        assert_eq!(hostname("--"), "sandbox");
        assert_eq!(hostname(&"a".repeat(80)).len(), 63);
    }
}
