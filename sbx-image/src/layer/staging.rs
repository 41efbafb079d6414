//! The tree of one layer while its tar is read.
//!
//! Paths are resolved here, in memory and within the layer alone: a symbolic link never leads to the host, and never
//! into a lower layer.
//!
//! - A path's parent that is a symbolic link **of this layer** is followed inside the layer (root of the layer is root,
//!   40 links at most), as Docker and containerd do when they unpack a layer into its own directory.
//! - Links of **lower layers** are not seen. A directory that stands where a lower layer has a link replaces it, which
//!   is what overlayfs makes of such layers.
//! - Of two entries with one path the later wins; a directory over a directory keeps the children.
//! - Whiteouts are kept apart from entries, so their order in the tar does not matter.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::layer::limits::Limits;
use crate::layer::whiteout::{Marker, marker};
use crate::layer::{LayerError, printable};
use crate::node::{Content, DEPTH_MAX, Directory, Kind, NAME_BYTES_MAX, Node, PATH_BYTES_MAX, chunk_count};

/// Links followed while one path is resolved (`MAXSYMLINKS` of Linux).
const LINKS_FOLLOWED_MAX: usize = 40;

/// Names walked while one path is resolved, those of links included: bounds the time that a hostile layer can take.
const STEPS_MAX: usize = 2 * DEPTH_MAX;

/// What an entry costs in memory besides its own bytes, roughly, in bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// What one part of a sparse file costs, in bytes: its run of chunks and its range of written blocks.
const SEGMENT_BYTES: u64 = 32;

/// Place of a node in [`Staging`].
pub(crate) type NodeId = usize;

/// The root directory.
pub(crate) const ROOT: NodeId = 0;

/// Nodes of the layer so far. Nodes that later entries replaced stay unreferenced.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    nodes: Vec<StagedNode>,
    limits: &'a Limits,
    entries: u64,
    metadata_bytes: u64,
}

/// A node and, if it is a directory, what is in it.
#[derive(Debug)]
pub(crate) struct StagedNode {
    pub(crate) node: Node<'static>,
    pub(crate) children: BTreeMap<Box<[u8]>, StagedChild>,
}

/// What the layer says about one name.
#[derive(Debug, Default)]
pub(crate) struct StagedChild {
    /// Whatever lower layers have under this name is hidden.
    pub(crate) whiteout: bool,
    pub(crate) node: Option<NodeId>,
}

