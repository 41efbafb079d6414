//! Where everything in the metadata goes.
//!
//! Inodes of one directory lie side by side, in the order of their names, and those of its subdirectories follow: what
//! `ls -l` or a start-up that walks a few directories reads is adjacent.

use super::directory;
use super::format::{BLOCK, INODE, INODE_SLOT, SUPER_OFFSET, SuperBlock};
use super::xattr::SharedXattrs;
use crate::node::{Content, Kind, chunk_count};
use crate::tree::{Tree, TreeId, TreeNode};

/// Places of all inodes and areas.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    /// Files and directories in the order of their inodes, each once.
    pub(crate) order: Vec<TreeId>,
    places: Vec<Option<Place>>,
    pub(crate) shared: SharedXattrs<'a>,
    /// Where the shared attributes start, in bytes; a multiple of the block size.
    pub(crate) shared_start: usize,
    /// Length of the metadata in bytes, a multiple of the block size.
    pub(crate) length: usize,
}

/// Place of one inode and what belongs to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Offset in bytes.
    pub(crate) position: usize,
    /// Names of a file; for a directory 2 and its subdirectories.
    pub(crate) links: u32,
    /// Directory above; of a file, that of its first name.
    pub(crate) parent: TreeId,
    /// Bytes of extended attributes behind the inode.
    pub(crate) xattr_bytes: usize,
    pub(crate) payload: Payload,
}

/// Where the contents of directories, links and small files are, and the chunks of sparse files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payload {
    /// All bytes.
    pub(crate) length: usize,
    /// The last bytes, behind the inode.
    pub(crate) inline: usize,
    /// Offset of the other bytes, at a block; 0 without any.
    pub(crate) blocks_start: usize,
}

impl Place {
    /// Number of the inode: its position in slots.
    pub(crate) fn nid(&self) -> u64 {
        u64::try_from(self.position / INODE_SLOT).unwrap_or(u64::MAX)
    }

    fn footprint(&self) -> usize {
        INODE.saturating_add(self.xattr_bytes).saturating_add(self.payload.inline)
    }
}

impl<'a> Layout<'a> {
    pub(crate) fn new(tree: &'a Tree<'a>) -> Self {
        let mut places: Vec<Option<Place>> = vec![None; tree.len()];
        let order = order(tree, &mut places);
        let nodes = order.iter().filter_map(|id| tree.get(*id));
        let shared = SharedXattrs::collect(nodes.flat_map(|one| &one.node.attributes.xattrs));
        let mut position = SUPER_OFFSET.saturating_add(size_of::<SuperBlock>());
        for id in &order {
            let (Some(one), Some(Some(place))) = (tree.get(*id), places.get_mut(*id)) else { continue };
            // Only nodes with attributes need the bytes to know the length.
            place.xattr_bytes = shared.inline(&one.node.attributes.xattrs).len();
            place.payload = payload(one, place.xattr_bytes);
            place.position = fit(position, place.footprint());
            position = place.position.saturating_add(place.footprint()).next_multiple_of(INODE_SLOT);
        }
        let shared_start = position.next_multiple_of(BLOCK);
        let mut end = shared_start.saturating_add(shared.area().len()).next_multiple_of(BLOCK);
        for id in &order {
            let Some(Some(place)) = places.get_mut(*id) else { continue };
            let apart = place.payload.length.saturating_sub(place.payload.inline);
            if apart > 0 {
                place.payload.blocks_start = end;
                end = end.saturating_add(apart).next_multiple_of(BLOCK);
            }
        }
        Self { order, places, shared, shared_start, length: end }
    }

    pub(crate) fn place(&self, id: TreeId) -> Option<&Place> {
        self.places.get(id)?.as_ref()
    }
}

/// Numbers inodes, and counts links and notes parents on the way.
fn order(tree: &Tree<'_>, places: &mut [Option<Place>]) -> Vec<TreeId> {
    let mut order = vec![Tree::ROOT];
    let mut pending = vec![Tree::ROOT];
    if let Some(root) = places.get_mut(Tree::ROOT) {
        *root = Some(Place { links: 2, parent: Tree::ROOT, ..Place::default() });
    }
    while let Some(directory) = pending.pop() {
        let Some(node) = tree.get(directory) else { continue };
        let begin = pending.len();
        for (_, id) in &node.children {
            let is_directory = tree.get(*id).is_some_and(|one| one.node.is_directory());
            if let Some(slot) = places.get_mut(*id) {
                let first = slot.is_none();
                let place = slot.get_or_insert_with(|| Place { parent: directory, ..Place::default() });
                place.links = place.links.saturating_add(if is_directory { 2 } else { 1 });
                if first {
                    order.push(*id);
                }
            }
            if is_directory {
                pending.push(*id);
                if let Some(Some(parent)) = places.get_mut(directory) {
                    parent.links = parent.links.saturating_add(1);
                }
            }
        }
        // The first subdirectory is next.
        pending.get_mut(begin..).unwrap_or_default().reverse();
    }
    order
}

fn payload(one: &TreeNode<'_>, xattr_bytes: usize) -> Payload {
    let length = match &one.node.kind {
        Kind::Directory(_) => directory::length(names(one)),
        Kind::Symlink { target } => target.len(),
        Kind::Regular { content: Content::Inline(bytes), .. } => bytes.len(),
        Kind::Regular { size, content: Content::Chunks { chunk_bits, .. } } => {
            // The table always lies behind the inode, over as many blocks as it takes.
            let length =
                usize::try_from(chunk_count(*size, *chunk_bits)).unwrap_or(usize::MAX).saturating_mul(4);
            return Payload { length, inline: length, blocks_start: 0 };
        }
        _ => 0,
    };
    let tail = length % BLOCK;
    let fits = INODE.saturating_add(xattr_bytes).saturating_add(tail) <= BLOCK;
    Payload { length, inline: if fits { tail } else { 0 }, blocks_start: 0 }
}

/// Names in a directory with `.` and `..`, in order.
pub(crate) fn names<'t>(one: &'t TreeNode<'_>) -> impl Iterator<Item = &'t [u8]> {
    // What sorts before `.` or between the two: names that begin with a byte below `.`, or with `.` and then one.
    let dot = one.children.partition_point(|(name, _)| *name < &b"."[..]);
    let dots = one.children.partition_point(|(name, _)| *name < &b".."[..]);
    let part = |range: std::ops::Range<usize>| {
        one.children.get(range).unwrap_or_default().iter().map(|(name, _)| *name)
    };
    part(0..dot)
        .chain(std::iter::once(&b"."[..]))
        .chain(part(dot..dots))
        .chain(std::iter::once(&b".."[..]))
        .chain(part(dots..one.children.len()))
}

/// First place at or after `position` where an inode of `footprint` bytes may start: inline contents may not cross a
/// block's end (Linux refuses them), nor does the inode itself.
fn fit(position: usize, footprint: usize) -> usize {
    let free = BLOCK.saturating_sub(position % BLOCK);
    let need = if footprint <= BLOCK { footprint } else { INODE };
    if need <= free { position } else { position.next_multiple_of(BLOCK) }
}
