//! What a machine consists of, as plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything an engine needs to boot one machine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Number of vCPUs, at least 1.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// cpio archive with `/init`.
    pub initramfs: PathBuf,
    /// Words for the kernel's command line, behind those that the engine has.
    #[serde(default)]
    pub kernel_parameters: Vec<String>,
    /// The root file system, read-only, as one linear device (`/dev/vda` in the guest).
    pub root: Vec<Extent>,
    /// Disk image of the guest's own, read-write (`/dev/vdb` in the guest).
    pub scratch: PathBuf,
    /// Directories of the host, each at the root of the one virtio-fs device under its name.
    pub shares: Vec<Share>,
    /// The network card, if there is a network.
    #[serde(default)]
    pub network: Option<NetworkCard>,
    /// Whose files the guest's files are.
    pub ids: IdMap,
    /// Directory for sockets and logs of this machine; exists, is owned by the user and private.
    pub directory: PathBuf,
}

/// A run of bytes of a host file in a read-only linear device. The next extent begins where this one ends.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Extent {
    /// The file.
    pub file: PathBuf,
    /// Where in the file the run begins, in bytes, a multiple of 4096.
    pub offset: u64,
    /// Length in bytes, a multiple of 4096; what lies behind the end of the file reads as zeros.
    pub length: u64,
}

/// A directory of the host that the guest sees.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Name at the root of the virtio-fs device: not empty, no `/`, not `.` or `..`.
    pub name: String,
    /// The directory on the host.
    pub host: PathBuf,
    /// Refuse every change, whatever the guest has mounted it as.
    pub read_only: bool,
    /// Relative paths below `host` that can be read but not changed, made, renamed, replaced or removed, nor
    /// anything below them; they need not exist.
    pub protected: Vec<PathBuf>,
}

/// The guest's network card.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest packet that it takes, in bytes: from 68 for IPv4, from 1280 for IPv6, at most 65,520 for the guest's kernel
    /// to send and receive them whole.
    pub mtu: u16,
}

/// The one user whose files cross the wall: `host_*` on the host is `guest_*` in the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct IdMap {
    /// The user who runs sbx.
    pub host_uid: u32,
    /// And the user's group.
    pub host_gid: u32,
    /// The agent user in the guest.
    pub guest_uid: u32,
    /// And its group.
    pub guest_gid: u32,
}
