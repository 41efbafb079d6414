//! The file system that layers make together: the rules of overlayfs, applied once instead of at every look-up.
//!
//! Bottom layer first. For each name of an upper layer's directory:
//!
//! | upper layer | lower layers | result |
//! |---|---|---|
//! | whiteout | anything | nothing |
//! | file | anything | the file |
//! | directory | directory | upper attributes, both contents |
//! | directory, implied only | directory | lower attributes, both contents |
//! | directory, opaque | directory | upper attributes, upper contents |
//! | directory | other or nothing | the directory |
//!
//! Nodes live in a table and directories name them by number, so that a hard link is one more name for a number; a
//! name that an upper layer replaces leaves the other names of the same file alone.

use crate::layer::stored::{LayerTree, StoredChild, StoredNode};
use crate::node::{Directory, Kind, Node};

/// Place of a node in a [`Tree`].
pub(crate) type TreeId = usize;

/// The merged file system.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    /// The root first. Nodes that upper layers hid are still here, but no directory names them.
    nodes: Vec<TreeNode<'a>>,
}

/// A node of the merged file system.
#[derive(Debug)]
pub(crate) struct TreeNode<'a> {
    /// Which layer, counted from the bottom, it and its contents come from.
    pub(crate) layer: usize,
    pub(crate) node: &'a Node<'a>,
    /// Entries of a directory, in ascending order of their names.
    pub(crate) children: Vec<(&'a [u8], TreeId)>,
}

/// A directory of the layer that is being applied, and its place in the tree.
struct Pending<'a> {
    stored: &'a StoredNode<'a>,
    directory: TreeId,
}

impl<'a> Tree<'a> {
    /// Merges the layers, bottom first. No layers make an empty root directory.
    pub(crate) fn merge(layers: &'a [LayerTree<'a>], empty_root: &'a Node<'a>) -> Self {
        let capacity = layers.iter().map(|layer| layer.nodes.len()).fold(1, usize::saturating_add);
        let mut tree = Self { nodes: Vec::with_capacity(capacity) };
        tree.nodes.push(TreeNode { layer: 0, node: empty_root, children: Vec::new() });
        for (number, layer) in layers.iter().enumerate() {
            tree.apply(number, layer);
        }
        tree
    }

    /// The root directory's place.
    pub(crate) const ROOT: TreeId = 0;

    pub(crate) fn get(&self, id: TreeId) -> Option<&TreeNode<'a>> {
        self.nodes.get(id)
    }

    /// The entry `name` of a directory.
    #[cfg(feature = "store")]
    pub(crate) fn child(&self, directory: TreeId, name: &[u8]) -> Option<TreeId> {
        let children = &self.get(directory)?.children;
        let at = children.binary_search_by(|(found, _)| (*found).cmp(name)).ok()?;
        children.get(at).map(|(_, id)| *id)
    }

    /// Number of nodes, hidden ones included: every [`TreeId`] is below it.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn apply(&mut self, number: usize, layer: &'a LayerTree<'a>) {
        // Where a node of the layer went, so that its other names find it.
        let mut placed: Vec<Option<TreeId>> = vec![None; layer.nodes.len()];
        let Some(root) = layer.nodes.first() else { return };
        self.adopt(Self::ROOT, number, root);
        let mut pending = vec![Pending { stored: root, directory: Self::ROOT }];
        while let Some(Pending { stored, directory }) = pending.pop() {
            let lower = self
                .nodes
                .get_mut(directory)
                .map(|one| std::mem::take(&mut one.children))
                .unwrap_or_default();
            let mut merged = Vec::with_capacity(lower.len().saturating_add(stored.children.len()));
            let mut lower = lower.into_iter().peekable();
            for (name, child) in &stored.children {
                while let Some(entry) = lower.next_if(|(lower_name, _)| lower_name < name) {
                    merged.push(entry);
                }
                let hidden = lower.next_if(|(lower_name, _)| lower_name == name).map(|(_, id)| id);
                let StoredChild::Node(source) = *child else { continue };
                let Some(stored) = layer.nodes.get(source) else { continue };
                let id = match placed.get(source).copied().flatten() {
                    Some(id) => id,
                    None => self.place(number, stored, hidden),
                };
                if let Some(slot) = placed.get_mut(source) {
                    *slot = Some(id);
                }
                merged.push((*name, id));
                if stored.node.is_directory() {
                    pending.push(Pending { stored, directory: id });
                }
            }
            merged.extend(lower);
            if let Some(one) = self.nodes.get_mut(directory) {
                one.children = merged;
            }
        }
    }

    /// Puts a node of a layer where a lower one of the same name may be.
    fn place(&mut self, layer: usize, stored: &'a StoredNode<'a>, lower: Option<TreeId>) -> TreeId {
        let lower = lower.filter(|id| self.get(*id).is_some_and(|one| one.node.is_directory()));
        match lower {
            Some(id) if stored.node.is_directory() => {
                self.adopt(id, layer, stored);
                id
            }
            _ => {
                self.nodes.push(TreeNode { layer, node: &stored.node, children: Vec::new() });
                self.nodes.len().saturating_sub(1)
            }
        }
    }

    /// Lets a directory of a layer take over the lower one at `id`.
    fn adopt(&mut self, id: TreeId, layer: usize, stored: &'a StoredNode<'a>) {
        let Kind::Directory(Directory { opaque, implicit }) = stored.node.kind else { return };
        let Some(lower) = self.nodes.get_mut(id) else { return };
        if !implicit {
            (lower.layer, lower.node) = (layer, &stored.node);
        }
        if opaque {
            lower.children = Vec::new();
        }
    }
}
