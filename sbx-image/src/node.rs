//! What one file is: attributes and content, as a layer stores it and a snapshot shows it.
//!
//! Byte strings are `Cow`, so that the same types serve the ingest of a tar (owned) and the reading of a stored
//! layer (borrowed from the one buffer the `tree` file was read into).

use std::borrow::Cow;

/// Size of a block of every file of ours in bytes: EROFS blocks, and the alignment of file contents in `data`.
///
/// It is the page size of every machine that runs the guest, so that a file's pages can be mapped as they are.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Longest name of a directory entry in bytes (`NAME_MAX`, and `EROFS_NAME_LEN`).
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Longest path or symbolic link target in bytes (`PATH_MAX` less the closing NUL).
pub(crate) const PATH_BYTES_MAX: usize = 4095;

/// Deepest directory: a path of [`PATH_BYTES_MAX`] bytes has no more components.
pub(crate) const DEPTH_MAX: usize = 2048;

/// Largest value of an extended attribute in bytes (what the 16-bit length of EROFS holds; Linux allows one more).
pub(crate) const XATTR_VALUE_BYTES_MAX: usize = 65535;

/// Largest major and minor device numbers (`MAJOR`/`MINOR` of Linux: 12 and 20 bits).
pub(crate) const DEVICE_MAJOR_MAX: u32 = 0xfff;
/// See [`DEVICE_MAJOR_MAX`].
pub(crate) const DEVICE_MINOR_MAX: u32 = 0xf_ffff;

/// One file of any kind, without its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    pub(crate) attributes: Attributes<'a>,
    pub(crate) kind: Kind<'a>,
}

/// Owner, permissions, time and extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Timestamp,
    /// Sorted by name, each name once.
    pub(crate) xattrs: Vec<Xattr<'a>>,
}

/// Time since 1970-01-01 UTC; `nanoseconds` is below 10⁹ and counts forward also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// One extended attribute with its full name (`security.capability`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Xattr<'a> {
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) value: Cow<'a, [u8]>,
}

/// Kind of file with what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Directory(Directory),
    Regular { size: u64, content: Content<'a> },
    Symlink { target: Cow<'a, [u8]> },
    Character(Device),
    Block(Device),
    Fifo,
}

/// How a directory of a layer meets the one below it. Children are kept by the trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Entries of lower layers are hidden.
    pub(crate) opaque: bool,
    /// The layer has entries below this directory but none for itself: attributes come from lower layers.
    pub(crate) implicit: bool,
}

/// Where the bytes of a regular file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// Here; `size` bytes.
    Inline(Cow<'a, [u8]>),
    /// In the layer's `data`, from this block on, the last block padded with zeros.
    Blocks { first_block: u32 },
    /// In pieces of `BLOCK_BYTES << chunk_bits` bytes; chunks in no run are holes.
    Chunks { chunk_bits: u8, runs: Vec<ChunkRun> },
}

/// `chunks` chunks of a file, from `first_chunk` on, which are adjacent in `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRun {
    pub(crate) first_chunk: u32,
    pub(crate) chunks: u32,
    pub(crate) first_block: u32,
}

/// Device number, within [`DEVICE_MAJOR_MAX`] and [`DEVICE_MINOR_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Node<'_> {
    /// The directory that stands where a layer names none: mode 0755, root's, at the epoch.
    pub(crate) fn implicit_directory() -> Self {
        Self {
            attributes: Attributes {
                mode: 0o755,
                uid: 0,
                gid: 0,
                modified: Timestamp::default(),
                xattrs: Vec::new(),
            },
            kind: Kind::Directory(Directory { opaque: false, implicit: true }),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}

/// Whether `name` can name an entry of a directory.
pub(crate) fn is_entry_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= NAME_BYTES_MAX
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// Number of chunks of a file of `size` bytes.
pub(crate) fn chunk_count(size: u64, chunk_bits: u8) -> u64 {
    BLOCK_BYTES.checked_shl(u32::from(chunk_bits)).map_or(1, |chunk| size.div_ceil(chunk))
}
