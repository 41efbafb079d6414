//! Reading directories.
//!
//! The guest does not open directories here; it asks for the entries of a node from a position. A listing is a
//! directory that is being read, kept at the position where its last answer ended, so that the next request goes on
//! with the same stream: nothing is skipped or told twice when files are deleted meanwhile, even on file systems
//! whose positions are mere counts. A request from anywhere else opens a new listing and seeks.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use fuse_backend_rs::api::filesystem::{DirEntry, Entry};
use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use super::attributes::inode_number;
use super::host;
use super::name::Name;
use super::nodes::ROOT;
use super::state::State;

/// How many directories can be in the middle of being read; the one not read for longest is dropped.
const MOST_LISTINGS: usize = 64;

/// How much is read from the host at once, in bytes.
const CHUNK_BYTES: usize = 32 << 10;

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its name; `.` and `..` occur.
    pub(super) name: CString,
    /// Inode number on the host.
    pub(super) inode: u64,
    /// Type as in `d_type`.
    pub(super) kind: u32,
    /// The position behind it.
    pub(super) next: u64,
}

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct Listing {
    node: u64,
    directory: OwnedFd,
    /// The position that the guest has reached.
    position: u64,
    /// Read from the host, not yet told to the guest.
    ahead: VecDeque<Found>,
    /// File system of the directory.
    pub(super) device: (u32, u32),
}

impl Listing {
    /// Begins to read `directory`, of node `node`, at `position`.
    pub(super) fn new(
        node: u64,
        directory: OwnedFd,
        device: (u32, u32),
        position: u64,
    ) -> Result<Self, Errno> {
        if position != 0 {
            rustix::fs::seek(&directory, SeekFrom::Start(position))?;
        }
        Ok(Self { node, directory, position, ahead: VecDeque::new(), device })
    }

    /// The next entry, which stays the next one until [`Self::advance`].
    pub(super) fn peek(&mut self, buffer: &mut Vec<u8>) -> Result<Option<&Found>, Errno> {
        if self.ahead.is_empty() {
            self.read(buffer)?;
        }
        Ok(self.ahead.front())
    }

    /// The guest has taken the next entry.
    pub(super) fn advance(&mut self) {
        if let Some(found) = self.ahead.pop_front() {
            self.position = found.next;
        }
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<(), Errno> {
        buffer.clear();
        buffer.reserve(CHUNK_BYTES);
        let mut entries = RawDir::new(&self.directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.ahead.push_back(Found {
                name: entry.file_name().to_owned(),
                inode: entry.ino(),
                kind: directory_type(entry.file_type()),
                next: entry.next_entry_cookie(),
            });
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// The directories that are being read, the one read last at the end.
#[derive(Debug, Default)]
pub(super) struct Listings {
    listings: VecDeque<Listing>,
    buffer: Vec<u8>,
}

impl Listings {
    /// The listing of `node` that stands at `position`, if there is one.
    pub(super) fn take(&mut self, node: u64, position: u64) -> Option<Listing> {
        // From the beginning means from what is there now.
        if position == 0 {
            return None;
        }
        let index =
            self.listings.iter().position(|listing| listing.node == node && listing.position == position)?;
        self.listings.remove(index)
    }

    /// Keeps a listing for the next request.
    pub(super) fn keep(&mut self, listing: Listing) {
        if self.listings.len() >= MOST_LISTINGS {
            self.listings.pop_front();
        }
        self.listings.push_back(listing);
    }

    /// Drops all listings.
    pub(super) fn clear(&mut self) {
        self.listings.clear();
    }
}

impl State {
    /// Tells the entries of a directory from `position` on, until `take` has no more room and says so with `false`.
    /// With `describe`, each goes with its attributes and counts as looked up.
    pub(super) fn list(
        &mut self,
        number: u64,
        position: u64,
        describe: bool,
        take: &mut dyn FnMut(DirEntry<'_>, Entry) -> bool,
    ) -> Result<(), Errno> {
        if number == ROOT {
            return self.list_shares(position, describe, take);
        }
        let directory = self.directory(number)?;
        let mut listing = match self.listings.take(number, position) {
            Some(listing) => listing,
            None => {
                let device = self.nodes.get(number)?.identity.device;
                Listing::new(number, host::open_entries(&directory)?, device, position)?
            }
        };
        let device = self.device_index(listing.device);
        let mut buffer = std::mem::take(&mut self.listings.buffer);
        let mut told = Ok(false);
        loop {
            let found = match listing.peek(&mut buffer) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => {
                    told = told.and_then(|any| if any { Ok(any) } else { Err(error) });
                    break;
                }
            };
            let entry = if describe { self.describe(number, &directory, found) } else { Entry::default() };
            let inode = inode_number(device, found.inode);
            let out =
                DirEntry { ino: inode, offset: found.next, type_: found.kind, name: found.name.to_bytes() };
            if !take(out, entry) {
                // The guest has not learnt of it.
                self.nodes.forget(entry.inode, 1);
                break;
            }
            told = Ok(true);
            listing.advance();
        }
        self.listings.buffer = buffer;
        // An answer without entries is the end, after which the guest does not ask again.
        if told? {
            self.listings.keep(listing);
        }
        Ok(())
    }

    /// What a lookup would say of an entry; nothing if it is gone, or is the directory itself or the one above.
    fn describe(&mut self, number: u64, directory: &OwnedFd, found: &Found) -> Entry {
        let Ok(name) = Name::try_from(found.name.as_c_str()) else { return Entry::default() };
        host::status_at(directory, name)
            .and_then(|status| self.entry(number, name, &status))
            .unwrap_or_default()
    }

    fn list_shares(
        &mut self,
        position: u64,
        describe: bool,
        take: &mut dyn FnMut(DirEntry<'_>, Entry) -> bool,
    ) -> Result<(), Errno> {
        let skipped = usize::try_from(position).map_err(|_| Errno::INVAL)?;
        let names = self.shares.iter().map(|share| share.name.clone()).collect::<Vec<_>>();
        for (index, name) in names.iter().enumerate().skip(skipped) {
            let entry = match CString::new(name.as_slice()) {
                Ok(name) if describe => self.look_up(ROOT, &name)?,
                _ => Entry::default(),
            };
            let offset = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
            let ino = if describe { entry.attr.st_ino } else { offset };
            let kind = FileType::Directory.as_raw_mode() >> 12;
            if !take(DirEntry { ino, offset, type_: kind, name }, entry) {
                break;
            }
        }
        Ok(())
    }
}

fn directory_type(kind: FileType) -> u32 {
    match kind {
        FileType::Unknown => 0,
        // The values of d_type are those of the mode's type bits.
        known => known.as_raw_mode() >> 12,
    }
}