/// Where an entry belongs, once its path has been resolved.
#[derive(Debug)]
pub(crate) enum Place<'p> {
    /// The root directory itself.
    Root,
    /// The name in this directory.
    Entry(NodeId, &'p [u8]),
    /// The path was a whiteout marker, which has been applied.
    Marker,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        let root = StagedNode { node: Node::implicit_directory(), children: BTreeMap::new() };
        Self { nodes: vec![root], limits, entries: 0, metadata_bytes: 0 }
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&StagedNode> {
        self.nodes.get(id)
    }

    /// Resolves the path of an entry, adds directories that are missing on the way, and applies whiteout markers.
    pub(crate) fn place<'p>(&mut self, path: &'p [u8]) -> Result<Place<'p>, LayerError> {
        let components = components(path)?;
        let Some((name, parents)) = components.split_last() else { return Ok(Place::Root) };
        let marker = marker(name);
        match marker {
            Marker::Invalid => return Err(LayerError::Whiteout { path: printable(path) }),
            Marker::Ignored => return Ok(Place::Marker),
            _ => {}
        }
        self.count(path, name.len())?;
        let directory = self.resolve(path, parents, true)?.ok_or_else(|| not_directory(path))?;
        match marker {
            Marker::Whiteout(hidden) => {
                if let Some(parent) = self.nodes.get_mut(directory) {
                    parent.children.entry(hidden.into()).or_default().whiteout = true;
                }
                Ok(Place::Marker)
            }
            Marker::Opaque => {
                if let Some(Kind::Directory(flags)) =
                    self.nodes.get_mut(directory).map(|one| &mut one.node.kind)
                {
                    flags.opaque = true;
                }
                Ok(Place::Marker)
            }
            _ => Ok(Place::Entry(directory, name)),
        }
    }

    /// Puts a new node at its place; a directory over a directory takes over its children.
    pub(crate) fn insert(
        &mut self,
        place: &Place<'_>,
        path: &[u8],
        node: Node<'static>,
    ) -> Result<(), LayerError> {
        self.account(path, &node)?;
        let existing = match *place {
            Place::Marker => return Ok(()),
            Place::Root if !node.is_directory() => return Err(LayerError::Root { path: printable(path) }),
            Place::Root => Some(ROOT),
            Place::Entry(parent, name) => self.child(parent, name),
        };
        if let Some(old) = existing.and_then(|id| self.nodes.get_mut(id))
            && let (Kind::Directory(flags), Kind::Directory(_)) = (&old.node.kind, &node.kind)
        {
            let opaque = flags.opaque;
            old.node = Node { kind: Kind::Directory(Directory { opaque, implicit: false }), ..node };
            return Ok(());
        }
        if let Place::Entry(parent, name) = *place {
            self.add(parent, name, node);
        }
        Ok(())
    }

    /// Gives an existing file of the layer one more name.
    pub(crate) fn link(&mut self, place: &Place<'_>, path: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let error =
            |reason| LayerError::HardLink { path: printable(path), target: printable(target), reason };
        let Place::Entry(parent, name) = *place else {
            return Err(error("it would replace the root directory"));
        };
        let components =
            components(target).map_err(|_| error("the target is not a path inside the image"))?;
        let Some((last, parents)) = components.split_last() else {
            return Err(error("the target is a directory"));
        };
        let directory = self.resolve(target, parents, false)?;
        let id = directory
            .and_then(|directory| self.child(directory, last))
            .ok_or_else(|| error("the layer has no such file before this entry"))?;
        if self.get(id).is_some_and(|target| target.node.is_directory()) {
            return Err(error("the target is a directory"));
        }
        if let Some(directory) = self.nodes.get_mut(parent) {
            directory.children.entry(name.into()).or_default().node = Some(id);
        }
        Ok(())
    }

    /// Counts the parts of a sparse file, each of which the layer's tree may have to list.
    pub(crate) fn account_segments(&mut self, path: &[u8], segments: usize) -> Result<(), LayerError> {
        self.spend(path, u64::try_from(segments).unwrap_or(u64::MAX).saturating_mul(SEGMENT_BYTES))
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.get(directory)?.children.get(name)?.node
    }

    fn add(&mut self, parent: NodeId, name: &[u8], node: Node<'static>) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(StagedNode { node, children: BTreeMap::new() });
        if let Some(directory) = self.nodes.get_mut(parent) {
            directory.children.entry(name.into()).or_default().node = Some(id);
        }
        id
    }

    /// Walks to a directory. With `create`, adds what is missing; without, `None` says that there is none.
    fn resolve(
        &mut self,
        path: &[u8],
        parents: &[&[u8]],
        create: bool,
    ) -> Result<Option<NodeId>, LayerError> {
        // Components still to walk, the next one last.
        let mut pending: Vec<Cow<'_, [u8]>> = parents.iter().rev().map(|one| Cow::Borrowed(*one)).collect();
        let mut trail = vec![ROOT];
        let (mut followed, mut steps) = (0usize, 0usize);
        while let Some(component) = pending.pop() {
            steps = steps.saturating_add(1);
            if steps > STEPS_MAX {
                return Err(LayerError::LinkLoop { path: printable(path) });
            }
            let directory = trail.last().copied().unwrap_or(ROOT);
            if *component == *b".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let Some(id) = self.child(directory, &component) else {
                if !create {
                    return Ok(None);
                }
                self.count(path, component.len())?;
                trail.push(self.add(directory, &component, Node::implicit_directory()));
                check_depth(path, trail.len())?;
                continue;
            };
            match self.get(id).map(|one| &one.node.kind) {
                Some(Kind::Directory(_)) => {
                    trail.push(id);
                    check_depth(path, trail.len())?;
                }
                Some(Kind::Symlink { target }) => {
                    followed = followed.saturating_add(1);
                    if followed > LINKS_FOLLOWED_MAX {
                        return Err(LayerError::LinkLoop { path: printable(path) });
                    }
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    let walk = target.rsplit(|byte| *byte == b'/').filter(|one| !matches!(*one, b"" | b"."));
                    pending.extend(walk.map(|one| Cow::Owned(one.to_vec())));
                }
                _ if !create => return Ok(None),
                _ => return Err(not_directory(path)),
            }
        }
        Ok(trail.last().copied())
    }

    fn count(&mut self, path: &[u8], name_bytes: usize) -> Result<(), LayerError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries {
            return Err(LayerError::TooManyEntries { path: printable(path), limit: self.limits.entries });
        }
        let bytes = u64::try_from(name_bytes).unwrap_or(u64::MAX).saturating_add(ENTRY_OVERHEAD_BYTES);
        self.spend(path, bytes)
    }

    fn account(&mut self, path: &[u8], node: &Node<'_>) -> Result<(), LayerError> {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let xattrs =
            node.attributes.xattrs.iter().map(|one| length(&one.name).saturating_add(length(&one.value)));
        let xattrs = xattrs.fold(0u64, u64::saturating_add);
        if xattrs > self.limits.xattr_bytes {
            return Err(LayerError::Xattrs {
                path: printable(path),
                bytes: xattrs,
                limit: self.limits.xattr_bytes,
            });
        }
        let content = match &node.kind {
            Kind::Regular { size, content } => content_bytes(*size, content),
            Kind::Symlink { target } => length(target),
            _ => 0,
        };
        self.spend(path, xattrs.saturating_add(content))
    }

    fn spend(&mut self, path: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes);
        if self.metadata_bytes > self.limits.metadata_bytes {
            return Err(LayerError::Metadata { path: printable(path), limit: self.limits.metadata_bytes });
        }
        Ok(())
    }
}

/// What the contents cost in the metadata of a snapshot, in bytes.
fn content_bytes(size: u64, content: &Content<'_>) -> u64 {
    match content {
        Content::Inline(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        Content::Blocks { .. } => 0,
        Content::Chunks { chunk_bits, .. } => chunk_count(size, *chunk_bits).saturating_mul(4),
    }
}

/// Splits a path into names; leading `/` and `.` components go, as container tools do.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let bad = |reason| LayerError::Path { path: printable(path), reason };
    if path.is_empty() {
        return Err(bad("it is empty"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(bad("it is longer than 4095 bytes"));
    }
    if path.contains(&0) {
        return Err(bad("it holds a NUL byte"));
    }
    let names: Vec<_> = path.split(|byte| *byte == b'/').filter(|one| !matches!(*one, b"" | b".")).collect();
    if names.iter().any(|name| *name == b"..") {
        return Err(bad("it has a `..` component"));
    }
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(bad("one of its names is longer than 255 bytes"));
    }
    Ok(names)
}

/// Symbolic links can lead deeper than any one path goes.
fn check_depth(path: &[u8], depth: usize) -> Result<(), LayerError> {
    if depth > DEPTH_MAX {
        return Err(LayerError::Path {
            path: printable(path),
            reason: "it lies more than 2048 directories deep",
        });
    }
    Ok(())
}

fn not_directory(path: &[u8]) -> LayerError {
    LayerError::ParentNotDirectory { path: printable(path) }
}
