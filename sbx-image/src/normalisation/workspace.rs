//! The workspace as a setup command sees it, and what of it enters the layer.
//!
//! The machine has a copy of the files that are under version control. Everybody has those already, with the changes of
//! their own; so only what is new and whole enters: directories that were not in the copy, like `node_modules`.

use std::collections::BTreeSet;

use crate::layer::stored::LayerTree;
use crate::node::{Attributes, Directory, Kind, Timestamp};

/// Directories that Python leaves beside every module that it reads; it makes them again, with other times in them.
const BYTECODE: &[u8] = b"__pycache__";

/// The workspace of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its name in the root directory.
    pub name: String,
    /// Directories in it that were there before, relative to it, without slashes at their ends.
    pub directories: BTreeSet<Vec<u8>>,
    /// User and group that everything in it belongs to.
    pub owner: (u32, u32),
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    File,
    /// It is gone.
    Nothing,
}

/// Where a path lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// Not in the workspace.
    Outside,
    /// The workspace itself.
    Top,
    /// A directory of the copy.
    Copied,
    /// A new directory, or in one; or a name that is gone from the copy's directories.
    New,
    /// A file of the copy, or one beside them.
    Dropped,
}

impl Zone {
    /// Where a path lies whose directory lies here.
    pub(super) fn of_child(self, workspace: Option<&Workspace>, path: &[&[u8]], found: Found) -> Self {
        let Some(workspace) = workspace else { return Self::Outside };
        let name = path.last().copied().unwrap_or_default();
        match self {
            Self::Outside
                if path.len() == 1 && name == workspace.name.as_bytes() && found == Found::Directory =>
            {
                Self::Top
            }
            Self::Outside => Self::Outside,
            Self::New => Self::New,
            Self::Dropped => Self::Dropped,
            Self::Top | Self::Copied => {
                let inside = path.get(1..).unwrap_or_default().join(&b'/');
                let is_readable =
                    std::str::from_utf8(&inside).is_ok_and(|text| !text.contains(char::is_control));
                match found {
                    // Only what an earlier setup command made can be gone: the copy is in no layer.
                    Found::Nothing => Self::New,
                    Found::Directory if workspace.directories.contains(&inside) => Self::Copied,
                    Found::Directory if is_readable && name != BYTECODE => Self::New,
                    Found::Directory | Found::File => Self::Dropped,
                }
            }
        }
    }
}

impl Workspace {
    /// Gives a directory of the copy the attributes that it has for everybody.
    pub(super) fn give_attributes(&self, tree: &mut LayerTree<'_>, directory: usize) {
        let Some(stored) = tree.nodes.get_mut(directory) else { return };
        let (uid, gid) = self.owner;
        // Later than any image, so that it gets the image's time.
        let modified = Timestamp { seconds: i64::MAX, nanoseconds: 0 };
        stored.node.attributes = Attributes { mode: 0o755, uid, gid, modified, xattrs: Vec::new() };
        stored.node.kind = Kind::Directory(Directory::default());
    }
}

/// The path within the workspace.
pub(super) fn relative(path: &[&[u8]]) -> Option<String> {
    String::from_utf8(path.get(1..)?.join(&b'/')).ok()
}
