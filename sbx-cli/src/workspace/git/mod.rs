//! A git repository on the host, understood without running git: it may be anybody's, and git does what its configuration says.

pub(crate) mod config;
pub(crate) mod index;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use self::config::GitConfig;
use super::tree::{Kind, Tree, TreeError};

/// Bytes of a file that holds one path or reference.
const MAX_LINE_BYTES: u64 = 8 << 10;

/// The repository that a directory is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Repository {
    /// Top of the working tree.
    pub(crate) top: PathBuf,
    /// Where its own state is (`HEAD`, the index), and what it shares with other working trees (objects, references).
    /// Nothing if `.git` is not a directory and not that of a working tree that `git worktree` made.
    pub(crate) directories: Option<Directories>,
}

/// Directories of a repository, without symbolic links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Directories {
    /// `HEAD`, `index`.
    pub(crate) own: PathBuf,
    /// `objects`, `refs`, `config`; the same as `own` unless this is a linked working tree.
    pub(crate) common: PathBuf,
}

impl Directories {
    /// Whether `git worktree` made the working tree.
    pub(crate) fn is_linked(&self) -> bool {
        self.own != self.common
    }

    /// The repository's configuration.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn config(&self) -> Result<GitConfig, TreeError> {
        let text = Tree::open(&self.common)?.read(Path::new("config"), config::MAX_BYTES)?;
        Ok(GitConfig::parse(&text.unwrap_or_default()))
    }
}

impl Repository {
    /// The repository around `directory`, if there is one.
    pub(crate) fn around(directory: &Path) -> Option<Self> {
        directory.ancestors().find_map(Self::at)
    }

    /// The repository whose top is `top`, if there is one.
    pub(crate) fn at(top: &Path) -> Option<Self> {
        let path = top.join(".git");
        let metadata = fs::symlink_metadata(&path).ok()?;
        let directories = if metadata.is_dir() {
            path.join("HEAD").exists().then(|| Directories { own: path.clone(), common: path.clone() })
        } else if metadata.is_file() {
            linked(top)
        } else {
            None
        };
        // An empty directory of that name is nothing to git.
        (directories.is_some() || !metadata.is_dir()).then(|| Self { top: top.to_path_buf(), directories })
    }

    /// What git tracks in the working tree, relative to its top.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub(crate) fn tracked(&self) -> Result<BTreeSet<PathBuf>, TreeError> {
        let Some(directories) = &self.directories else { return Ok(BTreeSet::new()) };
        let hash_bytes = directories.config()?.hash_bytes();
        tracked(&Tree::open(&directories.own)?, Path::new(""), hash_bytes)
    }

    /// `info/exclude`: what is ignored here besides what the files in the tree say.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn exclude(&self) -> Result<Vec<u8>, TreeError> {
        let Some(directories) = &self.directories else { return Ok(Vec::new()) };
        let path = Path::new("info/exclude");
        Ok(Tree::open(&directories.common)?.read(path, super::ignored::MAX_BYTES)?.unwrap_or_default())
    }
}

/// What the index in `directory` of `tree` and the one that it is split from track.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn tracked(
    tree: &Tree,
    directory: &Path,
    hash_bytes: usize,
) -> Result<BTreeSet<PathBuf>, TreeError> {
    const MAX_ENTRIES: usize = 10_000;
    let mut paths = BTreeSet::new();
    for (name, kind) in tree.entries(directory, MAX_ENTRIES)? {
        let is_index = name == "index" || name.as_bytes().starts_with(b"sharedindex.");
        if is_index && matches!(kind, Kind::File { .. }) {
            let bytes = tree.read(&directory.join(&name), index::MAX_BYTES)?;
            paths.extend(index::tracked(&bytes.unwrap_or_default(), hash_bytes));
        }
    }
    Ok(paths)
}

/// The directories of a working tree that `git worktree add` made at `top`. `.git` in it is a file that names a directory, which
/// anybody can write; so it counts only if that directory names the working tree as well.
fn linked(top: &Path) -> Option<Directories> {
    let own = line_path(top, Path::new(".git"), b"gitdir: ")?;
    let common = line_path(&own, Path::new("commondir"), b"")?;
    let back = line_path(&own, Path::new("gitdir"), b"")?;
    let inside = own.parent() == Some(common.join("worktrees").as_path());
    (inside && back == fs::canonicalize(top).ok()?.join(".git")).then_some(Directories { own, common })
}

/// The path behind `prefix` in a file of one line, relative to the file's directory, without symbolic links.
fn line_path(directory: &Path, name: &Path, prefix: &[u8]) -> Option<PathBuf> {
    let text = Tree::open(directory).ok()?.read(name, MAX_LINE_BYTES).ok()??;
    let path = text.trim_ascii_end().strip_prefix(prefix)?;
    fs::canonicalize(directory.join(OsStr::from_bytes(path))).ok()
}
