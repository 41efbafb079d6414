//! Files by name, in a directory or in a tar file, without ever unpacking one.
//!
//! A tar is read once to note where each of its members begins; members are then read in place. Links inside of the
//! tar (old `docker save` uses them for layers that occur twice) lead to other members and nowhere else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::pull::decompress;

/// Most members that an archive of images may have: a few for each of at most 512 layers of many images.
const MAX_MEMBERS: usize = 200_000;

/// Links that are followed for one name.
const MAX_LINKS: usize = 8;

/// Named files.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// In a directory.
    Directory(PathBuf),
    /// In a tar.
    Tar(Arc<TarFiles>),
}

/// The members of a tar file.
#[derive(Debug)]
pub(crate) struct TarFiles {
    path: PathBuf,
    tar: File,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone)]
enum Member {
    Data { offset: u64, length: u64 },
    Link(String),
}

/// Why a file in a layout or archive cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// There is none of this name.
    #[error("{} has no {name}", container.display())]
    Missing {
        /// The directory or archive.
        container: PathBuf,
        /// The name.
        name: String,
    },
    /// It is longer than such a file can be.
    #[error("{name} in {} is {bytes} bytes long; at most {limit} are allowed", container.display())]
    TooLarge {
        /// The directory or archive.
        container: PathBuf,
        /// The name.
        name: String,
        /// Its length.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// A link in the archive leads out of it or in circles.
    #[error("{name} in {} is a link that leads nowhere", container.display())]
    Link {
        /// The archive.
        container: PathBuf,
        /// The name.
        name: String,
    },
    /// The archive has too many members.
    #[error("{} has more than {MAX_MEMBERS} members; it cannot be an archive of images", container.display())]
    TooManyMembers {
        /// The archive.
        container: PathBuf,
    },
    /// The file is not a tar.
    #[error("cannot read {} as a tar archive", container.display())]
    NotATar {
        /// The archive.
        container: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Files {
    /// The directory or archive, for errors.
    pub(crate) fn container(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Tar(tar) => &tar.path,
        }
    }

    /// Opens a file; also tells its length.
    pub(crate) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64), FilesError> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                let failed = |source: io::Error| match source.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        FilesError::Missing { container: directory.clone(), name: name.to_owned() }
                    }
                    _ => FilesError::Io { path: path.clone(), source },
                };
                // A pipe or device would block or never end.
                let metadata = fs::metadata(&path).map_err(failed)?;
                if !metadata.is_file() {
                    return Err(FilesError::Missing { container: directory.clone(), name: name.to_owned() });
                }
                Ok((Box::new(File::open(&path).map_err(failed)?), metadata.len()))
            }
            Self::Tar(tar) => {
                let (offset, length) = tar.find(name)?;
                Ok((Box::new(MemberReader { tar: Arc::clone(tar), offset, left: length }), length))
            }
        }
    }

    /// Reads a small file completely.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, FilesError> {
        let (reader, bytes) = self.open(name)?;
        if bytes > limit {
            let container = self.container().to_owned();
            return Err(FilesError::TooLarge { container, name: name.to_owned(), bytes, limit });
        }
        let mut content = Vec::new();
        reader
            .take(limit)
            .read_to_end(&mut content)
            .map_err(|source| FilesError::Io { path: self.container().join(name), source })?;
        Ok(content)
    }
}

impl TarFiles {
    /// Opens a tar, compressed or not. A compressed one is first uncompressed into a file without a name in `spool`,
    /// of at most `limit` bytes, because members cannot be read from the middle of it.
    pub(crate) fn open(path: &Path, spool: &Path, limit: u64) -> Result<Self, FilesError> {
        let io_failed = |source| FilesError::Io { path: path.to_owned(), source };
        let not_a_tar = |source| FilesError::NotATar { container: path.to_owned(), source };
        if !fs::metadata(path).map_err(io_failed)?.is_file() {
            return Err(not_a_tar(io::Error::other("it is not a regular file")));
        }
        let mut tar = File::open(path).map_err(io_failed)?;
        let mut magic = [0; 4];
        let count = tar.read_at(&mut magic, 0).map_err(io_failed)?;
        let format = decompress::Format::sniff(magic.get(..count).unwrap_or_default());
        if format != decompress::Format::Plain {
            tar = uncompressed(&tar, format, path, spool, limit)?;
        }
        let members = index(&mut tar, path)?;
        Ok(Self { path: path.to_owned(), tar, members })
    }

    fn find(&self, name: &str) -> Result<(u64, u64), FilesError> {
        let mut current = normalize(name).unwrap_or_default();
        for _ in 0..MAX_LINKS {
            match self.members.get(&current) {
                Some(Member::Data { offset, length }) => return Ok((*offset, *length)),
                Some(Member::Link(target)) => current.clone_from(target),
                None if current == name => {
                    return Err(FilesError::Missing { container: self.path.clone(), name: name.to_owned() });
                }
                None => break,
            }
        }
        Err(FilesError::Link { container: self.path.clone(), name: name.to_owned() })
    }
}

