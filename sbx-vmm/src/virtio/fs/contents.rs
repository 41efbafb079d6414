//! Opening, reading and writing files, and changing their attributes.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuse_backend_rs::abi::fuse_abi::stat64;
use fuse_backend_rs::api::filesystem::{SetattrValid, ZeroCopyReader, ZeroCopyWriter};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, SeekFrom, Statx, Timespec, Timestamps};
use rustix::io::Errno;

use super::attributes::attributes;
use super::files::{OpenFile, PASSED_ON};
use super::guard::Standing;
use super::host::{self, Kind, PRIVILEGE_BITS};
use super::nodes::Version;
use super::state::State;

/// A modification time younger than this may be shared by a later change, for the host's clock ticks only every few
/// milliseconds.
const CERTAIN_AFTER: Duration = Duration::from_millis(100);

/// Ways to allocate that FUSE has: keep the size, punch a hole, zero a range.
const ALLOCATIONS: u32 = 0x01 | 0x02 | 0x10;

/// One request to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    /// Length in bytes.
    pub(super) size: u32,
    /// Where in the file, in bytes.
    pub(super) offset: u64,
    /// To the end of the file, wherever that is by now.
    pub(super) append: bool,
    /// Whether set-user-id and set-group-id go.
    pub(super) drop_privileges: bool,
}

impl State {
    /// Opens a node as the guest's `open` flags say. Returns its number, and whether what the guest has in its page
    /// cache is still the contents.
    pub(super) fn open(&mut self, number: u64, flags: OFlags) -> Result<(u64, bool), Errno> {
        self.files.check_room()?;
        let truncates = flags.contains(OFlags::TRUNC);
        let mut access = flags & OFlags::RWMODE;
        if truncates && access == OFlags::RDONLY {
            access = OFlags::RDWR;
        }
        let (mut open, status) = self.open_file(number, access | (flags & PASSED_ON))?;
        if truncates {
            open.drop_privileges()?;
            rustix::fs::ftruncate(&open.file, 0)?;
        }
        let handle = self.files.insert(open);
        let node = self.nodes.get_mut(number)?;
        node.handles.push(handle);
        let version = version(&status);
        let keep = !truncates && node.cached == Some(version);
        node.cached = is_certain(version).then_some(version);
        Ok((handle, keep))
    }

    /// Opens a node with exactly these flags, if the rules of its share allow it.
    pub(super) fn open_file(&mut self, number: u64, flags: OFlags) -> Result<(OpenFile, Statx), Errno> {
        let share = self.share_of(number)?;
        if self.nodes.get(number)?.is_directory {
            return Err(Errno::ISDIR);
        }
        let writable = flags & OFlags::RWMODE != OFlags::RDONLY;
        if writable {
            self.guard(share)?.check_writable()?;
        }
        let (file, status) = self.open_node(number, flags)?;
        if writable {
            self.check_file(share, &file, &status)?;
        }
        let mode = u32::from(status.stx_mode);
        let open = OpenFile {
            node: number,
            share,
            file: File::from(file),
            writable,
            appending: false,
            mode_after_write: (mode & PRIVILEGE_BITS != 0).then_some(mode & !PRIVILEGE_BITS),
        };
        Ok((open, status))
    }

    /// Opens the regular file that a node is; anything else could block or do something by being opened.
    fn open_node(&mut self, number: u64, flags: OFlags) -> Result<(OwnedFd, Statx), Errno> {
        let mut opened = None;
        let found = self.find(number, |directory, name| {
            // Looked at first, because the host may have put a FIFO or device there.
            if Kind::from(&host::status_at(directory, name)?) != Kind::Regular {
                return Err(Errno::NOENT);
            }
            let file = host::open_at(directory, name, flags, Mode::empty())?;
            let status = host::status(&file)?;
            opened = Some(file);
            Ok(status)
        });
        match (found, opened) {
            (Ok((_, status)), Some(file)) => Ok((file, status)),
            (Err(Errno::STALE), _) => {
                // Without a name, but perhaps open.
                let (stand, status) = self.stand_for(number)?;
                if Kind::from(&status) != Kind::Regular {
                    return Err(Errno::NXIO);
                }
                Ok((self.descriptors.reopen(&stand, flags)?, status))
            }
            (Err(error), _) => Err(error),
            (Ok(_), None) => Err(Errno::STALE),
        }
    }

