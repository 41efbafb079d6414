//! Making, removing and renaming: what changes directories.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::files::OpenFile;
use super::host::{self, Identity, Kind};
use super::name::Name;
use super::state::{Change, State};

/// A directory and a name in it that the guest may change.
struct Target<'a> {
    parent: u64,
    share: usize,
    directory: Arc<OwnedFd>,
    name: Name<'a>,
}

/// How the guest wants to open a file that it makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation {
    /// The flags of its `open`.
    pub(super) flags: OFlags,
    /// Type and permissions.
    pub(super) mode: u32,
}

impl State {
    /// Makes a regular file if there is none and opens it.
    pub(super) fn create(
        &mut self,
        parent: u64,
        name: &CStr,
        creation: Creation,
    ) -> Result<(Entry, u64), Errno> {
        self.files.check_room()?;
        let target = self.target(parent, name, Change::Other)?;
        let access = creation.flags & OFlags::RWMODE;
        let flags = access | OFlags::CREATE | OFlags::EXCL;
        let mode = host::plain_mode(creation.mode & 0o777);
        let file = match host::open_at(&target.directory, target.name, flags, mode) {
            Ok(file) => file,
            Err(Errno::EXIST) if !creation.flags.contains(OFlags::EXCL) => {
                return self.open_existing(parent, name, creation.flags);
            }
            Err(error) => return Err(error),
        };
        self.undo_umask(&file, mode)?;
        let status = host::status(&file)?;
        let entry = self.entry(parent, target.name, &status)?;
        let handle = self.files.insert(OpenFile {
            node: entry.inode,
            share: target.share,
            file: File::from(file),
            writable: access != OFlags::RDONLY,
            appending: false,
            mode_after_write: None,
        });
        self.nodes.get_mut(entry.inode)?.handles.push(handle);
        Ok((entry, handle))
    }

    fn open_existing(&mut self, parent: u64, name: &CStr, flags: OFlags) -> Result<(Entry, u64), Errno> {
        let entry = self.look_up(parent, name)?;
        if entry.inode == 0 {
            return Err(Errno::NOENT);
        }
        match self.open(entry.inode, flags) {
            Ok((handle, _)) => Ok((entry, handle)),
            Err(error) => {
                self.nodes.forget(entry.inode, 1);
                Err(error)
            }
        }
    }

    /// Makes a directory.
    pub(super) fn make_directory(&mut self, parent: u64, name: &CStr, mode: u32) -> Result<Entry, Errno> {
        let target = self.target(parent, name, Change::Directory)?;
        let mode = host::plain_mode(mode);
        rustix::fs::mkdirat(&target.directory, target.name.as_c_str(), mode)?;
        self.made(&target, mode)
    }

    /// Makes an empty file, FIFO or socket. Devices are no business of a guest on the host.
    pub(super) fn make_node(&mut self, parent: u64, name: &CStr, mode: u32) -> Result<Entry, Errno> {
        let target = self.target(parent, name, Change::Other)?;
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        let mode = host::plain_mode(mode & 0o777);
        rustix::fs::mknodat(&target.directory, target.name.as_c_str(), kind, mode, 0)?;
        self.made(&target, mode)
    }

    /// Makes a symbolic link. Where it leads is not looked at: only the guest's kernel follows it.
    pub(super) fn make_link(&mut self, parent: u64, name: &CStr, to: &CStr) -> Result<Entry, Errno> {
        let target = self.target(parent, name, Change::Other)?;
        rustix::fs::symlinkat(to, &target.directory, target.name.as_c_str())?;
        let status = host::status_at(&target.directory, target.name)?;
        self.entry(parent, target.name, &status)
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, number: u64, parent: u64, name: &CStr) -> Result<Entry, Errno> {
        let target = self.target(parent, name, Change::Other)?;
        if self.share_of(number)? != target.share {
            return Err(Errno::XDEV);
        }
        let (stand, status) = self.stand_for(number)?;
        self.check_file(target.share, &stand, &status)?;
        let (source, _) = self.find(number, |directory, name| host::status_at(directory, name))?;
        let directory = self.directory(source.parent)?;
        rustix::fs::linkat(
            &directory,
            source.name.as_c_str(),
            &target.directory,
            target.name.as_c_str(),
            AtFlags::empty(),
        )?;
        let status = host::status_at(&target.directory, target.name)?;
        self.entry(parent, target.name, &status)
    }

