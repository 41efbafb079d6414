//! Layers: a tar goes in, `data` and `tree` come out.
//!
//! ```text
//!     tar stream ─Tar→ entries ─Staging→ tree in memory ─stored→ tree     names, attributes, small contents
//!                         └──contents──DataWriter──────────────→ data     contents, each file at a 4 KiB block
//! ```
//!
//! Nothing is unpacked: the host's file system sees these two files only, so neither names nor links nor devices of a
//! hostile layer mean anything to it.
//!
//! Files of up to [`INLINE_BYTES_MAX`] bytes live in `tree`, and later in the metadata of every snapshot, larger ones
//! in `data`. Measured with a Debian image (10,145 files, 270 MB): padding every file to 4 KiB costs 25.1 MB in `data`,
//! which all snapshots share. Keeping tails in the metadata as well would save 16 of them but repeat up to 16 MB in
//! each snapshot; files of at most 512 bytes save 5.2 MB and repeat 0.3 MB.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::layer::canonical::LayerTar;
use crate::layer::data::{DataWriter, Written};
use crate::layer::sparse::Segment;
use crate::layer::sparse_file::{Plan, Step};
use crate::layer::staging::{Place, Staging};
use crate::layer::tar::{Entry, EntryKind, Tar};
use crate::node::{
    Attributes, BLOCK_BYTES, Content, DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX, Device, Directory, Kind,
    NAME_BYTES_MAX, Node, PATH_BYTES_MAX, XATTR_VALUE_BYTES_MAX, Xattr,
};

pub(crate) mod canonical;
mod data;
mod error;
mod extended;
mod header;
mod limits;
mod pax;
mod sparse;
mod sparse_file;
mod staging;
pub(crate) mod stored;
mod tar;
mod whiteout;

pub use error::{LayerError, TarError, WriteTarError};
pub use limits::Limits;
pub use pax::PaxError;
pub use stored::{StoredError, verify};

/// Name of the file with contents in a layer's directory.
pub const DATA_FILE: &str = "data";
/// Name of the file with names and attributes in a layer's directory.
pub const TREE_FILE: &str = "tree";

/// Largest file kept in `tree` instead of `data`, in bytes; see the module's description.
pub(crate) const INLINE_BYTES_MAX: u64 = 512;

/// What came out of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Entries of the tar.
    pub entries: u64,
    /// Length of `data` in bytes, holes of sparse files included.
    pub data_bytes: u64,
    /// Bytes of `data` that were written.
    pub written_bytes: u64,
    /// Length of `tree` in bytes.
    pub tree_bytes: u64,
    /// Extended attributes left out: outside the name spaces Linux has, or addressed to overlayfs.
    pub dropped_xattrs: u64,
}

/// Reads the uncompressed tar of one layer and writes [`DATA_FILE`] and [`TREE_FILE`] into `dir`, which exists and is
/// empty. Nothing is synced. Reads up to the end-of-archive marker: what follows is the caller's to drain and hash.
///
/// # Errors
/// When the tar is malformed, asks for something outside the image or beyond `limits`, or the disk is full. What has
/// been written by then stays in `dir`.
pub fn ingest(tar: &mut dyn Read, dir: &Path, limits: &Limits) -> Result<LayerSummary, LayerError> {
    let path = dir.join(DATA_FILE);
    let create = |path: &Path| {
        File::create_new(path).map_err(|source| LayerError::Write { path: path.into(), source })
    };
    let data = DataWriter::new(create(&path)?);
    let mut ingest = Ingest {
        tar: Tar::new(tar, limits),
        staging: Staging::new(limits),
        data,
        path,
        limits,
        dropped_xattrs: 0,
    };
    let mut entries = 0u64;
    let mut previous = b"(start of the archive)".to_vec();
    while let Some(entry) = ingest.tar.next(&previous)? {
        entries = entries.saturating_add(1);
        previous = ingest.entry(entry)?;
    }
    let Ingest { staging, data, path, dropped_xattrs, .. } = ingest;
    let written = data.finish().map_err(|source| LayerError::Write { path, source })?;
    let tree = stored::encode(&staging, &written);
    let path = dir.join(TREE_FILE);
    std::fs::write(&path, &tree).map_err(|source| LayerError::Write { path, source })?;
    Ok(summary(entries, &written, tree.len(), dropped_xattrs))
}

