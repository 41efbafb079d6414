//! A repository of the copy's own: the history of the original, and nothing of it that runs.
//!
//! Objects, references and the index are copied; the configuration is written anew from a few harmless settings of the
//! original's, and there are no hooks. What the copy's git then does is the guest's affair, and sbx never runs git in it.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::workspace::{
    git::Directories,
    tree::{self, Kind, Tree, TreeError},
};

/// What belongs to one working tree.
const OWN: [&str; 9] = [
    "HEAD",
    "ORIG_HEAD",
    "MERGE_HEAD",
    "MERGE_MSG",
    "MERGE_MODE",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "index",
    "info/sparse-checkout",
];
/// What working trees share.
const COMMON: [&str; 4] = ["packed-refs", "shallow", "description", "info/exclude"];
/// And directories of it.
const COMMON_DIRECTORIES: [&str; 3] = ["refs", "reftable", "objects"];

/// Entries of one directory of a repository.
const MAX_ENTRIES: usize = 1_000_000;

const FILE_MODE: u32 = 0o666;
/// Objects are never changed.
const OBJECT_MODE: u32 = 0o444;

/// Whether the repository borrows objects from another one, by a path that it names. That could be anybody's repository, so it is
/// not followed, and without these objects there is no history to copy.
pub(crate) fn borrows(directories: &Directories) -> bool {
    directories.common.join("objects/info/alternates").exists()
}

/// Makes `.git` in `into` from `from`.
///
/// # Errors
/// If something cannot be read or written.
pub(crate) fn copy(from: &Directories, into: &Tree) -> Result<(), TreeError> {
    let (own, common) = (Tree::open(&from.own)?, Tree::open(&from.common)?);
    let git = Path::new(".git");
    for directory in ["info", "refs", "objects"] {
        into.make_directories(&git.join(directory))?;
    }
    // References before objects: what they name at this moment is there, and stays.
    for name in OWN {
        copy_file(&own, Path::new(name), into, FILE_MODE)?;
    }
    for (name, kind) in own.entries(Path::new(""), MAX_ENTRIES)? {
        if name.as_bytes().starts_with(b"sharedindex.") && matches!(kind, Kind::File { .. }) {
            copy_file(&own, Path::new(&name), into, FILE_MODE)?;
        }
    }
    for name in COMMON {
        copy_file(&common, Path::new(name), into, FILE_MODE)?;
    }
    for name in COMMON_DIRECTORIES {
        copy_directory(&common, Path::new(name), into)?;
    }
    let config = from.config()?.for_copy();
    let mut file = into.new_file(&git.join("config"), FILE_MODE)?;
    file.write_all(config.as_bytes()).map_err(|source| TreeError::Io {
        action: "write",
        path: into.path().join(".git/config"),
        source,
    })
}

fn copy_directory(from: &Tree, directory: &Path, into: &Tree) -> Result<(), TreeError> {
    if from.kind(directory)? != Some(Kind::Directory) {
        return Ok(());
    }
    into.make_directories(&Path::new(".git").join(directory))?;
    for (name, kind) in from.entries(directory, MAX_ENTRIES)? {
        let path = directory.join(&name);
        match kind {
            Kind::Directory => copy_directory(from, &path, into)?,
            Kind::File { .. } if is_wanted(&name) => {
                let mode = if path.starts_with("objects") { OBJECT_MODE } else { FILE_MODE };
                copy_file(from, &path, into, mode)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Neither somebody's lock, nor something half written, nor the way to another repository.
fn is_wanted(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.ends_with(b".lock")
        && !name.starts_with(b"tmp_")
        && !matches!(name, b"alternates" | b"http-alternates")
}

/// Copies a file, if it is there (still), with its time: the index is compared with the times of files.
fn copy_file(from: &Tree, path: &Path, into: &Tree, mode: u32) -> Result<(), TreeError> {
    if !matches!(from.kind(path)?, Some(Kind::File { .. })) {
        return Ok(());
    }
    let target = Path::new(".git").join(path);
    let (source, target) = (from.file(path)?, into.new_file(&target, mode)?);
    tree::copy_contents(&source, &target)
        .and_then(|()| tree::copy_time(&source, &target))
        .map_err(|source| TreeError::Io { action: "copy", path: from.path().join(path), source })
}

/// The commit that `HEAD` of the repository in `own` means, with references in `common`, both directories below their trees.
/// Nothing before the first commit, or if that cannot be told from files.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn head(own: (&Tree, &Path), common: (&Tree, &Path)) -> Result<Option<String>, TreeError> {
    const MAX_DEPTH: usize = 5;
    const MAX_BYTES: u64 = 8 << 10;
    const MAX_PACKED_BYTES: u64 = 256 << 20;
    let mut text = own.0.read(&own.1.join("HEAD"), MAX_BYTES)?.unwrap_or_default();
    for _ in 0..MAX_DEPTH {
        let line = text.trim_ascii_end();
        let Some(name) = line.strip_prefix(b"ref: ") else { return Ok(object_name(line)) };
        let path = Path::new(OsStr::from_bytes(name));
        if !path.starts_with("refs") || !crate::workspace::git::index::is_inside(path) {
            return Ok(None);
        }
        if let Some(found) = common.0.read(&common.1.join(path), MAX_BYTES)? {
            text = found;
            continue;
        }
        let packed = common.0.read(&common.1.join("packed-refs"), MAX_PACKED_BYTES)?.unwrap_or_default();
        let found = packed.split(|byte| *byte == b'\n').find_map(|line| {
            let (object, reference) = super::record::split(line, b' ')?;
            (reference == name).then(|| object_name(object)).flatten()
        });
        return Ok(found);
    }
    Ok(None)
}

/// A SHA-1 or SHA-256 in hexadecimal.
fn object_name(text: &[u8]) -> Option<String> {
    let digits = matches!(text.len(), 40 | 64)
        && text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    digits.then(|| String::from_utf8_lossy(text).into_owned())
}

/// Names of the packs in a repository's directory `objects`.
pub(crate) fn packs(objects: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(objects.join("pack")).into_iter().flatten().flatten();
    entries
        .map(|entry| PathBuf::from(entry.file_name()))
        .filter(|name| name.extension() == Some(OsStr::new("pack")))
        .collect()
}
