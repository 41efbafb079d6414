//! Finding files: from the numbers that the guest sends to descriptors and attributes.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{Mode, OFlags, Statx};
use rustix::io::Errno;

use super::attributes::{attributes, inode_number, root_attributes};
use super::files::Files;
use super::guard::{Guard, Standing};
use super::host::{self, Descriptors, Identity, Kind};
use super::listing::Listings;
use super::name::Name;
use super::nodes::{Location, Nodes, ROOT};
use crate::config::IdMap;

/// How long the guest may go on believing what it was told of names and attributes: the time in which it sees a
/// change on the host. Changes of its own it sees at once.
pub(super) const VALID: Duration = Duration::from_secs(1);

/// How many directories deep a file may be below the next one whose directory is open. What is deeper was never
/// found there; this ends the search where renames on the host led to a circle of old names.
const MOST_STEPS: usize = 4096;

/// One shared directory.
#[derive(Debug)]
pub(super) struct Shared {
    /// Name at the device's root.
    pub(super) name: Vec<u8>,
    /// The node of its root.
    pub(super) root: u64,
    /// What may be changed in it.
    pub(super) guard: Guard,
}

/// What an operation is going to do with a name in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Make or remove a directory.
    Directory,
    /// Anything else: make, remove or replace a file, rename whatever it is.
    Other,
}

/// Everything that the server knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ids: IdMap,
    pub(super) shares: Vec<Shared>,
    pub(super) nodes: Nodes,
    pub(super) files: Files,
    pub(super) listings: Listings,
    pub(super) descriptors: Descriptors,
    /// The process's file mode creation mask, which takes bits from what the guest asks for.
    pub(super) umask: u32,
    /// The file systems seen so far; see [`inode_number`].
    pub(super) devices: Vec<(u32, u32)>,
}

impl State {
    /// The node and attributes of `name` in the directory `parent`. A name that is not there is an answer, too, and
    /// valid as long as any other.
    pub(super) fn look_up(&mut self, parent: u64, name: &CStr) -> Result<Entry, Errno> {
        if parent == ROOT {
            return self.look_up_share(name);
        }
        let name = Name::try_from(name)?;
        let directory = self.directory(parent)?;
        match host::status_at(&directory, name) {
            Ok(status) => self.entry(parent, name, &status),
            Err(Errno::NOENT) => Ok(Entry { entry_timeout: VALID, ..Entry::default() }),
            Err(error) => Err(error),
        }
    }

    fn look_up_share(&mut self, name: &CStr) -> Result<Entry, Errno> {
        let Some(root) =
            self.shares.iter().find(|share| share.name == name.to_bytes()).map(|share| share.root)
        else {
            return Ok(Entry { entry_timeout: VALID, ..Entry::default() });
        };
        let status = self.status(root)?;
        Ok(self.entry_of(root, &status))
    }

    /// Counts one lookup of what was found as `name` in `parent`, and describes it.
    pub(super) fn entry(&mut self, parent: u64, name: Name<'_>, status: &Statx) -> Result<Entry, Errno> {
        let share = self.nodes.get(parent)?.share;
        let is_directory = Kind::from(status) == Kind::Directory;
        let location = Location::new(parent, name.as_c_str());
        let number = self.nodes.look_up(share, Identity::from(status), is_directory, location);
        Ok(self.entry_of(number, status))
    }

    fn entry_of(&mut self, number: u64, status: &Statx) -> Entry {
        let inode = self.inode_number(status);
        Entry {
            inode: number,
            attr: attributes(status, inode, self.ids),
            attr_timeout: VALID,
            entry_timeout: VALID,
            ..Entry::default()
        }
    }

    /// The inode number that the guest sees.
    pub(super) fn inode_number(&mut self, status: &Statx) -> u64 {
        let device = (status.stx_dev_major, status.stx_dev_minor);
        inode_number(self.device_index(device), status.stx_ino)
    }

