//! Writes a merged tree as EROFS metadata.

use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::directory::{self, Entry};
use super::format::{
    BLOCK, BLOCK_BITS, FEATURE_COMPAT_CHECKSUM, FEATURE_COMPAT_MTIME, FEATURE_INCOMPAT_CHUNKED_FILE,
    FORMAT_EXTENDED, FORMAT_LAYOUT_SHIFT, INODE, Inode, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE,
    LAYOUT_FLAT_PLAIN, NULL_ADDRESS, SUPER_MAGIC, SUPER_OFFSET, SuperBlock, VOLUME_NAME, XATTR_HEADER,
    device_number, file_type, mode_bits,
};
use super::layout::{Layout, Place, names};
use crate::extents::{Device, DeviceTooLarge};
use crate::node::{ChunkRun, Content, Kind, Node, chunk_count};
use crate::tree::{Tree, TreeId, TreeNode};

/// Metadata of a file system.
#[derive(Debug)]
pub(crate) struct Image {
    /// Whole blocks.
    pub(crate) bytes: Vec<u8>,
    /// Files, directories and links, each once.
    pub(crate) inodes: u64,
}

/// Why layers do not fit into one file system.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Too many blocks.
    #[error(transparent)]
    Device(#[from] DeviceTooLarge),
    /// One file's extended attributes exceed what an inode can count.
    #[error("extended attributes of one file take {bytes} bytes; EROFS holds 262148")]
    Xattrs {
        /// What they take, in bytes.
        bytes: usize,
    },
}

/// Writes the tree over layers whose `data` files have the given lengths in bytes. The same tree gives the same bytes.
pub(crate) fn write(tree: &Tree<'_>, layer_bytes: &[u64]) -> Result<Image, WriteError> {
    let layout = Layout::new(tree);
    let metadata_blocks = u64::try_from(layout.length / BLOCK).unwrap_or(u64::MAX);
    let device = Device::new(metadata_blocks, layer_bytes.iter().copied())?;
    let mut writer = Writer { tree, layout: &layout, device, bytes: vec![0; layout.length], chunked: false };
    for (number, id) in layout.order.iter().enumerate() {
        writer.node(number, *id)?;
    }
    writer.put(layout.shared_start, layout.shared.area());
    writer.super_block();
    Ok(Image { bytes: writer.bytes, inodes: u64::try_from(layout.order.len()).unwrap_or(u64::MAX) })
}

struct Writer<'a> {
    tree: &'a Tree<'a>,
    layout: &'a Layout<'a>,
    device: Device,
    bytes: Vec<u8>,
    /// There is a chunk-based file.
    chunked: bool,
}

impl<'a> Writer<'a> {
    fn node(&mut self, number: usize, id: TreeId) -> Result<(), WriteError> {
        let (Some(one), Some(place)) = (self.tree.get(id), self.layout.place(id)) else { return Ok(()) };
        let node = one.node;
        let (layout, address) = self.layout_and_address(one, place);
        let inode = Inode {
            format: (FORMAT_EXTENDED | (layout << FORMAT_LAYOUT_SHIFT)).into(),
            xattr_count: xattr_count(place.xattr_bytes)?.into(),
            mode: (node.attributes.mode | mode_bits(&node.kind)).into(),
            reserved: 0.into(),
            size: size(node, place).into(),
            address: address.into(),
            number: u32::try_from(number).unwrap_or(u32::MAX).wrapping_add(1).into(),
            uid: node.attributes.uid.into(),
            gid: node.attributes.gid.into(),
            seconds: node.attributes.modified.seconds.into(),
            nanoseconds: node.attributes.modified.nanoseconds.into(),
            links: place.links.into(),
            reserved_2: [0; 16],
        };
        self.put(place.position, inode.as_bytes());
        let xattrs_at = place.position.saturating_add(INODE);
        if place.xattr_bytes > 0 {
            let xattrs = self.layout.shared.inline(&node.attributes.xattrs);
            self.put(xattrs_at, &xattrs);
        }
        let inline_at = xattrs_at.saturating_add(place.xattr_bytes);
        match &node.kind {
            Kind::Directory(_) => {
                let bytes = self.directory(id, one, place);
                self.payload(place, inline_at, &bytes);
            }
            Kind::Symlink { target } => self.payload(place, inline_at, target),
            Kind::Regular { content: Content::Inline(bytes), .. } => self.payload(place, inline_at, bytes),
            Kind::Regular { size, content: Content::Chunks { chunk_bits, runs } } => {
                self.chunked = true;
                let table = self.chunk_table(one.layer, *size, *chunk_bits, runs);
                self.put(inline_at, &table);
            }
            _ => {}
        }
        Ok(())
    }

    fn layout_and_address(&self, one: &TreeNode<'_>, place: &Place) -> (u16, u32) {
        match &one.node.kind {
            Kind::Character(device) | Kind::Block(device) => (LAYOUT_FLAT_PLAIN, device_number(*device)),
            Kind::Regular { content: Content::Blocks { first_block }, .. } => {
                (LAYOUT_FLAT_PLAIN, self.device.address(one.layer, *first_block))
            }
            Kind::Regular { content: Content::Chunks { chunk_bits, .. }, .. } => {
                (LAYOUT_CHUNK_BASED, u32::from(*chunk_bits))
            }
            _ => {
                let layout = if place.payload.inline > 0 { LAYOUT_FLAT_INLINE } else { LAYOUT_FLAT_PLAIN };
                (layout, u32::try_from(place.payload.blocks_start / BLOCK).unwrap_or(NULL_ADDRESS))
            }
        }
    }