/// Writes the layer in `dir` as a tar, in the one form that this crate writes; reading it makes the same layer again.
///
/// # Errors
/// When the layer is damaged, or `to` cannot be written.
pub fn write_tar(dir: &Path, to: &mut dyn Write) -> Result<(), WriteTarError> {
    let bytes = stored::read(dir)?;
    let tree = stored::decode(&bytes, &dir.join(TREE_FILE))?;
    let path = dir.join(DATA_FILE);
    let data = File::open(&path).map_err(|source| StoredError::Read { path, source })?;
    io::copy(&mut LayerTar::new(&tree, &data), to).map_err(|source| WriteTarError::Copy { source })?;
    Ok(())
}

/// A layer half read.
struct Ingest<'a> {
    tar: Tar<'a>,
    staging: Staging<'a>,
    data: DataWriter,
    /// Path of `data`.
    path: PathBuf,
    limits: &'a Limits,
    dropped_xattrs: u64,
}

impl Ingest<'_> {
    /// Takes one entry with its contents; gives back its path.
    fn entry(&mut self, entry: Entry) -> Result<Vec<u8>, LayerError> {
        let Entry { path, mode, uid, gid, modified, xattrs, kind } = entry;
        let place = self.staging.place(&path)?;
        if matches!(place, Place::Marker) {
            return Ok(path);
        }
        let kind = match kind {
            EntryKind::HardLink { target } => {
                self.staging.link(&place, &path, &target)?;
                return Ok(path);
            }
            EntryKind::Directory => Kind::Directory(Directory::default()),
            EntryKind::Regular { size } => Kind::Regular { size, content: self.regular(&path, size)? },
            EntryKind::Sparse { size, segments } => {
                Kind::Regular { size, content: self.sparse(&path, size, &segments)? }
            }
            EntryKind::Symlink { target } => symlink(&path, target)?,
            EntryKind::Character { major, minor } => Kind::Character(device(&path, major, minor)?),
            EntryKind::Block { major, minor } => Kind::Block(device(&path, major, minor)?),
            EntryKind::Fifo => Kind::Fifo,
        };
        let xattrs = self.xattrs(&path, xattrs)?;
        let attributes = Attributes { mode, uid, gid, modified, xattrs };
        self.staging.insert(&place, &path, Node { attributes, kind })?;
        Ok(path)
    }

    fn regular(&mut self, path: &[u8], size: u64) -> Result<Content<'static>, LayerError> {
        self.check_size(path, size)?;
        if size <= INLINE_BYTES_MAX {
            return self.inline(size);
        }
        let first_block = self.reserve(path, size, size)?;
        self.copy(size)?;
        self.write(DataWriter::pad)?;
        Ok(Content::Blocks { first_block })
    }

    fn inline(&mut self, size: u64) -> Result<Content<'static>, LayerError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let mut filled = 0usize;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.tar.read(rest)? {
                0 => return Err(TarError::Truncated.into()),
                count => filled = filled.saturating_add(count),
            }
        }
        Ok(Content::Inline(bytes.into()))
    }

    fn sparse(
        &mut self,
        path: &[u8],
        size: u64,
        segments: &[Segment],
    ) -> Result<Content<'static>, LayerError> {
        self.check_size(path, size)?;
        self.staging.account_segments(path, segments.len())?;
        let plan = Plan::new(size, segments);
        let first_block = self.reserve(path, plan.device_bytes(), plan.written_bytes())?;
        for step in plan.steps() {
            match *step {
                Step::Copy(bytes) => self.copy(bytes)?,
                Step::Zeros(bytes) => self.write(|data| data.zeros(bytes))?,
                Step::Skip(bytes) => self.write(|data| data.skip(bytes))?,
            }
        }
        self.write(DataWriter::pad)?;
        Ok(plan.content(first_block))
    }

    /// Checks that a file's contents may still be written; gives the block where they will start.
    fn reserve(&self, path: &[u8], device_bytes: u64, written_bytes: u64) -> Result<u32, LayerError> {
        let position = self.data.position();
        let over = |limit| LayerError::Data { path: printable(path), limit };
        if self.data.written_bytes().saturating_add(written_bytes) > self.limits.data_bytes {
            return Err(over(self.limits.data_bytes));
        }
        // EROFS addresses blocks with 32 bits.
        let limit = self.limits.device_bytes.min(u64::from(u32::MAX).saturating_mul(BLOCK_BYTES));
        if position.saturating_add(device_bytes) > limit {
            return Err(over(limit));
        }
        u32::try_from(position / BLOCK_BYTES).map_err(|_| over(limit))
    }

    /// Moves `bytes` bytes of contents from the tar to `data`.
    fn copy(&mut self, mut bytes: u64) -> Result<(), LayerError> {
        while bytes > 0 {
            let space = self.data.space(bytes);
            let space = space.map_err(|source| LayerError::Write { path: self.path.clone(), source })?;
            match self.tar.read(space)? {
                0 => return Err(TarError::Truncated.into()),
                count => {
                    self.data.commit(count);
                    bytes = bytes.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, action: impl FnOnce(&mut DataWriter) -> io::Result<()>) -> Result<(), LayerError> {
        action(&mut self.data).map_err(|source| LayerError::Write { path: self.path.clone(), source })
    }

    fn check_size(&self, path: &[u8], bytes: u64) -> Result<(), LayerError> {
        let limit = self.limits.file_bytes;
        if bytes > limit {
            return Err(LayerError::FileSize { path: printable(path), bytes, limit });
        }
        Ok(())
    }

    /// Keeps the attributes that mean something to the guest.
    fn xattrs(
        &mut self,
        path: &[u8],
        xattrs: Vec<Xattr<'static>>,
    ) -> Result<Vec<Xattr<'static>>, LayerError> {
        let mut kept = Vec::with_capacity(xattrs.len());
        for xattr in xattrs {
            if !is_kept(&xattr.name) {
                self.dropped_xattrs = self.dropped_xattrs.saturating_add(1);
                continue;
            }
            if xattr.name.len() > NAME_BYTES_MAX || xattr.value.len() > XATTR_VALUE_BYTES_MAX {
                return Err(LayerError::Xattr { path: printable(path), name: printable(&xattr.name) });
            }
            kept.push(xattr);
        }
        Ok(kept)
    }
}

/// Whether the guest's EROFS can hold the attribute, and overlayfs, for which the image is a lower layer, would not
/// take it for its own.
fn is_kept(name: &[u8]) -> bool {
    const SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let known = SPACES.iter().any(|space| name.len() > space.len() && name.starts_with(space));
    (known && !overlay && !name.contains(&0)) || ACCESS_LISTS.contains(&name)
}

fn symlink(path: &[u8], target: Vec<u8>) -> Result<Kind<'static>, LayerError> {
    if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) {
        return Err(LayerError::Symlink { path: printable(path) });
    }
    Ok(Kind::Symlink { target: target.into() })
}

