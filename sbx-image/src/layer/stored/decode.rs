//! Reading of `tree`.

use std::borrow::Cow;
use std::path::Path;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{
    AttributesRecord, FLAG_IMPLICIT, FLAG_OPAQUE, LayerTree, MAGIC, RangeRecord, RunRecord, StoredChild,
    StoredError, StoredNode, TAG_BLOCK, TAG_CHARACTER, TAG_DIRECTORY, TAG_END, TAG_FIFO, TAG_FILE,
    TAG_HARD_LINK, TAG_SMALL, TAG_SPARSE, TAG_SYMLINK, TAG_WHITEOUT, TreeHeader, VERSION,
};
use crate::layer::data::BlockRange;
use crate::node::{
    Attributes, BLOCK_BYTES, ChunkRun, Content, DEPTH_MAX, DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX, Device,
    Directory, Kind, Node, Timestamp, Xattr, chunk_count, is_entry_name,
};

/// What does not fit, for [`StoredError::Damaged`].
type Reason = &'static str;

const SHORT: Reason = "it ends too early";

/// Reads a `tree`; `path` is for messages.
pub(crate) fn decode<'a>(bytes: &'a [u8], path: &Path) -> Result<LayerTree<'a>, StoredError> {
    let damaged = |reason| StoredError::Damaged { path: path.into(), reason };
    let (header, body) = TreeHeader::ref_from_prefix(bytes).map_err(|_| damaged(SHORT))?;
    if header.magic != MAGIC {
        return Err(damaged("it does not begin as it should"));
    }
    if header.version != VERSION {
        return Err(StoredError::Version { path: path.into(), version: header.version.get() });
    }
    let start = bytes.get(..std::mem::offset_of!(TreeHeader, tree_digest)).unwrap_or_default();
    let digest = blake3::Hasher::new().update(start).update(&[0u8; 32]).update(body).finalize();
    if *digest.as_bytes() != header.tree_digest {
        return Err(damaged("its contents have changed"));
    }
    read_tree(header, body).map_err(damaged)
}

fn read_tree<'a>(header: &TreeHeader, body: &'a [u8]) -> Result<LayerTree<'a>, Reason> {
    let mut reader = Reader { rest: body };
    let data_blocks = header.data_bytes.get() / BLOCK_BYTES;
    if !header.data_bytes.get().is_multiple_of(BLOCK_BYTES) || data_blocks > u64::from(u32::MAX) {
        return Err("the length of `data` is impossible");
    }
    let count = usize::try_from(header.ranges.get()).map_err(|_| SHORT)?;
    let (records, rest) =
        <[RangeRecord]>::ref_from_prefix_with_elems(reader.rest, count).map_err(|_| SHORT)?;
    reader.rest = rest;
    let ranges: Vec<_> = records
        .iter()
        .map(|record| BlockRange { first_block: record.first_block.get(), blocks: record.blocks.get() })
        .collect();
    let in_data = |range: &BlockRange| {
        range.first_block.checked_add(range.blocks).is_some_and(|end| end <= data_blocks)
    };
    if !ranges.iter().all(in_data) {
        return Err("a written block is beyond `data`");
    }
    // A node takes at least a tag, a name length and attributes; the claim of a damaged header allocates no more.
    let most = reader.rest.len() / size_of::<AttributesRecord>();
    let nodes = Vec::with_capacity(usize::try_from(header.nodes.get()).unwrap_or(usize::MAX).min(most));
    let mut records = Records { reader, nodes, data_blocks };
    records.read()?;
    if u64::try_from(records.nodes.len()) != Ok(header.nodes.get()) {
        return Err("the number of files is wrong");
    }
    let data_bytes = header.data_bytes.get();
    Ok(LayerTree { nodes: records.nodes, data_bytes, ranges, data_digest: header.data_digest })
}

struct Records<'a> {
    reader: Reader<'a>,
    nodes: Vec<StoredNode<'a>>,
    /// Number of blocks in `data`.
    data_blocks: u64,
}

impl<'a> Records<'a> {
    fn read(&mut self) -> Result<(), Reason> {
        if self.reader.byte()? != TAG_DIRECTORY || self.reader.byte()? != 0 {
            return Err("the root is no directory");
        }
        let mut stack = vec![self.push(TAG_DIRECTORY)?];
        while let Some(directory) = stack.last().copied() {
            let tag = self.reader.byte()?;
            if tag == TAG_END {
                stack.pop();
                continue;
            }
            let length = usize::from(self.reader.byte()?);
            let name = self.reader.take(length)?;
            let previous = self.nodes.get(directory).and_then(|one| one.children.last());
            if !is_entry_name(name) || previous.is_some_and(|(previous, _)| *previous >= name) {
                return Err("a name is invalid or out of order");
            }
            let child = match tag {
                TAG_WHITEOUT => StoredChild::Whiteout,
                TAG_HARD_LINK => StoredChild::Node(self.link()?),
                _ => StoredChild::Node(self.push(tag)?),
            };
            if let Some(parent) = self.nodes.get_mut(directory) {
                parent.children.push((name, child));
            }
            if let (TAG_DIRECTORY, StoredChild::Node(id)) = (tag, child) {
                stack.push(id);
                // The root is not a component of a path.
                if stack.len() > DEPTH_MAX.saturating_add(1) {
                    return Err("directories are nested too deep");
                }
            }
        }
        if self.reader.rest.is_empty() { Ok(()) } else { Err("it has more than its records") }
    }

