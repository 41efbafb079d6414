//! Entries of a tar stream, bounded: nothing is unpacked, no header costs more memory than [`Limits`] says.
//!
//! ```text
//!     ┌ header ┐┌ extension headers: L K x g, each with contents ┐┌ header ┐┌ contents, padded to 512 ┐ … two zero records
//! ```
//!
//! The framing is ours, not the tar crate's (whose header layouts we use): its iterator reads extension headers of any
//! size into memory, writes out the holes of sparse files as zeros, and cannot read PAX values with newlines. Where
//! readers of tar disagree we follow Go's `archive/tar`, the one under Docker and containerd: links, devices and
//! directories have no contents whatever their size field says; a PAX size overrides the header's.

use std::io::{self, BufRead, BufReader, Read};

use crate::layer::extended::PaxValues;
use crate::layer::header::{self, Header, RECORD_BYTES, RECORD_LENGTH};
use crate::layer::sparse::{self, MapLines, Segment};
use crate::layer::{Limits, TarError, printable};
use crate::node::{Timestamp, Xattr};

/// Read-ahead in bytes for headers; contents are read around it.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// A tar stream and the place in it.
pub(crate) struct Tar<'a> {
    reader: BufReader<&'a mut dyn Read>,
    /// Bytes of the current entry's contents not read yet.
    remaining: u64,
    /// Padding behind them.
    padding: u64,
    limits: &'a Limits,
}

/// An entry's header with all its extensions applied. Its contents are read next, through [`Tar::read`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Timestamp,
    /// Sorted by name, each name once.
    pub(crate) xattrs: Vec<Xattr<'static>>,
    pub(crate) kind: EntryKind,
}

/// What the type flag says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular {
        size: u64,
    },
    /// The segments ascend and fit: [`sparse::check`] passed.
    Sparse {
        size: u64,
        segments: Vec<Segment>,
    },
    HardLink {
        target: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Character {
        major: u64,
        minor: u64,
    },
    Block {
        major: u64,
        minor: u64,
    },
    Directory,
    Fifo,
}

/// What extension headers said about the entry to come.
#[derive(Debug, Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: PaxValues,
}

impl<'a> Tar<'a> {
    pub(crate) fn new(stream: &'a mut dyn Read, limits: &'a Limits) -> Self {
        Self { reader: BufReader::with_capacity(READ_AHEAD_BYTES, stream), remaining: 0, padding: 0, limits }
    }

