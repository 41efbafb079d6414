//! The files of a tree as text, one record for each: `100644 <blake3>\t<path>\0`, like `git ls-tree -z`.
//!
//! A path is any bytes but NUL, so the records end with one. The modes are git's.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::workspace::{git::index::is_inside, tree::Kind};

/// What a file is, as far as git would remember.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum FileMode {
    /// A file.
    Plain,
    /// A file that can be executed.
    Program,
    /// A symbolic link; its contents are where it leads.
    Link,
}

impl FileMode {
    const ALL: [Self; 3] = [Self::Plain, Self::Program, Self::Link];

    /// As git writes it.
    pub(crate) fn octal(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Program => "100755",
            Self::Link => "120000",
        }
    }

    /// Of what is in a tree; nothing for what is no file.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::File { executable: true } => Some(Self::Program),
            Kind::File { executable: false } => Some(Self::Plain),
            Kind::Link => Some(Self::Link),
            Kind::Directory | Kind::Other => None,
        }
    }
}

/// A file: what it is and the hash of what it contains.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Entry {
    /// What it is.
    pub(crate) mode: FileMode,
    /// BLAKE3 of its contents, under which they are kept.
    pub(crate) hash: blake3::Hash,
}

impl std::hash::Hash for FileMode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.octal().hash(state);
    }
}

/// The files of a tree.
pub(crate) type Manifest = BTreeMap<PathBuf, Entry>;

/// The text of a manifest.
pub(crate) fn write(manifest: &Manifest) -> Vec<u8> {
    let mut text = Vec::new();
    for (path, entry) in manifest {
        push(&mut text, Some(*entry));
        text.push(b'\t');
        text.extend_from_slice(path.as_os_str().as_bytes());
        text.push(0);
    }
    text
}

/// The manifest in `text`; nothing if it is not one.
pub(crate) fn read(text: &[u8]) -> Option<Manifest> {
    records(text)
        .map(|record| {
            let (entry, path) = split(record, b'\t')?;
            Some((path_of(path)?, parse(entry)??))
        })
        .collect()
}

/// Writes `<mode> <hash>`, zeros and a hyphen for no file.
pub(crate) fn push(text: &mut Vec<u8>, entry: Option<Entry>) {
    let field = match entry {
        Some(entry) => format!("{} {}", entry.mode.octal(), entry.hash.to_hex()),
        None => "000000 -".to_owned(),
    };
    text.extend_from_slice(field.as_bytes());
}

/// Reads what [`push`] wrote; nothing if it is not that.
#[expect(clippy::option_option, reason = "the outer one is the fault, the inner one the absent file")]
pub(crate) fn parse(field: &[u8]) -> Option<Option<Entry>> {
    if field == b"000000 -" {
        return Some(None);
    }
    let (mode, hash) = split(field, b' ')?;
    let mode = FileMode::ALL.into_iter().find(|known| known.octal().as_bytes() == mode)?;
    Some(Some(Entry { mode, hash: blake3::Hash::from_hex(hash).ok()? }))
}

/// The records that a NUL ends.
pub(crate) fn records(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == 0).map(|record| record.strip_suffix(b"\0").unwrap_or(record))
}

/// What is before and behind the first `separator`.
pub(crate) fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}

/// A path that stays in the tree.
pub(crate) fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    is_inside(path).then(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_comes_back() {
        let manifest: Manifest = [&b"a"[..], b"new\nline", b"tab\there", b"caf\xe9", b"d/e"]
            .into_iter()
            .zip(FileMode::ALL.into_iter().cycle())
            .map(|(name, mode)| (path_of(name).unwrap(), Entry { mode, hash: blake3::hash(name) }))
            .collect();
        assert_eq!(read(&write(&manifest)), Some(manifest));
        assert_eq!(read(b""), Some(Manifest::new()));
    }

    #[test]
    fn what_leads_out_or_is_cut_is_no_manifest() {
        let hash = blake3::hash(b"").to_hex();
        for text in [
            format!("100644 {hash}\t../x\0"),
            format!("100644 {hash}\t.git/config\0"),
            format!("100600 {hash}\tx\0"),
            format!("100644 {}\tx\0", &hash[1..]),
            "000000 -\tx\0".to_owned(),
            "x".to_owned(),
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
