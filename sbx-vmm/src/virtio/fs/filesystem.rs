//! The file system that fuse-backend-rs serves: each request, under one lock, to [`State`].
//!
//! Not here, and so refused with ENOSYS once, upon which the guest's kernel does it without us: FLUSH (nothing is
//! held back that a close would have to write), locks (they are the guest's own), ACCESS (the guest's kernel checks
//! permissions from the attributes), BMAP, DAX mappings, COPY_FILE_RANGE, and OPENDIR, in whose stead READDIR names
//! the node.

use std::ffi::CStr;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, WRITE_CACHE, WRITE_KILL_PRIV, stat64, statvfs64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use super::attributes::{no_space, space};
use super::changes::Creation;
use super::contents::Writing;
use super::nodes::ROOT;
use super::state::{State, VALID};

/// `struct fuse_dirent` without the name, and `struct fuse_entry_out`, in bytes.
const DIRENT_BYTES: usize = 24;
const ENTRY_BYTES: usize = 128;

/// The shared directories as a file system.
#[derive(Debug)]
pub(super) struct SharedDirectories(Mutex<State>);

impl SharedDirectories {
    /// Serves what `state` holds.
    pub(super) fn new(state: State) -> Self {
        Self(Mutex::new(state))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `operation`, once more with every spare descriptor closed if there were none left.
    fn run<T>(&self, mut operation: impl FnMut(&mut State) -> Result<T, Errno>) -> io::Result<T> {
        let mut state = self.lock();
        let mut result = operation(&mut state);
        if matches!(result, Err(Errno::MFILE)) {
            state.close_spare();
            result = operation(&mut state);
        }
        result.map_err(|error| match error {
            // To the guest it is the machine's table that is full, not that of its process.
            Errno::MFILE => Errno::NFILE.into(),
            other => other.into(),
        })
    }

    /// Takes entries as long as they fit into `size` bytes, each padded to eight.
    fn list(
        &self,
        inode: u64,
        size: u32,
        position: u64,
        describe: bool,
        add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        let fixed = if describe { DIRENT_BYTES + ENTRY_BYTES } else { DIRENT_BYTES };
        self.run(|state| {
            state.list(inode, position, describe, &mut |found, entry| {
                let length = fixed.saturating_add(found.name.len()).next_multiple_of(8);
                if length > left {
                    return false;
                }
                left = left.saturating_sub(length);
                matches!(add(found, entry), Ok(added) if added > 0)
            })
        })
    }
}

fn open_flags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags)
}

fn open_options(keep_cache: bool) -> OpenOptions {
    if keep_cache { OpenOptions::KEEP_CACHE } else { OpenOptions::empty() }
}