    /// Where a symbolic link leads.
    pub(super) fn read_link(&mut self, number: u64) -> Result<Vec<u8>, Errno> {
        let (stand, status) = self.stand_for(number)?;
        if Kind::from(&status) != Kind::Other {
            return Err(Errno::INVAL);
        }
        rustix::fs::readlinkat(&stand, c"", Vec::with_capacity(256)).map(CString::into_bytes)
    }

    /// Closes a file.
    pub(super) fn release(&mut self, number: u64, handle: u64) -> Result<(), Errno> {
        self.files.remove(handle, number)?;
        self.nodes.close(number, handle);
        Ok(())
    }

    /// Reads from an open file into the guest's memory.
    pub(super) fn read(
        &mut self,
        number: u64,
        handle: u64,
        writer: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
    ) -> std::io::Result<usize> {
        let open = self.files.get_mut(handle, number)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > writer.available_bytes() {
            return Err(Errno::INVAL.into());
        }
        writer.write_from(&mut open.file, size, offset)
    }

    /// Writes from the guest's memory into an open file.
    pub(super) fn write(
        &mut self,
        number: u64,
        handle: u64,
        reader: &mut dyn ZeroCopyReader,
        writing: Writing,
    ) -> std::io::Result<usize> {
        self.check_open(number, handle)?;
        let open = self.files.get_mut(handle, number)?;
        open.set_appending(writing.append)?;
        if writing.drop_privileges {
            open.drop_privileges()?;
        }
        let size = usize::try_from(writing.size).unwrap_or(usize::MAX);
        reader.read_to(&mut open.file, size, writing.offset)
    }

    /// Whether an open file may be written to: it was opened for that, and is not, meanwhile, where nothing may be
    /// written.
    fn check_open(&self, number: u64, handle: u64) -> Result<(), Errno> {
        let open = self.files.get(handle, number)?;
        if !open.writable {
            return Err(Errno::BADF);
        }
        let guard = self.guard(open.share)?;
        guard.check_writable()?;
        if guard.is_plain() {
            return Ok(());
        }
        match guard.standing(&self.descriptors, &open.file, b"")? {
            Standing::Free => Ok(()),
            Standing::Above | Standing::Protected => Err(Errno::PERM),
        }
    }