    /// Removes a name that is not a directory's.
    pub(super) fn unlink(&mut self, parent: u64, name: &CStr) -> Result<(), Errno> {
        let target = self.target(parent, name, Change::Other)?;
        self.remove(&target, AtFlags::empty())
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&mut self, parent: u64, name: &CStr) -> Result<(), Errno> {
        let target = self.target(parent, name, Change::Directory)?;
        self.remove(&target, AtFlags::REMOVEDIR)
    }

    fn remove(&mut self, target: &Target<'_>, flags: AtFlags) -> Result<(), Errno> {
        let status = host::status_at(&target.directory, target.name)?;
        rustix::fs::unlinkat(&target.directory, target.name.as_c_str(), flags)?;
        let identity = Identity::from(&status);
        self.nodes.remove_name(target.share, identity, target.parent, target.name.as_c_str());
        Ok(())
    }

    /// Renames, or with `EXCHANGE` swaps, within a share.
    pub(super) fn rename(
        &mut self,
        from: (u64, &CStr),
        to: (u64, &CStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::INVAL);
        }
        if self.share_of(from.0)? != self.share_of(to.0)? {
            return Err(Errno::XDEV);
        }
        let from = self.target(from.0, from.1, Change::Other)?;
        let to = self.target(to.0, to.1, Change::Other)?;
        let (from_name, to_name) = (from.name.as_c_str(), to.name.as_c_str());
        let moved = Identity::from(&host::status_at(&from.directory, from.name)?);
        let replaced = match host::status_at(&to.directory, to.name) {
            Ok(status) => Some(Identity::from(&status)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        rustix::fs::renameat_with(&from.directory, from_name, &to.directory, to_name, flags)?;
        if replaced == Some(moved) {
            // Two names of one file: the kernel leaves both alone.
            return Ok(());
        }
        let share = from.share;
        self.nodes.remove_name(share, moved, from.parent, from_name);
        if let Some(replaced) = replaced {
            self.nodes.remove_name(share, replaced, to.parent, to_name);
            if flags.contains(RenameFlags::EXCHANGE) {
                self.nodes.add_name(share, replaced, from.parent, from_name);
            }
        }
        self.nodes.add_name(share, moved, to.parent, to_name);
        Ok(())
    }

    fn target<'a>(&mut self, parent: u64, name: &'a CStr, change: Change) -> Result<Target<'a>, Errno> {
        let share = self.share_of(parent)?;
        let name = Name::try_from(name)?;
        let directory = self.directory(parent)?;
        self.check_name(share, &directory, name, change)?;
        Ok(Target { parent, share, directory, name })
    }

    /// Describes what was just made, with the permissions that the guest asked for.
    fn made(&mut self, target: &Target<'_>, mode: Mode) -> Result<Entry, Errno> {
        if self.masks(mode) {
            let stand = host::stand_for(&target.directory, target.name)?;
            self.undo_umask(&stand, mode)?;
        }
        let status = host::status_at(&target.directory, target.name)?;
        self.entry(target.parent, target.name, &status)
    }

    fn masks(&self, mode: Mode) -> bool {
        mode.as_raw_mode() & self.umask != 0
    }

    /// Sets the bits that our own file mode creation mask took away; the guest has applied its own already.
    fn undo_umask(&self, file: impl AsFd, mode: Mode) -> Result<(), Errno> {
        if !self.masks(mode) {
            return Ok(());
        }
        // A directory may have inherited its group bit.
        let status = host::status(&file)?;
        let inherited = match Kind::from(&status) {
            Kind::Directory => Mode::from_raw_mode(u32::from(status.stx_mode)) & Mode::SGID,
            _ => Mode::empty(),
        };
        self.descriptors.set_mode(file, mode | inherited)
    }
}
