//! What is kept of the guest's mount across a save and a restore.
//!
//! ```text
//! saved                                       restored
//! node: share, identity, names, lookups  ──▶  the same, found by its names when it is needed, if it is the same file
//! open file: node, flags                 ──▶  opened again, or stale (ESTALE for reads and writes, until it is closed)
//! listing                                ──▶  none; the guest goes on from a position
//! ```
//!
//! Numbers are kept, never what may be done with them: which directories are shared, and with which rules, is up to the
//! configuration. A share's root is the directory that is shared now under its name. An open file is stale if it is not
//! found, is another one by now, or may not be opened again as it was, be it that the share has become read-only, or
//! that the file belongs to somebody who took the right away. Whether the guest appends is said with each write, and
//! which mode a file has to get after a write by the mode that it has, so neither is kept.

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::files::{KEPT, OpenFile};
use super::host::Identity;
use super::nodes::{Location, Version};
use super::state::State;
use crate::virtio::{DeviceKind, RestoreError};

/// Numbers that are given to nodes and files. No guest comes so far, and behind the last one numbers would repeat.
pub(super) const MOST_NUMBERS: u64 = 1 << 62;

/// What the guest knows of the shares.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FsState {
    /// Names of the shares, in their order; their roots have the numbers from 2 on.
    shares: Vec<Vec<u8>>,
    nodes: Vec<NodeState>,
    next_node: u64,
    files: Vec<FileState>,
    next_file: u64,
    /// File systems in the order in which the guest saw them, for the inode numbers that it was told.
    devices: Vec<(u32, u32)>,
}

/// A file that the guest knows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct NodeState {
    pub(super) number: u64,
    /// Index of its share.
    pub(super) share: usize,
    pub(super) identity: Identity,
    pub(super) locations: Vec<Location>,
    pub(super) cached: Option<Version>,
    pub(super) lookups: u64,
}

/// A file that the guest has open.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct FileState {
    pub(super) handle: u64,
    pub(super) node: u64,
    /// Flags of `open(2)`, unless it was stale already.
    pub(super) flags: Option<u32>,
}

impl State {
    /// What has to be known to go on for the guest's mount.
    pub(super) fn save(&self) -> FsState {
        let (nodes, next_node) = self.nodes.save();
        let (files, next_file) = self.files.save();
        let shares = self.shares.iter().map(|share| share.name.clone()).collect();
        FsState { shares, nodes, next_node, files, next_file, devices: self.devices.clone() }
    }

    /// Goes on for a mount; nothing is known of any if that fails.
    pub(super) fn restore(&mut self, state: FsState) -> Result<(), RestoreError> {
        self.clear();
        self.take_up(state).inspect_err(|_| self.clear())
    }

    fn take_up(&mut self, state: FsState) -> Result<(), RestoreError> {
        self.check_shares(&state.shares)?;
        self.devices = state.devices;
        self.nodes.restore(state.nodes, state.next_node, self.shares.len())?;
        self.files.restore(state.next_file)?;
        for FileState { handle, node, flags } in state.files {
            let file = flags.and_then(|flags| self.open_again(node, flags).ok());
            let found = file.is_some();
            self.files.restore_file(handle, node, file)?;
            if found {
                self.nodes.add_handle(node, handle);
            } else {
                // Perhaps nothing but the open file kept it.
                self.nodes.forget(node, 0);
            }
        }
        Ok(())
    }

    /// The guest has mounted these shares, whose roots have numbers by their order.
    fn check_shares(&self, names: &[Vec<u8>]) -> Result<(), RestoreError> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        for (index, name) in names.iter().enumerate() {
            if self.shares.get(index).is_none_or(|share| share.name != *name) {
                return Err(RestoreError::Share { name: text(name) });
            }
        }
        match self.shares.get(names.len()) {
            Some(share) => Err(RestoreError::NewShare { name: text(&share.name) }),
            None => Ok(()),
        }
    }

    fn open_again(&mut self, node: u64, flags: u32) -> Result<OpenFile, Errno> {
        self.files.check_room()?;
        let flags = OFlags::from_bits_retain(flags) & KEPT;
        let mut opened = self.open_file(node, flags);
        if matches!(opened, Err(Errno::MFILE)) {
            self.close_spare();
            opened = self.open_file(node, flags);
        }
        opened.map(|(file, _)| file)
    }
}

/// A state says something that cannot be.
pub(super) fn malformed(what: &'static str) -> RestoreError {
    RestoreError::malformed(DeviceKind::Fs, what)
}
