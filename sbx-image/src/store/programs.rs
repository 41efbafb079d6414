//! Looking for a program in the file system that layers make, without a machine.

use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::layer::TREE_FILE;
use crate::layer::stored::{self, LayerTree, StoredError};
use crate::node::{Kind, Node};
use crate::tree::{Tree, TreeId};

/// Symbolic links on the way to one file, as many as Linux follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What makes a file a program: any of the three permissions to execute it.
const EXECUTABLE: u16 = 0o111;

impl Store {
    /// Whether a shell would find the program `name` in one of `directories` of the file system that `layers`, lowest
    /// first, make.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub fn has_program(
        &self,
        layers: &[Digest],
        directories: &[&str],
        name: &str,
    ) -> Result<bool, StoreError> {
        let _lock = self.lock_shared()?;
        let paths: Vec<PathBuf> = layers.iter().map(|layer| self.layer_path(layer)).collect();
        let bytes = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        let trees = paths.iter().zip(&bytes).map(|(path, bytes)| decode(path, bytes));
        let trees: Vec<LayerTree<'_>> = trees.collect::<Result<_, _>>()?;
        let empty_root = Node::implicit_directory();
        let tree = Tree::merge(&trees, &empty_root);
        Ok(directories.iter().any(|directory| {
            let found = find(&tree, &[directory.as_bytes(), name.as_bytes()]);
            found.and_then(|id| tree.get(id)).is_some_and(|found| {
                matches!(found.node.kind, Kind::Regular { .. })
                    && found.node.attributes.mode & EXECUTABLE != 0
            })
        }))
    }
}

fn read(layer: &Path) -> Result<Vec<u8>, StoreError> {
    stored::read(layer).map_err(|error| damaged(layer, &error))
}

fn decode<'b>(layer: &Path, bytes: &'b [u8]) -> Result<LayerTree<'b>, StoreError> {
    stored::decode(bytes, &layer.join(TREE_FILE)).map_err(|error| damaged(layer, &error))
}

fn damaged(layer: &Path, error: &StoredError) -> StoreError {
    StoreError::Damaged { path: layer.to_owned(), reason: error.to_string() }
}

/// What a path, given in pieces, leads to from the root, through whatever links are on it.
fn find(tree: &Tree<'_>, path: &[&[u8]]) -> Option<TreeId> {
    let names = |path: &[u8]| path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut rest: Vec<Vec<u8>> = path.iter().rev().flat_map(|piece| names(piece)).collect();
    let mut way = vec![Tree::ROOT];
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                way.truncate(way.len().saturating_sub(1).max(1));
                continue;
            }
            _ => {}
        }
        let child = tree.child(*way.last()?, &name)?;
        let Kind::Symlink { target } = &tree.get(child)?.node.kind else {
            way.push(child);
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        if target.starts_with(b"/") {
            way.truncate(1);
        }
        rest.extend(names(target));
    }
    way.pop()
}