    /// Goes to the next entry, past what is left of the current one; `None` at the end of the archive. `previous` is
    /// the path of the last entry, for errors.
    pub(crate) fn next(&mut self, previous: &[u8]) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header(previous)? else { return Ok(None) };
            let size = header.size().ok_or_else(|| field(&header.path(), "size"))?;
            match header.type_flag() {
                b'L' => extensions.long_path = Some(self.long_name(size, previous)?),
                b'K' => extensions.long_link = Some(self.long_name(size, previous)?),
                b'x' => {
                    let bytes = self.extension(size, previous)?;
                    extensions.pax = PaxValues::parse(&bytes)
                        .map_err(|source| TarError::Pax { path: printable(&header.path()), source })?;
                }
                // Global headers: Docker and containerd ignore them too.
                b'g' => {
                    self.extension(size, previous)?;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads contents of the current entry into `buffer`, which must not be empty; 0 at their end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = loop {
            match self.reader.read(buffer) {
                Ok(0) => return Err(TarError::Truncated),
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        };
        self.remaining = self.remaining.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut left = self.remaining.saturating_add(self.padding);
        while left > 0 {
            let available = match self.reader.fill_buf() {
                Ok([]) => return Err(TarError::Truncated),
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::Read { source }),
            };
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
            self.reader.consume(taken);
            left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// One record; `None` if the stream ends before it.
    fn record(&mut self) -> Result<Option<[u8; RECORD_LENGTH]>, TarError> {
        let mut record = [0; RECORD_LENGTH];
        let mut rest = &mut record[..];
        while !rest.is_empty() {
            let empty = rest.len() == RECORD_LENGTH;
            match self.reader.read(rest) {
                Ok(0) if empty => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        }
        Ok(Some(record))
    }

    fn header(&mut self, previous: &[u8]) -> Result<Option<Header>, TarError> {
        let invalid = || TarError::Header { previous: printable(previous) };
        let Some(record) = self.record()? else { return Ok(None) };
        if record != [0; RECORD_LENGTH] {
            return Header::new(&record).ok_or_else(invalid).map(Some);
        }
        // Two zero records end the archive; so does the end of the stream behind the first.
        match self.record()? {
            None => Ok(None),
            Some(second) if second == [0; RECORD_LENGTH] => Ok(None),
            Some(_) => Err(invalid()),
        }
    }

    fn begin_contents(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % RECORD_BYTES;
    }

    /// All contents of an extension header.
    fn extension(&mut self, size: u64, previous: &[u8]) -> Result<Vec<u8>, TarError> {
        let limit = self.limits.extension_bytes;
        let Some(length) = usize::try_from(size).ok().filter(|_| size <= limit) else {
            return Err(TarError::Extension { previous: printable(previous), bytes: size, limit });
        };
        self.begin_contents(size);
        let mut bytes = vec![0; length];
        let mut filled = 0usize;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled = filled.saturating_add(self.read(rest)?);
        }
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64, previous: &[u8]) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size, previous)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, TarError> {
        let Extensions { long_path, long_link, pax } = extensions;
        let path = pax.path.clone().or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link.clone().or(long_link).unwrap_or_else(|| header.link());
        let path = pax.sparse_name.clone().unwrap_or(path);
        let bad = |name| field(&path, name);
        let size = pax.size.unwrap_or(size);
        let kind = match header.type_flag() {
            0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => self.regular(&path, size, &pax)?,
            b'S' => self.gnu_sparse(header, &path, size)?,
            b'1' => EntryKind::HardLink { target: link },
            b'2' => EntryKind::Symlink { target: link },
            flag @ (b'3' | b'4') => {
                let (major, minor) = header.device().ok_or_else(|| bad("device number"))?;
                if flag == b'3' {
                    EntryKind::Character { major, minor }
                } else {
                    EntryKind::Block { major, minor }
                }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            flag => {
                let type_flag = [flag].escape_ascii().to_string();
                return Err(TarError::Type { path: printable(&path), type_flag });
            }
        };
        Ok(Entry {
            mode: header.mode().ok_or_else(|| bad("mode"))?,
            uid: header::identity(pax.uid.or_else(|| header.uid()).ok_or_else(|| bad("user id"))?, &path)?,
            gid: header::identity(pax.gid.or_else(|| header.gid()).ok_or_else(|| bad("group id"))?, &path)?,
            modified: pax.modified.or_else(|| header.modified()).ok_or_else(|| bad("modification time"))?,
            xattrs: pax.xattrs,
            path,
            kind,
        })
    }

    /// A regular file, which PAX records may make a sparse one.
    fn regular(&mut self, path: &[u8], size: u64, pax: &PaxValues) -> Result<EntryKind, TarError> {
        let limit = self.limits.sparse_segments;
        let malformed = || TarError::Sparse { path: printable(path), limit };
        self.begin_contents(size);
        let Some(apparent) = pax.sparse_size else { return Ok(EntryKind::Regular { size }) };
        let segments = if pax.sparse_major == Some(1) {
            let mut lines = MapLines::default();
            let mut record = [0; RECORD_LENGTH];
            loop {
                let mut filled = 0;
                while let Some(rest) = record.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    match self.read(rest)? {
                        0 => return Err(malformed()),
                        count => filled = filled.saturating_add(count),
                    }
                }
                if lines.push(&record, limit).ok_or_else(malformed)? {
                    break lines.into_segments();
                }
            }
        } else if let Some(map) = &pax.sparse_map {
            sparse::parse_map(map).ok_or_else(malformed)?
        } else {
            pax.sparse_segments.clone()
        };
        self.sparse(segments, apparent).ok_or_else(malformed)
    }

    fn gnu_sparse(&mut self, header: &Header, path: &[u8], size: u64) -> Result<EntryKind, TarError> {
        let limit = self.limits.sparse_segments;
        let malformed = || TarError::Sparse { path: printable(path), limit };
        let (mut segments, apparent, mut continues) = header.gnu_sparse().ok_or_else(malformed)?;
        while continues {
            let record = self.record()?.ok_or(TarError::Truncated)?;
            let (more, again) = header::gnu_sparse_continued(&record).ok_or_else(malformed)?;
            segments.extend(more);
            continues = again;
            if u64::try_from(segments.len()).unwrap_or(u64::MAX) > limit {
                return Err(malformed());
            }
        }
        self.begin_contents(size);
        self.sparse(segments, apparent).ok_or_else(malformed)
    }

    fn sparse(&self, segments: Vec<Segment>, size: u64) -> Option<EntryKind> {
        let few = u64::try_from(segments.len()).is_ok_and(|count| count <= self.limits.sparse_segments);
        let fits = few && sparse::check(&segments, size, self.remaining);
        fits.then_some(EntryKind::Sparse { size, segments })
    }
}

fn field(path: &[u8], field: &'static str) -> TarError {
    TarError::Field { path: printable(path), field }
}