    /// The index of a file system, for [`inode_number`].
    pub(super) fn device_index(&mut self, device: (u32, u32)) -> usize {
        self.devices.iter().position(|known| *known == device).unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len().saturating_sub(1)
        })
    }

    /// Attributes for the guest.
    pub(super) fn attributes(
        &mut self,
        number: u64,
    ) -> Result<fuse_backend_rs::abi::fuse_abi::stat64, Errno> {
        if number == ROOT {
            return Ok(root_attributes(ROOT, self.shares.len()));
        }
        let status = self.status(number)?;
        let inode = self.inode_number(&status);
        Ok(attributes(&status, inode, self.ids))
    }

    /// The share that a node is in; EROFS for the device's root, where nothing can be changed.
    pub(super) fn share_of(&self, number: u64) -> Result<usize, Errno> {
        if number == ROOT { Err(Errno::ROFS) } else { Ok(self.nodes.get(number)?.share) }
    }

    /// The rules of a share.
    pub(super) fn guard(&self, share: usize) -> Result<&Guard, Errno> {
        self.shares.get(share).map(|share| &share.guard).ok_or(Errno::STALE)
    }

    /// A descriptor of a directory, for use in calls with names; not for reading its entries.
    pub(super) fn directory(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut next = number;
        let mut directory = loop {
            if let Some(open) = self.nodes.directory(next)? {
                break open;
            }
            let node = self.nodes.get(next)?;
            if !node.is_directory {
                return Err(Errno::NOTDIR);
            }
            let location = node.locations.last().ok_or(Errno::STALE)?.clone();
            missing.push((next, location.name, node.identity));
            next = location.parent;
            if missing.len() > MOST_STEPS {
                return Err(Errno::STALE);
            }
        };
        for (number, name, identity) in missing.into_iter().rev() {
            let name = Name::try_from(name.as_c_str())?;
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = host::open_at(&directory, name, flags, Mode::empty()).map_err(stale)?;
            if Identity::from(&host::status(&opened)?) != identity {
                return Err(Errno::STALE);
            }
            directory = Arc::new(opened);
            self.nodes.keep_open(number, Arc::clone(&directory));
        }
        Ok(directory)
    }

    /// Status of a node: of its open directory or file, or of what is found under one of its names.
    pub(super) fn status(&mut self, number: u64) -> Result<Statx, Errno> {
        if let Some(directory) = self.nodes.directory(number)? {
            return host::status(&directory);
        }
        if let Some(handle) = self.nodes.get(number)?.handles.first() {
            return host::status(&self.files.get(*handle, number)?.file);
        }
        self.find(number, |directory, name| host::status_at(directory, name)).map(|(_, status)| status)
    }

    /// A descriptor that stands for a node, of whatever kind, and its status.
    pub(super) fn stand_for(&mut self, number: u64) -> Result<(Arc<OwnedFd>, Statx), Errno> {
        if let Some(directory) = self.nodes.directory(number)? {
            let status = host::status(&directory)?;
            return Ok((directory, status));
        }
        if let Some(handle) = self.nodes.get(number)?.handles.first() {
            let file = &self.files.get(*handle, number)?.file;
            let stand = self.descriptors.reopen(file, OFlags::PATH)?;
            let status = host::status(&stand)?;
            return Ok((Arc::new(stand), status));
        }
        let mut found = None;
        let (_, status) = self.find(number, |directory, name| {
            let stand = host::stand_for(directory, name)?;
            let status = host::status(&stand)?;
            found = Some(stand);
            Ok(status)
        })?;
        found.map(|stand| (Arc::new(stand), status)).ok_or(Errno::STALE)
    }

    /// Tries the names of a node, the latest first, until `look` reports the status of the very file.
    pub(super) fn find(
        &mut self,
        number: u64,
        mut look: impl FnMut(&OwnedFd, Name<'_>) -> Result<Statx, Errno>,
    ) -> Result<(Location, Statx), Errno> {
        let node = self.nodes.get(number)?;
        let identity = node.identity;
        let mut refused = None;
        for location in node.locations.clone().into_iter().rev() {
            let Ok(directory) = self.directory(location.parent) else { continue };
            match look(&directory, Name::try_from(location.name.as_c_str())?) {
                Ok(status) if Identity::from(&status) == identity => return Ok((location, status)),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(Errno::STALE))
    }

    /// Whether the guest may do `change` to `name` in `directory`.
    pub(super) fn check_name(
        &self,
        share: usize,
        directory: &OwnedFd,
        name: Name<'_>,
        change: Change,
    ) -> Result<(), Errno> {
        let guard = self.guard(share)?;
        guard.check_writable()?;
        if guard.is_plain() {
            return Ok(());
        }
        match guard.standing(&self.descriptors, directory, name.bytes())? {
            Standing::Free => Ok(()),
            Standing::Above if change == Change::Directory => Ok(()),
            Standing::Above | Standing::Protected => Err(Errno::PERM),
        }
    }

    /// Whether the guest may change the contents or attributes of `file`, whose status is `status`.
    pub(super) fn check_file(&self, share: usize, file: &OwnedFd, status: &Statx) -> Result<(), Errno> {
        let guard = self.guard(share)?;
        guard.check_writable()?;
        if guard.is_plain() {
            return Ok(());
        }
        let is_directory = Kind::from(status) == Kind::Directory;
        match guard.standing(&self.descriptors, file, b"")? {
            Standing::Protected => return Err(Errno::PERM),
            Standing::Above if !is_directory => return Err(Errno::PERM),
            Standing::Above | Standing::Free => {}
        }
        // Under another name it would be the same file.
        if !is_directory && status.stx_nlink > 1 && guard.holds(Identity::from(status))? {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// Gives back every descriptor that can be opened again.
    pub(super) fn close_spare(&mut self) {
        self.nodes.close_directories();
        self.listings.clear();
    }

    /// Forgets all that belongs to the guest's mount.
    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.listings.clear();
        self.nodes.clear();
    }
}

/// What the host says of a name that was there before: gone or something else means that the node is stale, upon
/// which the guest's kernel looks the name up again.
fn stale(error: Errno) -> Errno {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::STALE,
        other => other,
    }
}