/// Uncompresses an archive into a file without a name in `spool`.
fn uncompressed(
    tar: &File,
    format: decompress::Format,
    path: &Path,
    spool: &Path,
    limit: u64,
) -> Result<File, FilesError> {
    let mut spooled =
        tempfile::tempfile_in(spool).map_err(|source| FilesError::Io { path: spool.to_owned(), source })?;
    let not_a_tar = |source| FilesError::NotATar { container: path.to_owned(), source };
    let input = BufReader::with_capacity(256 * 1024, tar);
    let mut output = decompress::decoder(format, input).map_err(not_a_tar)?.take(limit.saturating_add(1));
    let bytes = io::copy(&mut output, &mut spooled).map_err(not_a_tar)?;
    if bytes > limit {
        let (container, name) = (path.to_owned(), "the uncompressed archive".to_owned());
        return Err(FilesError::TooLarge { container, name, bytes, limit });
    }
    Ok(spooled)
}

/// Notes where each member is. The last one of a name counts, as it would when unpacked.
fn index(tar: &mut File, path: &Path) -> Result<BTreeMap<String, Member>, FilesError> {
    let not_a_tar = |source| FilesError::NotATar { container: path.to_owned(), source };
    tar.seek(SeekFrom::Start(0)).map_err(not_a_tar)?;
    let end = tar.metadata().map_err(not_a_tar)?.len();
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(&*tar);
    for entry in archive.entries_with_seek().map_err(not_a_tar)? {
        let entry = entry.map_err(not_a_tar)?;
        let Some(name) = std::str::from_utf8(&entry.path_bytes()).ok().and_then(normalize) else { continue };
        let kind = entry.header().entry_type();
        let link = entry.link_name_bytes().and_then(|link| String::from_utf8(link.into_owned()).ok());
        let member = match (kind, link) {
            (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                let (offset, length) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(length).is_none_or(|last| last > end) {
                    return Err(not_a_tar(io::ErrorKind::UnexpectedEof.into()));
                }
                Some(Member::Data { offset, length })
            }
            (tar::EntryType::Symlink, Some(link)) => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                normalize(&format!("{parent}/{link}")).map(Member::Link)
            }
            (tar::EntryType::Link, Some(link)) => normalize(&link).map(Member::Link),
            _ => None,
        };
        if let Some(member) = member {
            members.insert(name, member);
        }
        if members.len() > MAX_MEMBERS {
            return Err(FilesError::TooManyMembers { container: path.to_owned() });
        }
    }
    Ok(members)
}

/// A path without `.` and `..`; `None` when it leads above its root.
fn normalize(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Reads one member, independently of other readers.
struct MemberReader {
    tar: Arc<TarFiles>,
    offset: u64,
    left: u64,
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.tar.tar.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.offset)?;
        let advanced = u64::try_from(count).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(advanced);
        self.left = self.left.saturating_sub(advanced);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(if is_link { 0 } else { content.len() as u64 });
            header.set_cksum();
            builder.append(&header, if is_link { &b""[..] } else { content.as_bytes() }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn opened(bytes: &[u8]) -> Result<Files, FilesError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        fs::write(&path, bytes).unwrap();
        TarFiles::open(&path, directory.path(), 1 << 20).map(|tar| Files::Tar(Arc::new(tar)))
    }

    #[test]
    fn members_and_links_are_read_in_place() {
        use tar::EntryType::{Link, Regular, Symlink};
        let bytes = archive(&[
            ("./a/layer.tar", Regular, "one"),
            ("b/layer.tar", Symlink, "../a/layer.tar"),
            ("c", Link, "b/layer.tar"),
            ("out", Symlink, "../../etc/passwd"),
            ("absolute", Symlink, "/etc/passwd"),
            ("circle", Symlink, "circle"),
            ("twice", Regular, "old"),
            ("twice", Regular, "new"),
        ]);
        let files = opened(&bytes).unwrap();
        for name in ["a/layer.tar", "b/layer.tar", "c"] {
            assert_eq!(files.read(name, 10).unwrap(), b"one", "{name}");
        }
        assert_eq!(files.read("twice", 10).unwrap(), b"new");
        assert!(files.read("a/layer.tar", 2).unwrap_err().to_string().contains("3 bytes long"));
        for name in ["out", "absolute", "circle", "../a/layer.tar", "missing"] {
            assert!(files.read(name, 10).is_err(), "{name}");
        }
    }

    #[test]
    fn compressed_archives_are_uncompressed_within_the_limit() {
        let bytes = archive(&[("a", tar::EntryType::Regular, "one")]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        assert_eq!(opened(&encoder.finish().unwrap()).unwrap().read("a", 10).unwrap(), b"one");
        let zeros = vec![0; 2 << 20];
        let bomb = zstd::encode_all(zeros.as_slice(), 1).unwrap();
        assert!(matches!(opened(&bomb), Err(FilesError::TooLarge { .. })));
    }

    #[test]
    fn a_truncated_archive_is_refused() {
        let mut bytes = archive(&[("a", tar::EntryType::Regular, &"x".repeat(2000))]);
        bytes.truncate(1024);
        assert!(matches!(opened(&bytes), Err(FilesError::NotATar { .. })));
    }
}
