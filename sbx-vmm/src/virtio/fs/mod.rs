//! The file system device: directories of the host, shared with the guest under one tag.
//!
//! One device serves all shares, each a directory at its root under the share's name. The guest mounts it once and
//! binds each share to where it belongs. What is guaranteed, and why, is in `docs/design/workspace-mount.md`; in
//! short, from the outside in:
//!
//! ```text
//! device      chains of descriptors → FUSE messages, decoded by fuse-backend-rs
//! filesystem  one method for each kind of message
//! state       numbers from the guest → files (nodes, files, listing); with changes, contents, xattrs: the operations
//! guard       what may not be changed: read-only shares, protected paths
//! name, host  one component of a path at a time, no symbolic link followed
//! ```
//!
//! fuse-backend-rs has a passthrough file system, too. It is not used: it keeps a descriptor open for each file that
//! the guest knows (`git status` in a large repository exceeds the limit of most systems), changes its credentials
//! for each request, and gives no way to ask which file an operation is about to touch, which the guard must know.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Resource;

use crate::config::{IdMap, Share};

mod attributes;
mod changes;
mod contents;
mod device;
mod files;
mod filesystem;
mod guard;
mod host;
mod listing;
mod name;
mod nodes;
mod saved;
mod state;
mod xattrs;

pub use device::FsDevice;
pub use saved::FsState;

use filesystem::SharedDirectories;

/// The tag that the guest mounts.
pub const TAG: &str = "shares";

/// Descriptors left to the rest of the process: other devices, logs, connections.
const KEPT_FREE: u64 = 512;

/// Most directories that are kept open. More do not make anything faster.
const MOST_DIRECTORIES: u64 = 1024;

/// Why the shares cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The directory of a share cannot be opened.
    #[error("cannot share {}", host.display())]
    Open {
        /// The directory on the host.
        host: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name of a share is not one component of a path, or occurs twice.
    #[error("{name:?} cannot be the name of a share")]
    Name {
        /// The name.
        name: String,
    },
    /// `/proc` is missing, without which files cannot be told apart safely.
    #[error("cannot open /proc/self")]
    Proc {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The device that serves `shares`, each under its name.
///
/// Raises the process's soft limit of open files to the hard one.
///
/// # Errors
/// If the directory of a share cannot be opened, or a name is no name.
pub fn shares(shares: &[Share], ids: IdMap) -> Result<FsDevice, ShareError> {
    Ok(FsDevice::new(TAG, file_system(shares, ids)?))
}

fn file_system(shares: &[Share], ids: IdMap) -> Result<SharedDirectories, ShareError> {
    let limit = raise_file_limit();
    let directories = MOST_DIRECTORIES.min(limit / 4);
    let files = limit.saturating_sub(KEPT_FREE).saturating_sub(directories).max(limit / 4);
    let mut state = state::State {
        ids,
        shares: Vec::new(),
        nodes: nodes::Nodes::new(usize::try_from(directories).unwrap_or(usize::MAX)),
        files: files::Files::new(usize::try_from(files).unwrap_or(usize::MAX)),
        listings: listing::Listings::default(),
        descriptors: host::Descriptors::open().map_err(|error| ShareError::Proc { source: error.into() })?,
        umask: umask().map_err(|source| ShareError::Proc { source })?,
        devices: Vec::new(),
    };
    for (index, share) in shares.iter().enumerate() {
        add_share(&mut state, index, share, &protected_in(&canonical(share), shares))?;
    }
    Ok(SharedDirectories::new(state))
}

fn add_share(
    state: &mut state::State,
    index: usize,
    share: &Share,
    protected: &[PathBuf],
) -> Result<(), ShareError> {
    let bytes = share.name.as_bytes();
    let taken = state.shares.iter().any(|other| other.name == bytes);
    let is_name =
        std::ffi::CString::new(bytes).is_ok_and(|name| name::Name::try_from(name.as_c_str()).is_ok());
    if taken || !is_name {
        return Err(ShareError::Name { name: share.name.clone() });
    }
    let failed =
        |error: rustix::io::Errno| ShareError::Open { host: share.host.clone(), source: error.into() };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, &share.host, flags, Mode::empty()).map_err(failed)?;
    let root = Arc::new(root);
    let identity = host::Identity::from(&host::status(&root).map_err(failed)?);
    state.shares.push(state::Shared {
        name: bytes.to_vec(),
        root: state.nodes.add_share(index, identity, Arc::clone(&root)),
        guard: guard::Guard::new(root, share.read_only, protected),
    });
    Ok(())
}

/// What is protected in the share of `root`: its own paths, those of any other share that has the same directories,
/// and read-only shares inside of it. Otherwise one share would be the way around what the other one forbids.
fn protected_in(root: &Path, shares: &[Share]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for share in shares {
        let host = canonical(share);
        for path in share.protected.iter().map(|path| host.join(path)) {
            if root.starts_with(&path) {
                // The whole share is inside of something protected.
                paths.push(PathBuf::new());
            } else if let Ok(path) = path.strip_prefix(root) {
                paths.push(path.to_path_buf());
            }
        }
        if let Ok(path) = host.strip_prefix(root)
            && share.read_only
            && host != root
        {
            paths.push(path.to_path_buf());
        }
    }
    paths
}

fn canonical(share: &Share) -> PathBuf {
    share.host.canonicalize().unwrap_or_else(|_| share.host.clone())
}

/// Raises the limit of open files as far as it goes and returns it.
fn raise_file_limit() -> u64 {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it cannot be raised, what there is has to do.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// The process's file mode creation mask, from `/proc`, because asking the kernel means to change it for a moment.
fn umask() -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // Unknown: every mode is set again after the file was made.
    Ok(mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777))
}

#[cfg(test)]
mod tests;