fn device(path: &[u8], major: u64, minor: u64) -> Result<Device, LayerError> {
    let narrow = |value, most| u32::try_from(value).ok().filter(|value| *value <= most);
    match (narrow(major, DEVICE_MAJOR_MAX), narrow(minor, DEVICE_MINOR_MAX)) {
        (Some(major), Some(minor)) => Ok(Device { major, minor }),
        _ => Err(LayerError::Device { path: printable(path), major, minor }),
    }
}

fn summary(entries: u64, written: &Written, tree_length: usize, dropped_xattrs: u64) -> LayerSummary {
    let blocks = written.ranges.iter().map(|range| range.blocks).fold(0u64, u64::saturating_add);
    LayerSummary {
        entries,
        data_bytes: written.length,
        written_bytes: blocks.saturating_mul(BLOCK_BYTES),
        tree_bytes: u64::try_from(tree_length).unwrap_or(u64::MAX),
        dropped_xattrs,
    }
}

/// A path for a message: what is not printable ASCII escaped, and cut where it would fill the screen.
fn printable(path: &[u8]) -> String {
    const SHOWN: usize = 200;
    match path.get(..SHOWN) {
        Some(start) if path.len() > SHOWN => format!("{}…", start.escape_ascii()),
        _ => path.escape_ascii().to_string(),
    }
}