    /// Sets attributes of a node and returns what they are then.
    pub(super) fn set_attributes(
        &mut self,
        number: u64,
        handle: Option<u64>,
        wanted: &stat64,
        valid: SetattrValid,
    ) -> Result<stat64, Errno> {
        let share = self.share_of(number)?;
        self.guard(share)?.check_writable()?;
        let (stand, status) = self.stand_for(number)?;
        self.check_file(share, &stand, &status)?;
        if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
            let uid = valid.contains(SetattrValid::UID).then_some(wanted.st_uid);
            let gid = valid.contains(SetattrValid::GID).then_some(wanted.st_gid);
            self.ids.may_own(&status, uid, gid)?;
        }
        if valid.contains(SetattrValid::MODE) {
            self.set_mode(&stand, &status, wanted.st_mode)?;
        } else if valid.contains(SetattrValid::KILL_SUIDGID) && Kind::from(&status) == Kind::Regular {
            let mode = u32::from(status.stx_mode);
            if mode & PRIVILEGE_BITS != 0 {
                self.descriptors.set_mode(&stand, host::plain_mode(mode))?;
            }
        }
        if valid.contains(SetattrValid::SIZE) {
            self.truncate(number, handle, &stand, &status, wanted)?;
        }
        if let Some(times) = times(wanted, valid) {
            rustix::fs::utimensat(&stand, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        let status = host::status(&stand)?;
        let inode = self.inode_number(&status);
        Ok(attributes(&status, inode, self.ids))
    }

    fn set_mode(&self, stand: &Arc<OwnedFd>, status: &Statx, mode: u32) -> Result<(), Errno> {
        let inherited = match Kind::from(status) {
            Kind::Directory => Mode::from_raw_mode(u32::from(status.stx_mode)) & Mode::SGID,
            _ => Mode::empty(),
        };
        self.descriptors.set_mode(stand, host::plain_mode(mode) | inherited)
    }

    fn truncate(
        &mut self,
        number: u64,
        handle: Option<u64>,
        stand: &Arc<OwnedFd>,
        status: &Statx,
        wanted: &stat64,
    ) -> Result<(), Errno> {
        let size = u64::try_from(wanted.st_size).map_err(|_| Errno::INVAL)?;
        if let Some(handle) = handle
            && let Ok(open) = self.files.get(handle, number)
            && open.writable
        {
            return rustix::fs::ftruncate(&open.file, size);
        }
        match Kind::from(status) {
            Kind::Regular => rustix::fs::ftruncate(self.descriptors.reopen(stand, OFlags::WRONLY)?, size),
            Kind::Directory => Err(Errno::ISDIR),
            Kind::Other => Err(Errno::INVAL),
        }
    }

    /// Allocates or frees a range of an open file.
    pub(super) fn allocate(
        &mut self,
        number: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.check_open(number, handle)?;
        if mode & !ALLOCATIONS != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let open = self.files.get_mut(handle, number)?;
        open.drop_privileges()?;
        rustix::fs::fallocate(&open.file, FallocateFlags::from_bits_retain(mode), offset, length)
    }

    /// Finds data (`SEEK_DATA`, 3) or a hole (`SEEK_HOLE`, 4) in an open file.
    pub(super) fn seek(&mut self, number: u64, handle: u64, offset: u64, whence: u32) -> Result<u64, Errno> {
        let open = self.files.get(handle, number)?;
        let to = match whence {
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        rustix::fs::seek(&open.file, to)
    }

    /// Writes an open file to the disk.
    pub(super) fn synchronize(&mut self, number: u64, handle: u64, data_only: bool) -> Result<(), Errno> {
        let open = self.files.get(handle, number)?;
        if data_only { rustix::fs::fdatasync(&open.file) } else { rustix::fs::fsync(&open.file) }
    }

    /// Writes a directory to the disk.
    pub(super) fn synchronize_directory(&mut self, number: u64) -> Result<(), Errno> {
        let directory = self.directory(number)?;
        rustix::fs::fsync(host::open_entries(&directory)?)
    }
}

impl OpenFile {
    /// Takes set-user-id and set-group-id from the file, as its kernel would for a writer without privileges.
    fn drop_privileges(&mut self) -> Result<(), Errno> {
        match self.mode_after_write.take() {
            Some(mode) => rustix::fs::fchmod(&self.file, host::plain_mode(mode)),
            None => Ok(()),
        }
    }

    fn set_appending(&mut self, append: bool) -> Result<(), Errno> {
        if self.appending != append {
            let flags = rustix::fs::fcntl_getfl(&self.file)?;
            let flags = if append { flags | OFlags::APPEND } else { flags & !OFlags::APPEND };
            rustix::fs::fcntl_setfl(&self.file, flags)?;
            self.appending = append;
        }
        Ok(())
    }
}

fn version(status: &Statx) -> Version {
    Version { modified: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec), size: status.stx_size }
}

/// Whether a later change is bound to have another modification time than `version`.
fn is_certain(version: Version) -> bool {
    let (seconds, nanoseconds) = version.modified;
    let Ok(seconds) = u64::try_from(seconds) else { return true };
    let modified = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
    modified
        .and_then(|modified| SystemTime::now().duration_since(modified).ok())
        .is_some_and(|age| age > CERTAIN_AFTER)
}

fn times(wanted: &stat64, valid: SetattrValid) -> Option<Timestamps> {
    let given = SetattrValid::ATIME | SetattrValid::MTIME | SetattrValid::ATIME_NOW | SetattrValid::MTIME_NOW;
    if !valid.intersects(given) {
        return None;
    }
    let time = |set, now, seconds, nanoseconds| {
        let tv_nsec = if valid.contains(now) {
            rustix::fs::UTIME_NOW
        } else if valid.contains(set) {
            nanoseconds
        } else {
            rustix::fs::UTIME_OMIT
        };
        Timespec { tv_sec: seconds, tv_nsec }
    };
    Some(Timestamps {
        last_access: time(
            SetattrValid::ATIME,
            SetattrValid::ATIME_NOW,
            wanted.st_atime,
            wanted.st_atime_nsec,
        ),
        last_modification: time(
            SetattrValid::MTIME,
            SetattrValid::MTIME_NOW,
            wanted.st_mtime,
            wanted.st_mtime_nsec,
        ),
    })
}
