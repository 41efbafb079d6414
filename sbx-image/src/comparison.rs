//! Where two stored layers differ: for whoever made the same layer twice and did not get the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::layer::stored::{self, StoredChild, StoredNode};
use crate::layer::{DATA_FILE, StoredError, TREE_FILE};
use crate::node::{BLOCK_BYTES, Content, Kind};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A name that is not the same in two layers. Displays as `/etc/passwd: other contents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name, with bytes that are no ASCII escaped.
    pub path: String,
    /// What is not the same.
    pub what: What,
}

/// What is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Only the first layer has it.
    OnlyInFirst,
    /// Only the second layer has it.
    OnlyInSecond,
    /// The contents, and how it is in the first and in the second layer otherwise, if that differs as well.
    Contents(Option<(String, String)>),
    /// Kind, permissions, owner, time or extended attributes: how it is in the first and in the second layer.
    Attributes(String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.path)?;
        match &self.what {
            What::OnlyInFirst => formatter.write_str("only in the first"),
            What::OnlyInSecond => formatter.write_str("only in the second"),
            What::Contents(None) => formatter.write_str("other contents"),
            What::Contents(Some((first, second))) => {
                write!(formatter, "other contents, and {first} became {second}")
            }
            What::Attributes(first, second) => write!(formatter, "{first} became {second}"),
        }
    }
}

/// Everything that differs between the layers in two directories, in the order of the names.
///
/// # Errors
/// When one of them is missing or damaged.
pub fn layers(first: &Path, second: &Path) -> Result<Vec<Difference>, StoredError> {
    let (mut ours, mut theirs) = (entries(first)?, entries(second)?);
    let mut differences = Vec::new();
    for (path, entry) in &mut ours {
        let what = match theirs.remove(path) {
            None => What::OnlyInFirst,
            Some(other) if other == *entry => continue,
            Some(other) => {
                let attributes = (entry.attributes != other.attributes)
                    .then(|| (std::mem::take(&mut entry.attributes), other.attributes));
                match (entry.content == other.content, attributes) {
                    (true, Some((first, second))) => What::Attributes(first, second),
                    (_, attributes) => What::Contents(attributes),
                }
            }
        };
        differences.push(Difference { path: path.clone(), what });
    }
    differences.extend(theirs.into_keys().map(|path| Difference { path, what: What::OnlyInSecond }));
    differences.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(differences)
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// All but the contents, in readable form.
    attributes: String,
    /// BLAKE3 of the contents of a file.
    content: Option<blake3::Hash>,
}

fn entries(dir: &Path) -> Result<BTreeMap<String, Entry>, StoredError> {
    let bytes = stored::read(dir)?;
    let tree = stored::decode(&bytes, &dir.join(TREE_FILE))?;
    let path = dir.join(DATA_FILE);
    let data = match File::open(&path) {
        Ok(file) => Some(file),
        // A layer of small files may have none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(StoredError::Read { path, source }),
    };
    let data = Data { file: data, path };
    let mut entries = BTreeMap::new();
    // Hard links are names like others: which of them comes first is no difference.
    let mut pending = vec![(String::from("/"), StoredChild::Node(0))];
    while let Some((path, child)) = pending.pop() {
        let entry = match child {
            StoredChild::Whiteout => Entry { attributes: "a whiteout".to_owned(), content: None },
            StoredChild::Node(number) => {
                let Some(node) = tree.nodes.get(number) else { continue };
                let directory = path.trim_end_matches('/');
                let child = |(name, child): &(&[u8], StoredChild)| {
                    (format!("{directory}/{}", name.escape_ascii()), *child)
                };
                pending.extend(node.children.iter().map(child));
                Entry { attributes: attributes(node), content: data.hash(node)? }
            }
        };
        entries.insert(path, entry);
    }
    Ok(entries)
}

/// All but the contents, as `- 0644 0:0 @1700000000`.
fn attributes(stored: &StoredNode<'_>) -> String {
    let node = &stored.node;
    let (letter, detail) = match &node.kind {
        Kind::Directory(flags) if flags.opaque => ('d', " opaque".to_owned()),
        Kind::Directory(flags) if flags.implicit => ('d', " implicit".to_owned()),
        Kind::Directory(_) => ('d', String::new()),
        Kind::Regular { size, .. } => ('-', format!(" {size} bytes")),
        Kind::Symlink { target } => ('l', format!(" -> {}", target.escape_ascii())),
        Kind::Character(device) => ('c', format!(" {}:{}", device.major, device.minor)),
        Kind::Block(device) => ('b', format!(" {}:{}", device.major, device.minor)),
        Kind::Fifo => ('p', String::new()),
    };
    let own = &node.attributes;
    let mut text = format!("{letter} {:04o} {}:{} @{}", own.mode, own.uid, own.gid, own.modified.seconds);
    if own.modified.nanoseconds != 0 {
        text.push_str(&format!("+{}ns", own.modified.nanoseconds));
    }
    text.push_str(&detail);
    for xattr in &own.xattrs {
        text.push_str(&format!(" {}=\"{}\"", xattr.name.escape_ascii(), xattr.value.escape_ascii()));
    }
    text
}

/// The `data` of a layer.
struct Data {
    file: Option<File>,
    path: PathBuf,
}

impl Data {
    /// Hash of the contents of a file; none for others.
    fn hash(&self, stored: &StoredNode<'_>) -> Result<Option<blake3::Hash>, StoredError> {
        let Kind::Regular { size, content } = &stored.node.kind else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        match content {
            Content::Inline(bytes) => {
                hasher.update(bytes);
            }
            Content::Blocks { first_block } => self.read(&mut hasher, *first_block, *size)?,
            Content::Chunks { chunk_bits, runs } => {
                let chunk_bytes = BLOCK_BYTES.checked_shl(u32::from(*chunk_bits)).unwrap_or(u64::MAX);
                for run in runs {
                    // Where the run is in the file counts like what is in it; what is between runs is a hole.
                    let start = u64::from(run.first_chunk).saturating_mul(chunk_bytes);
                    let bytes = u64::from(run.chunks).saturating_mul(chunk_bytes);
                    hasher.update(&start.to_le_bytes());
                    self.read(&mut hasher, run.first_block, bytes.min(size.saturating_sub(start)))?;
                }
            }
        }
        Ok(Some(hasher.finalize()))
    }

    fn read(&self, hasher: &mut blake3::Hasher, first_block: u32, bytes: u64) -> Result<(), StoredError> {
        let failed = |source| StoredError::Read { path: self.path.clone(), source };
        let file = self.file.as_ref().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut offset = u64::from(first_block).saturating_mul(BLOCK_BYTES);
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let Some(piece) = buffer.get_mut(..length) else { break };
            file.read_exact_at(piece, offset).map_err(failed)?;
            hasher.update(piece);
            offset = offset.saturating_add(length as u64);
            left = left.saturating_sub(length as u64);
        }
        Ok(())
    }
}
