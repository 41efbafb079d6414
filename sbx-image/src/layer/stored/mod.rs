//! The `tree` file of a layer: names, attributes and small contents, in one stream that is read in one go.
//!
//! Numbers are little-endian. Names in a directory ascend bytewise.
//!
//! ```text
//!     ┌──────────────────────────────────────────────────────────────┐ 0
//!     │ magic "sbxtree\0"           version u32     ranges u32       │
//!     │ nodes u64                   data length in bytes u64         │
//!     │ BLAKE3 of the written blocks of `data`             32 bytes  │
//!     │ BLAKE3 of this file with this field as zeros       32 bytes  │
//!     ├──────────────────────────────────────────────────────────────┤ 96
//!     │ ranges × { first block u64, blocks u64 }                     │ written blocks of `data`
//!     ├──────────────────────────────────────────────────────────────┤
//!     │ record of the root directory, whose name is empty            │
//!     └──────────────────────────────────────────────────────────────┘
//!
//!     record     := tag u8, name length u8, name, body by tag
//!       0 end of the directory (the tag alone)
//!       1 whiteout              —
//!       2 directory             flags u8 (1 opaque, 2 implicit), attributes; records of its entries; end
//!       3 small file            attributes, length u16, contents
//!       4 file                  attributes, size u64, first block u32
//!       5 sparse file           attributes, size u64, chunk bits u8, runs u32, runs × { chunk u32, chunks u32, first block u32 }
//!       6 symbolic link         attributes, length u16, target
//!       7, 8 character, block device   attributes, major u32, minor u32
//!       9 FIFO                  attributes
//!       10 hard link            number u64 of an earlier record of tag 3–9; records of tag 2–9 count from 0
//!     attributes := mode u16, uid u32, gid u32, seconds i64, nanoseconds u32, count u16,
//!                   count × { name length u8, value length u16, name, value }
//! ```
//!
//! The files are our own, but a disk can lie: everything is bounded and checked on the way in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layer::data::BlockRange;
use crate::layer::{DATA_FILE, TREE_FILE};
use crate::node::{BLOCK_BYTES, Node};

mod decode;
mod encode;

pub(crate) use decode::decode;
pub(crate) use encode::encode;

const MAGIC: [u8; 8] = *b"sbxtree\0";
const VERSION: u32 = 1;

/// Largest `tree` that is read, in bytes: above what [`crate::layer::Limits`] lets be written.
const TREE_BYTES_MAX: u64 = 2 << 30;

const TAG_END: u8 = 0;
const TAG_WHITEOUT: u8 = 1;
const TAG_DIRECTORY: u8 = 2;
const TAG_SMALL: u8 = 3;
const TAG_FILE: u8 = 4;
const TAG_SPARSE: u8 = 5;
const TAG_SYMLINK: u8 = 6;
const TAG_CHARACTER: u8 = 7;
const TAG_BLOCK: u8 = 8;
const TAG_FIFO: u8 = 9;
const TAG_HARD_LINK: u8 = 10;

const FLAG_OPAQUE: u8 = 1;
const FLAG_IMPLICIT: u8 = 2;

/// Start of the file.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TreeHeader {
    magic: [u8; 8],
    version: U32,
    ranges: U32,
    nodes: U64,
    data_bytes: U64,
    data_digest: [u8; 32],
    tree_digest: [u8; 32],
}

/// One range of written blocks.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RangeRecord {
    first_block: U64,
    blocks: U64,
}

/// Fixed part of a node's attributes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AttributesRecord {
    mode: U16,
    uid: U32,
    gid: U32,
    seconds: I64,
    nanoseconds: U32,
    xattrs: U16,
}

/// One run of a sparse file.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RunRecord {
    first_chunk: U32,
    chunks: U32,
    first_block: U32,
}

/// A layer's tree as read, borrowing from the file's bytes.
#[derive(Debug)]
pub(crate) struct LayerTree<'a> {
    /// The root first; directories before what is in them.
    pub(crate) nodes: Vec<StoredNode<'a>>,
    /// Length of `data` in bytes.
    pub(crate) data_bytes: u64,
    ranges: Vec<BlockRange>,
    data_digest: [u8; 32],
}

/// A node and, for directories, its entries in ascending order.
#[derive(Debug)]
pub(crate) struct StoredNode<'a> {
    pub(crate) node: Node<'a>,
    pub(crate) children: Vec<(&'a [u8], StoredChild)>,
}

/// What a name of a layer's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredChild {
    /// Nothing, and lower layers' files of this name are gone.
    Whiteout,
    /// The node of this number.
    Node(usize),
}

/// Why a stored layer cannot be used. All of them mean that the disk changed what was written: pull the layer again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoredError {
    /// A file of the layer cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was written by another version of sbx.
    #[error("`{}` has format version {version}; this sbx reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        version: u32,
    },
    /// The file is not what was written.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
}

/// Reads the `tree` of the layer in `dir` whole.
pub(crate) fn read(dir: &Path) -> Result<Vec<u8>, StoredError> {
    let path = dir.join(TREE_FILE);
    let read = || -> io::Result<Option<Vec<u8>>> {
        if std::fs::metadata(&path)?.len() > TREE_BYTES_MAX {
            return Ok(None);
        }
        std::fs::read(&path).map(Some)
    };
    match read() {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(StoredError::Damaged { path, reason: "it is too large" }),
        Err(source) => Err(StoredError::Read { path, source }),
    }
}

/// Re-hashes the layer in `dir`: its `tree`, and every written block of its `data`.
///
/// # Errors
/// When a file is missing or differs from what was written.
pub fn verify(dir: &Path) -> Result<(), StoredError> {
    let bytes = read(dir)?;
    let tree = decode(&bytes, &dir.join(TREE_FILE))?;
    let path = dir.join(DATA_FILE);
    match hash_data(&path, &tree) {
        Ok(digest) if digest == tree.data_digest => Ok(()),
        Ok(_) => Err(StoredError::Damaged { path, reason: "its contents have changed" }),
        Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Err(StoredError::Damaged { path, reason: "it has the wrong length" })
        }
        Err(source) => Err(StoredError::Read { path, source }),
    }
}

fn hash_data(path: &Path, tree: &LayerTree<'_>) -> io::Result<[u8; 32]> {
    let file = File::open(path)?;
    if file.metadata()?.len() != tree.data_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for range in &tree.ranges {
        let mut offset = range.first_block.saturating_mul(BLOCK_BYTES);
        let mut left = range.blocks.saturating_mul(BLOCK_BYTES);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..length).unwrap_or_default();
            file.read_exact_at(part, offset)?;
            hasher.update(part);
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            offset = offset.saturating_add(length);
            left = left.saturating_sub(length);
        }
    }
    Ok(*hasher.finalize().as_bytes())
}