    fn directory(&self, id: TreeId, one: &TreeNode<'_>, place: &Place) -> Vec<u8> {
        let mut children = one.children.iter();
        let entries: Vec<Entry<'_>> = names(one)
            .map(|name| {
                let target = match name {
                    b"." => Some(id),
                    b".." => Some(place.parent),
                    _ => children.next().map(|(_, child)| *child),
                };
                self.entry(name, target)
            })
            .collect();
        directory::encode(&entries)
    }

    fn entry<'n>(&self, name: &'n [u8], target: Option<TreeId>) -> Entry<'n> {
        let nid = target.and_then(|id| self.layout.place(id)).map_or(0, Place::nid);
        let file_type = target.and_then(|id| self.tree.get(id)).map_or(0, |one| file_type(&one.node.kind));
        Entry { name, nid, file_type }
    }

    fn chunk_table(&self, layer: usize, size: u64, chunk_bits: u8, runs: &[ChunkRun]) -> Vec<u8> {
        let count = usize::try_from(chunk_count(size, chunk_bits)).unwrap_or(usize::MAX);
        let mut table = vec![0xff; count.saturating_mul(4)];
        for run in runs {
            let mut address = self.device.address(layer, run.first_block);
            let first = usize::try_from(run.first_chunk).unwrap_or(usize::MAX);
            let many = usize::try_from(run.chunks).unwrap_or(usize::MAX);
            for slot in table.as_chunks_mut::<4>().0.iter_mut().skip(first).take(many) {
                *slot = address.to_le_bytes();
                // The last chunk has no successor: the sum may then leave the range.
                address = address.wrapping_add(1u32.wrapping_shl(u32::from(chunk_bits)));
            }
        }
        table
    }

    /// Contents: whole blocks apart, the tail behind the inode.
    fn payload(&mut self, place: &Place, inline_at: usize, bytes: &[u8]) {
        let apart = place.payload.length.saturating_sub(place.payload.inline);
        let (blocks, tail) = bytes.split_at_checked(apart).unwrap_or((bytes, &[]));
        self.put(place.payload.blocks_start, blocks);
        self.put(inline_at, tail);
    }

    fn super_block(&mut self) {
        let root = self.layout.place(Tree::ROOT).map_or(0, Place::nid);
        let mut super_block = SuperBlock {
            magic: SUPER_MAGIC.into(),
            checksum: 0.into(),
            feature_compat: (FEATURE_COMPAT_CHECKSUM | FEATURE_COMPAT_MTIME).into(),
            block_bits: BLOCK_BITS,
            extension_slots: 0,
            // The root's inode is in the first two blocks.
            root_nid: u16::try_from(root).unwrap_or_default().into(),
            inodes: u64::try_from(self.layout.order.len()).unwrap_or(u64::MAX).into(),
            build_time: 0.into(),
            build_time_nanoseconds: 0.into(),
            blocks: self.device.blocks.into(),
            metadata_block: 0.into(),
            xattr_block: u32::try_from(self.layout.shared_start / BLOCK).unwrap_or_default().into(),
            uuid: VOLUME_NAME,
            volume_name: VOLUME_NAME,
            feature_incompat: if self.chunked { FEATURE_INCOMPAT_CHUNKED_FILE } else { 0 }.into(),
            compression: 0.into(),
            extra_devices: 0.into(),
            device_slots: 0.into(),
            directory_block_bits: 0,
            xattr_prefix_count: 0,
            xattr_prefix_start: 0.into(),
            packed_nid: 0.into(),
            reserved: [0; 24],
        };
        self.put(SUPER_OFFSET, super_block.as_bytes());
        // Over the rest of the first block, without the final inversion that CRC-32C usually has.
        super_block.checksum =
            (!crc32c::crc32c(self.bytes.get(SUPER_OFFSET..BLOCK).unwrap_or_default())).into();
        self.put(SUPER_OFFSET, super_block.as_bytes());
    }

    /// Everything put has been laid out: it is inside.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(space) = self.bytes.get_mut(at..at.saturating_add(bytes.len())) {
            space.copy_from_slice(bytes);
        } else {
            debug_assert!(bytes.is_empty(), "{} bytes at {at} lie outside", bytes.len());
        }
    }
}

/// Units of extended attributes as inodes count them: the header is one, each 4 bytes behind it another.
fn xattr_count(bytes: usize) -> Result<u16, WriteError> {
    if bytes == 0 {
        return Ok(0);
    }
    let units = (bytes.saturating_sub(XATTR_HEADER) / 4).saturating_add(1);
    u16::try_from(units).map_err(|_| WriteError::Xattrs { bytes })
}

fn size(node: &Node<'_>, place: &Place) -> u64 {
    match node.kind {
        Kind::Regular { size, .. } => size,
        _ => u64::try_from(place.payload.length).unwrap_or(u64::MAX),
    }
}