impl FileSystem for SharedDirectories {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _capable: FsOptions) -> io::Result<FsOptions> {
        self.lock().clear();
        Ok(FsOptions::ASYNC_READ
            | FsOptions::ASYNC_DIO
            | FsOptions::ATOMIC_O_TRUNC
            | FsOptions::AUTO_INVAL_DATA
            | FsOptions::BIG_WRITES
            | FsOptions::CACHE_SYMLINKS
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO
            | FsOptions::HANDLE_KILLPRIV_V2
            | FsOptions::MAX_PAGES
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::ZERO_MESSAGE_OPENDIR)
    }

    fn destroy(&self) {
        self.lock().clear();
    }

    fn lookup(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.run(|state| state.look_up(parent, name))
    }

    fn forget(&self, _ctx: &Context, inode: u64, count: u64) {
        self.lock().nodes.forget(inode, count);
    }

    fn batch_forget(&self, _ctx: &Context, requests: Vec<(u64, u64)>) {
        let mut state = self.lock();
        for (inode, count) in requests {
            state.nodes.forget(inode, count);
        }
    }

    fn getattr(&self, _ctx: &Context, inode: u64, _handle: Option<u64>) -> io::Result<(stat64, Duration)> {
        self.run(|state| state.attributes(inode)).map(|attributes| (attributes, VALID))
    }

    fn setattr(
        &self,
        _ctx: &Context,
        inode: u64,
        attr: stat64,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        self.run(|state| state.set_attributes(inode, handle, &attr, valid))
            .map(|attributes| (attributes, VALID))
    }

    fn readlink(&self, _ctx: &Context, inode: u64) -> io::Result<Vec<u8>> {
        self.run(|state| state.read_link(inode))
    }

    fn symlink(&self, _ctx: &Context, linkname: &CStr, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.run(|state| state.make_link(parent, name, linkname))
    }

    fn mknod(
        &self,
        _ctx: &Context,
        inode: u64,
        name: &CStr,
        mode: u32,
        _rdev: u32,
        _umask: u32,
    ) -> io::Result<Entry> {
        self.run(|state| state.make_node(inode, name, mode))
    }

    fn mkdir(&self, _ctx: &Context, parent: u64, name: &CStr, mode: u32, _umask: u32) -> io::Result<Entry> {
        self.run(|state| state.make_directory(parent, name, mode))
    }

    fn unlink(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.run(|state| state.unlink(parent, name))
    }

    fn rmdir(&self, _ctx: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.run(|state| state.remove_directory(parent, name))
    }

    fn rename(
        &self,
        _ctx: &Context,
        olddir: u64,
        oldname: &CStr,
        newdir: u64,
        newname: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.run(|state| state.rename((olddir, oldname), (newdir, newname), flags))
    }

    fn link(&self, _ctx: &Context, inode: u64, newparent: u64, newname: &CStr) -> io::Result<Entry> {
        self.run(|state| state.link(inode, newparent, newname))
    }

    fn open(
        &self,
        _ctx: &Context,
        inode: u64,
        flags: u32,
        _fuse_flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        let (handle, keep_cache) = self.run(|state| state.open(inode, open_flags(flags)))?;
        Ok((Some(handle), open_options(keep_cache), None))
    }

    fn create(
        &self,
        _ctx: &Context,
        parent: u64,
        name: &CStr,
        args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        let creation = Creation { flags: open_flags(args.flags), mode: args.mode };
        let (entry, handle) = self.run(|state| state.create(parent, name, creation))?;
        Ok((entry, Some(handle), OpenOptions::empty(), None))
    }

    fn read(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _lock_owner: Option<u64>,
        _flags: u32,
    ) -> io::Result<usize> {
        self.lock().read(inode, handle, w, size, offset)
    }

    fn write(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _lock_owner: Option<u64>,
        _delayed_write: bool,
        flags: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        let writing = Writing {
            size,
            offset,
            // Dirty pages of a mapping go where they were mapped from, whoever has the file open for appending.
            append: open_flags(flags).contains(OFlags::APPEND) && fuse_flags & WRITE_CACHE == 0,
            drop_privileges: fuse_flags & WRITE_KILL_PRIV != 0,
        };
        self.lock().write(inode, handle, r, writing)
    }

    fn fsync(&self, _ctx: &Context, inode: u64, datasync: bool, handle: u64) -> io::Result<()> {
        self.run(|state| state.synchronize(inode, handle, datasync))
    }

    fn fallocate(
        &self,
        _ctx: &Context,
        inode: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        self.run(|state| state.allocate(inode, handle, mode, offset, length))
    }

    fn release(
        &self,
        _ctx: &Context,
        inode: u64,
        _flags: u32,
        handle: u64,
        _flush: bool,
        _flock_release: bool,
        _lock_owner: Option<u64>,
    ) -> io::Result<()> {
        self.run(|state| state.release(inode, handle))
    }

    fn statfs(&self, _ctx: &Context, inode: u64) -> io::Result<statvfs64> {
        if inode == ROOT {
            return no_space();
        }
        let status = self.run(|state| {
            let (stand, _) = state.stand_for(inode)?;
            rustix::fs::fstatvfs(&stand)
        })?;
        space(&status)
    }

    fn setxattr(&self, _ctx: &Context, inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()> {
        self.run(|state| state.set_attribute(inode, name, value, flags))
    }

    fn getxattr(&self, _ctx: &Context, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        self.run(|state| state.attribute(inode, name, size))
    }

    fn listxattr(&self, _ctx: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        self.run(|state| state.attribute_names(inode, size))
    }

    fn removexattr(&self, _ctx: &Context, inode: u64, name: &CStr) -> io::Result<()> {
        self.run(|state| state.remove_attribute(inode, name))
    }

    fn opendir(&self, _ctx: &Context, _inode: u64, _flags: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        Err(Errno::NOSYS.into())
    }

    fn readdir(
        &self,
        _ctx: &Context,
        inode: u64,
        _handle: u64,
        size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry<'_>) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(inode, size, offset, false, &mut |found, _| add_entry(found))
    }

    fn readdirplus(
        &self,
        _ctx: &Context,
        inode: u64,
        _handle: u64,
        size: u32,
        offset: u64,
        add_entry: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(inode, size, offset, true, add_entry)
    }

    fn fsyncdir(&self, _ctx: &Context, inode: u64, _datasync: bool, _handle: u64) -> io::Result<()> {
        self.run(|state| state.synchronize_directory(inode))
    }

    fn releasedir(&self, _ctx: &Context, _inode: u64, _flags: u32, _handle: u64) -> io::Result<()> {
        Ok(())
    }

    fn lseek(&self, _ctx: &Context, inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64> {
        self.run(|state| state.seek(inode, handle, offset, whence))
    }
}
