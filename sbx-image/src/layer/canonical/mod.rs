//! A stored layer as a tar, in the one form that this crate writes.
//!
//! Depth first, names ascending bytewise; of a file with several names the first is the file and the others are links to
//! it; a directory that hides what is below it is followed by its `.wh..wh..opq`, and what is gone is `.wh.NAME` in the
//! place of the name. Files are whole, also where they have holes. Directories that the layer only implies are left out,
//! the root too. Two zero records end it. So equal layers make equal bytes, and reading the tar makes the layer again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::slice;

use tar::EntryType;

use crate::layer::canonical::header::Entry;
use crate::layer::header::{RECORD_BYTES, RECORD_LENGTH};
use crate::layer::stored::{LayerTree, StoredChild, StoredNode};
use crate::node::{Attributes, BLOCK_BYTES, Content, Directory, Kind, Timestamp};

mod header;

/// Marks of the OCI image specification; see [`crate::layer::whiteout`].
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The tar of one layer, read from beginning to end.
#[derive(Debug)]
pub(crate) struct LayerTar<'t> {
    tree: &'t LayerTree<'t>,
    /// The layer's `data`.
    data: &'t File,
    /// Directories on the way to the entry that comes next.
    stack: Vec<Frame<'t>>,
    /// Path of the innermost of them, with a slash at its end unless it is the root.
    path: Vec<u8>,
    /// Where the first name of each file was: its directory, and the name in it. Of directories too, to find the way up.
    names: Vec<Option<(usize, &'t [u8])>>,
    /// Headers, small contents and padding that were not read yet, and how far they were.
    ready: Vec<u8>,
    taken: usize,
    /// What of the current file follows them, the next piece last.
    pieces: Vec<Piece>,
    ended: bool,
}

/// A directory whose entries are being written.
#[derive(Debug)]
struct Frame<'t> {
    directory: usize,
    rest: slice::Iter<'t, (&'t [u8], StoredChild)>,
    /// Length of the path before this directory's name.
    path_length: usize,
}

/// A part of a file's contents.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// So many bytes of `data`, from there on.
    Data { offset: u64, length: u64 },
    /// So many zeros.
    Zeros { length: u64 },
}

impl<'t> LayerTar<'t> {
    pub(crate) fn new(tree: &'t LayerTree<'t>, data: &'t File) -> Self {
        let root =
            tree.nodes.first().map(|root| Frame { directory: 0, rest: root.children.iter(), path_length: 0 });
        Self {
            tree,
            data,
            stack: root.into_iter().collect(),
            path: Vec::new(),
            names: vec![None; tree.nodes.len()],
            ready: Vec::new(),
            taken: 0,
            pieces: Vec::new(),
            ended: false,
        }
    }

    /// Makes the next entry ready, or the end of the archive.
    fn advance(&mut self) {
        self.ready.clear();
        self.taken = 0;
        let Some(frame) = self.stack.last_mut() else {
            self.ready.resize(RECORD_LENGTH.saturating_mul(2), 0);
            self.ended = true;
            return;
        };
        let Some((name, child)) = frame.rest.next() else {
            self.path.truncate(frame.path_length);
            self.stack.pop();
            return;
        };
        let directory = frame.directory;
        match *child {
            StoredChild::Whiteout => self.mark(&[WHITEOUT, name].concat()),
            StoredChild::Node(number) => {
                let Some(stored) = self.tree.nodes.get(number) else { return };
                if stored.node.is_directory() {
                    self.set_name(number, directory, name);
                    self.directory(number, name, stored);
                } else if self.names.get(number).copied().flatten().is_some() {
                    self.link(number, name, stored);
                } else {
                    self.set_name(number, directory, name);
                    self.file(name, stored);
                }
            }
        }
    }

    fn set_name(&mut self, number: usize, directory: usize, name: &'t [u8]) {
        if let Some(slot) = self.names.get_mut(number) {
            *slot = Some((directory, name));
        }
    }

    fn directory(&mut self, number: usize, name: &[u8], stored: &'t StoredNode<'t>) {
        let path_length = self.path.len();
        self.path.extend_from_slice(name);
        self.path.push(b'/');
        let Kind::Directory(Directory { opaque, implicit }) = stored.node.kind else { return };
        if !implicit {
            let entry = Entry {
                kind: EntryType::Directory,
                path: &self.path,
                link: b"",
                size: 0,
                attributes: &stored.node.attributes,
                device: None,
            };
            entry.write(&mut self.ready);
        }
        if opaque {
            self.mark(OPAQUE);
        }
        self.stack.push(Frame { directory: number, rest: stored.children.iter(), path_length });
    }

