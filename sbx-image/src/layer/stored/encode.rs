//! Writing of `tree`.

use std::collections::{HashMap, btree_map};

use zerocopy::IntoBytes as _;
use zerocopy::little_endian::U64;

use super::{
    AttributesRecord, FLAG_IMPLICIT, FLAG_OPAQUE, MAGIC, RangeRecord, RunRecord, TAG_BLOCK, TAG_CHARACTER,
    TAG_DIRECTORY, TAG_END, TAG_FIFO, TAG_FILE, TAG_HARD_LINK, TAG_SMALL, TAG_SPARSE, TAG_SYMLINK,
    TAG_WHITEOUT, TreeHeader, VERSION,
};
use crate::layer::data::Written;
use crate::layer::staging::{NodeId, ROOT, StagedChild, StagedNode, Staging};
use crate::node::{Attributes, Content, Device, Kind};

/// Entries of one directory that are still to be written.
type Rest<'a> = btree_map::Iter<'a, Box<[u8]>, StagedChild>;

/// The bytes of the `tree` file.
pub(crate) fn encode(staging: &Staging<'_>, written: &Written) -> Vec<u8> {
    let mut encoder = Encoder { bytes: Vec::new(), numbers: HashMap::new(), nodes: 0 };
    for range in &written.ranges {
        let record = RangeRecord { first_block: range.first_block.into(), blocks: range.blocks.into() };
        encoder.bytes.extend_from_slice(record.as_bytes());
    }
    encoder.records(staging);
    let mut header = TreeHeader {
        magic: MAGIC,
        version: VERSION.into(),
        ranges: u32::try_from(written.ranges.len()).unwrap_or(u32::MAX).into(),
        nodes: encoder.nodes.into(),
        data_bytes: written.length.into(),
        data_digest: written.digest,
        tree_digest: [0; 32],
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(header.as_bytes()).update(&encoder.bytes);
    header.tree_digest = *hasher.finalize().as_bytes();
    [header.as_bytes(), &encoder.bytes].concat()
}

struct Encoder {
    bytes: Vec<u8>,
    /// Numbers of the records of files that may have more names.
    numbers: HashMap<NodeId, u64>,
    nodes: u64,
}

impl Encoder {
    /// All records, depth first, without recursion: a path may have 2048 components.
    fn records(&mut self, staging: &Staging<'_>) {
        let Some(root) = staging.get(ROOT) else { return };
        self.node(b"", root, false);
        let mut stack: Vec<Rest<'_>> = vec![root.children.iter()];
        while let Some(rest) = stack.last_mut() {
            let Some((name, child)) = rest.next() else {
                self.bytes.push(TAG_END);
                stack.pop();
                continue;
            };
            let Some((id, staged)) = child.node.and_then(|id| Some((id, staging.get(id)?))) else {
                if child.whiteout {
                    self.name(TAG_WHITEOUT, name);
                }
                continue;
            };
            if staged.node.is_directory() {
                self.node(name, staged, child.whiteout);
                stack.push(staged.children.iter());
            } else if let Some(number) = self.numbers.get(&id).copied() {
                self.name(TAG_HARD_LINK, name);
                self.put(U64::new(number).as_bytes());
            } else {
                self.numbers.insert(id, self.nodes);
                self.node(name, staged, false);
            }
        }
    }

    /// One record; `hides` says that a whiteout of the same name comes with a directory, which makes it a new one.
    fn node(&mut self, name: &[u8], staged: &StagedNode, hides: bool) {
        self.nodes = self.nodes.saturating_add(1);
        let attributes = &staged.node.attributes;
        match &staged.node.kind {
            Kind::Directory(flags) => {
                self.name(TAG_DIRECTORY, name);
                let opaque = if flags.opaque || hides { FLAG_OPAQUE } else { 0 };
                let implicit = if flags.implicit && !hides { FLAG_IMPLICIT } else { 0 };
                self.put(&[opaque | implicit]);
                self.attributes(attributes);
            }
            Kind::Regular { size, content } => self.regular(name, attributes, *size, content),
            Kind::Symlink { target } => {
                self.name(TAG_SYMLINK, name);
                self.attributes(attributes);
                self.text(target);
            }
            Kind::Character(device) => self.device(TAG_CHARACTER, name, attributes, *device),
            Kind::Block(device) => self.device(TAG_BLOCK, name, attributes, *device),
            Kind::Fifo => {
                self.name(TAG_FIFO, name);
                self.attributes(attributes);
            }
        }
    }

    fn regular(&mut self, name: &[u8], attributes: &Attributes<'_>, size: u64, content: &Content<'_>) {
        match content {
            Content::Inline(bytes) => {
                self.name(TAG_SMALL, name);
                self.attributes(attributes);
                self.text(bytes);
            }
            Content::Blocks { first_block } => {
                self.name(TAG_FILE, name);
                self.attributes(attributes);
                self.put(&size.to_le_bytes());
                self.put(&first_block.to_le_bytes());
            }
            Content::Chunks { chunk_bits, runs } => {
                self.name(TAG_SPARSE, name);
                self.attributes(attributes);
                self.put(&size.to_le_bytes());
                self.put(&[*chunk_bits]);
                self.put(&u32::try_from(runs.len()).unwrap_or(u32::MAX).to_le_bytes());
                for run in runs {
                    let record = RunRecord {
                        first_chunk: run.first_chunk.into(),
                        chunks: run.chunks.into(),
                        first_block: run.first_block.into(),
                    };
                    self.put(record.as_bytes());
                }
            }
        }
    }

    fn device(&mut self, tag: u8, name: &[u8], attributes: &Attributes<'_>, device: Device) {
        self.name(tag, name);
        self.attributes(attributes);
        self.put(&device.major.to_le_bytes());
        self.put(&device.minor.to_le_bytes());
    }

    fn attributes(&mut self, attributes: &Attributes<'_>) {
        let record = AttributesRecord {
            mode: attributes.mode.into(),
            uid: attributes.uid.into(),
            gid: attributes.gid.into(),
            seconds: attributes.modified.seconds.into(),
            nanoseconds: attributes.modified.nanoseconds.into(),
            xattrs: short(attributes.xattrs.len()).into(),
        };
        self.put(record.as_bytes());
        for xattr in &attributes.xattrs {
            self.put(&[byte(xattr.name.len())]);
            self.put(&short(xattr.value.len()).to_le_bytes());
            self.put(&xattr.name);
            self.put(&xattr.value);
        }
    }

    fn name(&mut self, tag: u8, name: &[u8]) {
        self.put(&[tag, byte(name.len())]);
        self.put(name);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.put(&short(bytes.len()).to_le_bytes());
        self.put(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Lengths were checked when the entry was taken: names up to 255, values up to 65535, attributes up to 128 KiB a file.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

/// See [`byte`].
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
