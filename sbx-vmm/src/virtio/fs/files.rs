//! The files that the guest has open.

use std::collections::HashMap;
use std::fs::File;

use rustix::io::Errno;

/// A file that the guest has open.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The node that it is.
    pub(super) node: u64,
    /// Index of the share that it is in.
    pub(super) share: usize,
    /// The host's file.
    pub(super) file: File,
    /// Whether it was opened for writing.
    pub(super) writable: bool,
    /// Whether the host's file has `O_APPEND` set at the moment.
    pub(super) appending: bool,
    /// The mode to set before the first write, if the file had set-user-id or set-group-id.
    pub(super) mode_after_write: Option<u32>,
}

/// All of them, by number.
#[derive(Debug)]
pub(super) struct Files {
    open: HashMap<u64, OpenFile>,
    next: u64,
    most: usize,
}

impl Files {
    /// No open files; never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { open: HashMap::new(), next: 1, most }
    }

    /// ENFILE if the guest has as many files open as it may.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// Adds a file and returns its number.
    pub(super) fn insert(&mut self, file: OpenFile) -> u64 {
        let handle = self.next;
        self.next = self.next.saturating_add(1);
        self.open.insert(handle, file);
        handle
    }

    /// The file with a number that the guest sent with a node; EBADF unless the two belong together.
    pub(super) fn get_mut(&mut self, handle: u64, node: u64) -> Result<&mut OpenFile, Errno> {
        self.open.get_mut(&handle).filter(|open| open.node == node).ok_or(Errno::BADF)
    }

    /// As [`Self::get_mut`], to look.
    pub(super) fn get(&self, handle: u64, node: u64) -> Result<&OpenFile, Errno> {
        self.open.get(&handle).filter(|open| open.node == node).ok_or(Errno::BADF)
    }

    /// Closes a file.
    pub(super) fn remove(&mut self, handle: u64, node: u64) -> Result<(), Errno> {
        self.get(handle, node)?;
        self.open.remove(&handle);
        Ok(())
    }

    /// Closes all files.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