    fn push(&mut self, tag: u8) -> Result<usize, Reason> {
        let node = self.node(tag)?;
        self.nodes.push(StoredNode { node, children: Vec::new() });
        Ok(self.nodes.len().saturating_sub(1))
    }

    fn link(&mut self) -> Result<usize, Reason> {
        let number = usize::try_from(self.reader.fixed::<U64>()?.get()).unwrap_or(usize::MAX);
        match self.nodes.get(number) {
            Some(target) if !target.node.is_directory() => Ok(number),
            _ => Err("a hard link leads nowhere"),
        }
    }

    fn node(&mut self, tag: u8) -> Result<Node<'a>, Reason> {
        let flags = if tag == TAG_DIRECTORY { self.reader.byte()? } else { 0 };
        let attributes = self.reader.attributes()?;
        let kind = match tag {
            TAG_DIRECTORY => Kind::Directory(Directory {
                opaque: flags & FLAG_OPAQUE != 0,
                implicit: flags & FLAG_IMPLICIT != 0,
            }),
            TAG_SMALL => {
                let bytes = self.reader.text()?;
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Kind::Regular { size, content: Content::Inline(Cow::Borrowed(bytes)) }
            }
            TAG_FILE => self.file()?,
            TAG_SPARSE => self.sparse_file()?,
            TAG_SYMLINK => Kind::Symlink { target: Cow::Borrowed(self.reader.text()?) },
            TAG_CHARACTER => Kind::Character(self.reader.device()?),
            TAG_BLOCK => Kind::Block(self.reader.device()?),
            TAG_FIFO => Kind::Fifo,
            _ => return Err("a record is of an unknown kind"),
        };
        Ok(Node { attributes, kind })
    }

    fn file(&mut self) -> Result<Kind<'a>, Reason> {
        let size = self.reader.fixed::<U64>()?.get();
        let first_block = self.reader.fixed::<U32>()?.get();
        self.check_blocks(first_block, size.div_ceil(BLOCK_BYTES))?;
        Ok(Kind::Regular { size, content: Content::Blocks { first_block } })
    }

    fn sparse_file(&mut self) -> Result<Kind<'a>, Reason> {
        let size = self.reader.fixed::<U64>()?.get();
        let chunk_bits = self.reader.byte()?;
        // 31 is what EROFS holds. A file that large would not fit its chunk table into memory either.
        if chunk_bits > 31 || i64::try_from(size).is_err() {
            return Err("a sparse file is too large");
        }
        let chunks = chunk_count(size, chunk_bits);
        let count = self.reader.fixed::<U32>()?.get();
        let mut runs = Vec::new();
        let mut free = 0u64;
        for _ in 0..count {
            let record = self.reader.fixed::<RunRecord>()?;
            let (first, many) = (u64::from(record.first_chunk.get()), u64::from(record.chunks.get()));
            let end = first.saturating_add(many);
            if first < free || end > chunks {
                return Err("chunks of a sparse file are out of order");
            }
            free = end;
            // The last chunk of the file ends with the file.
            let blocks =
                (end << chunk_bits).min(size.div_ceil(BLOCK_BYTES)).saturating_sub(first << chunk_bits);
            self.check_blocks(record.first_block.get(), blocks)?;
            runs.push(ChunkRun {
                first_chunk: record.first_chunk.get(),
                chunks: record.chunks.get(),
                first_block: record.first_block.get(),
            });
        }
        Ok(Kind::Regular { size, content: Content::Chunks { chunk_bits, runs } })
    }

    fn check_blocks(&self, first_block: u32, blocks: u64) -> Result<(), Reason> {
        match u64::from(first_block).checked_add(blocks) {
            Some(end) if end <= self.data_blocks => Ok(()),
            _ => Err("a file reaches beyond `data`"),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<T: FromBytes + Immutable + KnownLayout + Unaligned>(&mut self) -> Result<&'a T, Reason> {
        let (value, rest) = T::ref_from_prefix(self.rest).map_err(|_| SHORT)?;
        self.rest = rest;
        Ok(value)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        self.fixed::<u8>().copied()
    }

    fn text(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.fixed::<U16>()?.get();
        self.take(usize::from(length))
    }

    fn device(&mut self) -> Result<Device, Reason> {
        let (major, minor) = (self.fixed::<U32>()?.get(), self.fixed::<U32>()?.get());
        if major > DEVICE_MAJOR_MAX || minor > DEVICE_MINOR_MAX {
            return Err("a device number is impossible");
        }
        Ok(Device { major, minor })
    }

    fn attributes(&mut self) -> Result<Attributes<'a>, Reason> {
        let record = self.fixed::<AttributesRecord>()?;
        let mut xattrs = Vec::new();
        for _ in 0..record.xattrs.get() {
            let name_length = usize::from(self.byte()?);
            let value_length = usize::from(self.fixed::<U16>()?.get());
            let name = Cow::Borrowed(self.take(name_length)?);
            xattrs.push(Xattr { name, value: Cow::Borrowed(self.take(value_length)?) });
        }
        if record.mode.get() > 0o7777 || record.nanoseconds.get() > 999_999_999 {
            return Err("a mode or time is impossible");
        }
        Ok(Attributes {
            mode: record.mode.get(),
            uid: record.uid.get(),
            gid: record.gid.get(),
            modified: Timestamp { seconds: record.seconds.get(), nanoseconds: record.nanoseconds.get() },
            xattrs,
        })
    }
}