    /// An empty file whose name says that something is gone.
    fn mark(&mut self, name: &[u8]) {
        let attributes =
            Attributes { mode: 0, uid: 0, gid: 0, modified: Timestamp::default(), xattrs: Vec::new() };
        let path = [&self.path, name].concat();
        let entry = Entry {
            kind: EntryType::Regular,
            path: &path,
            link: b"",
            size: 0,
            attributes: &attributes,
            device: None,
        };
        entry.write(&mut self.ready);
    }

    /// One more name of a file that was written.
    fn link(&mut self, number: usize, name: &[u8], stored: &StoredNode<'_>) {
        // A link says nothing of the file but its name; what a header must have is the file's.
        let attributes = Attributes { xattrs: Vec::new(), ..stored.node.attributes.clone() };
        let path = [&self.path, name].concat();
        let target = self.path_of(number);
        let entry = Entry {
            kind: EntryType::Link,
            path: &path,
            link: &target,
            size: 0,
            attributes: &attributes,
            device: None,
        };
        entry.write(&mut self.ready);
    }

    fn file(&mut self, name: &[u8], stored: &'t StoredNode<'t>) {
        let path = [&self.path, name].concat();
        let mut entry = Entry {
            kind: EntryType::Regular,
            path: &path,
            link: b"",
            size: 0,
            attributes: &stored.node.attributes,
            device: None,
        };
        match &stored.node.kind {
            Kind::Directory(_) => {}
            Kind::Regular { size, content } => {
                entry.size = *size;
                entry.write(&mut self.ready);
                self.content(*size, content);
                return;
            }
            Kind::Symlink { target } => (entry.kind, entry.link) = (EntryType::Symlink, target),
            Kind::Character(device) => (entry.kind, entry.device) = (EntryType::Char, Some(*device)),
            Kind::Block(device) => (entry.kind, entry.device) = (EntryType::Block, Some(*device)),
            Kind::Fifo => entry.kind = EntryType::Fifo,
        }
        entry.write(&mut self.ready);
    }

    /// Lines up the contents of a file, with the padding behind them.
    fn content(&mut self, size: u64, content: &Content<'_>) {
        let start = |block: u32| u64::from(block).saturating_mul(BLOCK_BYTES);
        match content {
            Content::Inline(bytes) => {
                self.ready.extend_from_slice(bytes);
                self.ready.resize(self.ready.len().next_multiple_of(RECORD_LENGTH), 0);
                return;
            }
            Content::Blocks { first_block } => {
                self.pieces.push(Piece::Data { offset: start(*first_block), length: size });
            }
            Content::Chunks { chunk_bits, runs } => {
                let chunk = BLOCK_BYTES.checked_shl(u32::from(*chunk_bits)).unwrap_or(u64::MAX);
                let mut position = 0u64;
                for run in runs {
                    let first = u64::from(run.first_chunk).saturating_mul(chunk).min(size);
                    let end = u64::from(run.first_chunk)
                        .saturating_add(u64::from(run.chunks))
                        .saturating_mul(chunk)
                        .min(size);
                    self.pieces.push(Piece::Zeros { length: first.saturating_sub(position) });
                    let length = end.saturating_sub(first);
                    self.pieces.push(Piece::Data { offset: start(run.first_block), length });
                    position = end;
                }
                self.pieces.push(Piece::Zeros { length: size.saturating_sub(position) });
            }
        }
        self.pieces.push(Piece::Zeros { length: size.wrapping_neg() % RECORD_BYTES });
        self.pieces.reverse();
    }

    /// Path of a file's first name.
    fn path_of(&self, number: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut current = number;
        while let Some((directory, name)) = self.names.get(current).copied().flatten() {
            names.push(name);
            current = directory;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Reads from the current file's next piece.
    fn read_piece(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.last_mut() else { return Ok(0) };
        let (Piece::Data { length: left, .. } | Piece::Zeros { length: left }) = *piece;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match piece {
            Piece::Zeros { length } => {
                buffer.fill(0);
                *length = length.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
                most
            }
            Piece::Data { offset, length } => {
                let count = self.data.read_at(buffer, *offset)?;
                if count == 0 && most > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let moved = u64::try_from(count).unwrap_or(u64::MAX);
                *offset = offset.saturating_add(moved);
                *length = length.saturating_sub(moved);
                count
            }
        };
        if matches!(piece, Piece::Data { length: 0, .. } | Piece::Zeros { length: 0 }) {
            self.pieces.pop();
        }
        Ok(count)
    }
}

impl Read for LayerTar<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(rest) = self.ready.get(self.taken..).filter(|rest| !rest.is_empty()) {
                let count = rest.len().min(buffer.len());
                for (slot, byte) in buffer.iter_mut().zip(rest) {
                    *slot = *byte;
                }
                self.taken = self.taken.saturating_add(count);
                return Ok(count);
            }
            if !self.pieces.is_empty() {
                match self.read_piece(buffer)? {
                    0 => continue,
                    count => return Ok(count),
                }
            }
            if self.ended {
                return Ok(0);
            }
            self.advance();
        }
    }
}
