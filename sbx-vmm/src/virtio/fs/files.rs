//! The files that the guest has open.

use std::collections::HashMap;
use std::fs::File;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::saved::{FileState, MOST_NUMBERS, malformed};
use crate::virtio::RestoreError;

/// The flags of the guest's `open` that the host's file gets, besides the access mode.
pub(super) const PASSED_ON: OFlags = OFlags::DSYNC.union(OFlags::SYNC);

/// What a file is opened with again.
pub(super) const KEPT: OFlags = OFlags::RWMODE.union(PASSED_ON);

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
    /// Files that could not be opened again after a restore, with their nodes. The guest may go on to use them for as
    /// long as it likes, and is told that they are stale.
    lost: HashMap<u64, u64>,
    next: u64,
    most: usize,
}

impl Files {
    /// No open files; never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { open: HashMap::new(), lost: HashMap::new(), next: 1, most }
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
        let absent = self.absent(handle, node);
        self.open.get_mut(&handle).filter(|open| open.node == node).ok_or(absent)
    }

    /// As [`Self::get_mut`], to look.
    pub(super) fn get(&self, handle: u64, node: u64) -> Result<&OpenFile, Errno> {
        let open = self.open.get(&handle).filter(|open| open.node == node);
        open.ok_or_else(|| self.absent(handle, node))
    }

    /// Closes a file.
    pub(super) fn remove(&mut self, handle: u64, node: u64) -> Result<(), Errno> {
        match self.get(handle, node).map(drop) {
            Ok(()) => drop(self.open.remove(&handle)),
            Err(Errno::STALE) => drop(self.lost.remove(&handle)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Closes all files.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.lost.clear();
    }

    /// How each file was opened, in the order of their numbers, and the number that comes next.
    pub(super) fn save(&self) -> (Vec<FileState>, u64) {
        let open = self.open.iter().map(|(handle, open)| FileState {
            handle: *handle,
            node: open.node,
            flags: open.kept_flags().ok().map(|flags| flags.bits()),
        });
        let lost = self.lost.iter();
        let lost = lost.map(|(handle, node)| FileState { handle: *handle, node: *node, flags: None });
        let mut files: Vec<FileState> = open.chain(lost).collect();
        files.sort_unstable_by_key(|file| file.handle);
        (files, self.next)
    }

    /// Sets the number that comes next. There are no files.
    pub(super) fn restore(&mut self, next: u64) -> Result<(), RestoreError> {
        if !(1..MOST_NUMBERS).contains(&next) {
            return Err(malformed("there are too many open files"));
        }
        self.next = next;
        Ok(())
    }

    /// Adds a file under the number that it had, or, without one, the number of a file that was not found again.
    pub(super) fn restore_file(
        &mut self,
        handle: u64,
        node: u64,
        file: Option<OpenFile>,
    ) -> Result<(), RestoreError> {
        let taken = self.open.contains_key(&handle) || self.lost.contains_key(&handle);
        if taken || !(1..self.next).contains(&handle) {
            return Err(malformed("an open file has a number that was not given to it"));
        }
        match file {
            Some(file) => drop(self.open.insert(handle, file)),
            None => drop(self.lost.insert(handle, node)),
        }
        Ok(())
    }

    /// Why there is no such open file.
    fn absent(&self, handle: u64, node: u64) -> Errno {
        if self.lost.get(&handle) == Some(&node) { Errno::STALE } else { Errno::BADF }
    }
}

impl OpenFile {
    /// The flags with which it is opened again.
    fn kept_flags(&self) -> Result<OFlags, Errno> {
        Ok(rustix::fs::fcntl_getfl(&self.file)? & KEPT)
    }
}
