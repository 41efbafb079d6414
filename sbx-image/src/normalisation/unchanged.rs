//! What a machine copied to its upper directory without changing it, and so need not be in the layer.
//!
//! A file that was opened for writing, a directory in which something was made that does not enter, an owner that was set
//! to what it was: all of them are in the upper directory, and which of them are there depends on more than the step (a
//! host with certificates of its own has them written into bundles, and taken out again). Times that the machine gave do
//! not count as a change.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::layer::stored::{LayerTree, StoredChild};
use crate::node::{BLOCK_BYTES, Content, Directory, Kind, Node, Timestamp};
use crate::tree::{Tree, TreeId, TreeNode};

/// Bytes of two files that are compared at a time.
const COMPARED_BYTES: usize = 256 * 1024;

/// What a layer is compared with.
#[derive(Debug)]
pub(crate) struct Below<'a> {
    /// The layers below, merged.
    pub(crate) tree: &'a Tree<'a>,
    /// Their `data`, in the tree's order.
    pub(crate) data: &'a [File],
    /// The `data` of the layer itself.
    pub(crate) own: &'a File,
}

/// A directory whose entries are being looked at.
struct Frame<'a> {
    directory: usize,
    /// The directory of that path below, if there is one that shows.
    below: Option<TreeId>,
    /// Entries that were not looked at yet, the next one last.
    rest: Vec<(&'a [u8], StoredChild)>,
    kept: Vec<(&'a [u8], StoredChild)>,
    name: &'a [u8],
}

impl Below<'_> {
    /// Takes out of the tree what is the same below. Times from `epoch_seconds` on were given by the machine.
    pub(super) fn take_out<'a>(&self, tree: &mut LayerTree<'a>, epoch_seconds: i64) -> io::Result<()> {
        let names = count_names(tree);
        let mut stack: Vec<Frame<'a>> = enter(tree, 0, Some(Tree::ROOT), b"").into_iter().collect();
        while let Some(frame) = stack.last_mut() {
            let Some((name, child)) = frame.rest.pop() else {
                self.leave(tree, &mut stack, epoch_seconds);
                continue;
            };
            let below = frame.below.and_then(|id| self.tree.child(id, name));
            let StoredChild::Node(number) = child else {
                // Nothing is hidden where there is nothing.
                if below.is_some() {
                    frame.kept.push((name, child));
                }
                continue;
            };
            let Some(stored) = tree.nodes.get(number) else { continue };
            if stored.node.is_directory() {
                let below = below.filter(|id| self.get(*id).is_some_and(|one| one.node.is_directory()));
                stack.extend(enter(tree, number, below, name));
                continue;
            }
            let is_alone = names.get(number) == Some(&1);
            let lower = below.and_then(|id| self.get(id)).filter(|_| is_alone);
            let is_same = match lower {
                Some(lower) => {
                    same_attributes(&stored.node, lower.node, epoch_seconds)
                        && self.same_content(&stored.node, lower)?
                }
                None => false,
            };
            if !is_same {
                frame.kept.push((name, child));
            }
        }
        Ok(())
    }

    /// Ends with the innermost directory, which stays if anything in it does or it has changed itself.
    fn leave<'a>(&self, tree: &mut LayerTree<'a>, stack: &mut Vec<Frame<'a>>, epoch_seconds: i64) {
        let Some(Frame { directory, below, kept, name, .. }) = stack.pop() else { return };
        let Some(stored) = tree.nodes.get_mut(directory) else { return };
        let lower = below.and_then(|id| self.get(id));
        if let (None, Kind::Directory(flags)) = (lower, &mut stored.node.kind) {
            flags.opaque = false;
        }
        let Kind::Directory(Directory { opaque, implicit }) = stored.node.kind else { return };
        let is_same = lower.is_some_and(|lower| {
            let hides = opaque && !lower.children.is_empty();
            !hides && (implicit || same_attributes(&stored.node, lower.node, epoch_seconds))
        });
        let stays = !kept.is_empty() || !is_same;
        stored.children = kept;
        if let (Some(parent), true) = (stack.last_mut(), stays) {
            parent.kept.push((name, StoredChild::Node(directory)));
        }
    }

    fn get(&self, id: TreeId) -> Option<&TreeNode<'_>> {
        self.tree.get(id)
    }

    fn same_content(&self, own: &Node<'_>, lower: &TreeNode<'_>) -> io::Result<bool> {
        let (Kind::Regular { size, content }, Kind::Regular { size: lower_size, content: lower_content }) =
            (&own.kind, &lower.node.kind)
        else {
            return Ok(own.kind == lower.node.kind);
        };
        match (content, lower_content, self.data.get(lower.layer)) {
            _ if size != lower_size => Ok(false),
            (Content::Inline(one), Content::Inline(other), _) => Ok(one == other),
            (Content::Blocks { first_block }, Content::Blocks { first_block: lower_block }, Some(data)) => {
                same_bytes((self.own, *first_block), (data, *lower_block), *size)
            }
            _ => Ok(false),
        }
    }
}

fn enter<'a>(
    tree: &mut LayerTree<'a>,
    directory: usize,
    below: Option<TreeId>,
    name: &'a [u8],
) -> Option<Frame<'a>> {
    let mut rest = std::mem::take(&mut tree.nodes.get_mut(directory)?.children);
    rest.reverse();
    Some(Frame { directory, below, rest, kept: Vec::new(), name })
}

/// How many names each node has.
fn count_names(tree: &LayerTree<'_>) -> Vec<u64> {
    let mut names = vec![0_u64; tree.nodes.len()];
    for (_, child) in tree.nodes.iter().flat_map(|stored| &stored.children) {
        if let StoredChild::Node(number) = child
            && let Some(count) = names.get_mut(*number)
        {
            *count = count.saturating_add(1);
        }
    }
    names
}

fn same_attributes(own: &Node<'_>, lower: &Node<'_>, epoch_seconds: i64) -> bool {
    let Timestamp { seconds, .. } = own.attributes.modified;
    let same_time = seconds >= epoch_seconds || own.attributes.modified == lower.attributes.modified;
    let ids = |node: &Node<'_>| (node.attributes.mode, node.attributes.uid, node.attributes.gid);
    same_time && ids(own) == ids(lower) && own.attributes.xattrs == lower.attributes.xattrs
}

fn same_bytes(one: (&File, u32), other: (&File, u32), size: u64) -> io::Result<bool> {
    let mut buffers = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    let mut done = 0u64;
    while done < size {
        let left = usize::try_from(size.saturating_sub(done)).unwrap_or(usize::MAX).min(COMPARED_BYTES);
        let (Some(first), Some(second)) = (buffers.0.get_mut(..left), buffers.1.get_mut(..left)) else {
            return Ok(false);
        };
        for ((file, block), part) in [(one, &mut *first), (other, &mut *second)] {
            let start = u64::from(block).saturating_mul(BLOCK_BYTES);
            file.read_exact_at(part, start.saturating_add(done))?;
        }
        if first != second {
            return Ok(false);
        }
        done = done.saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
    }
    Ok(true)
}
