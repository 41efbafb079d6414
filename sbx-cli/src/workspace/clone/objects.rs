//! Contents by their hash: what the files of a copy were, and what they are to become.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use super::record::{Entry, FileMode};
use crate::workspace::tree::{self, Kind, Tree, TreeError};

/// Mode of an object: nobody changes one.
const OBJECT_MODE: u32 = 0o400;

/// A directory of contents, which no guest sees.
#[derive(Debug)]
pub(crate) struct Objects {
    tree: Tree,
}

impl Objects {
    /// The objects in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// If that is not possible.
    pub(crate) fn open(directory: &Path) -> Result<Self, TreeError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| TreeError::Io {
            action: "make",
            path: directory.to_path_buf(),
            source,
        })?;
        Ok(Self { tree: Tree::open(directory)? })
    }

    /// Keeps what is at `path` in `from`, and says what that is; nothing if it is no file (any more).
    ///
    /// # Errors
    /// If it cannot be read or kept.
    pub(crate) fn keep(&self, from: &Tree, path: &Path) -> Result<Option<Entry>, TreeError> {
        let Some(mode) = from.kind(path)?.and_then(FileMode::of) else { return Ok(None) };
        let hash = if mode == FileMode::Link {
            self.add(|file| {
                (&*file).write_all(from.link_target(path)?.as_bytes()).map_err(failed(from, path))
            })?
        } else {
            let source = from.file(path)?;
            self.add(|file| tree::copy_contents(&source, file).map_err(failed(from, path)))?
        };
        Ok(Some(Entry { mode, hash }))
    }

    /// The file with the contents `hash`.
    ///
    /// # Errors
    /// If they are not there.
    pub(crate) fn file(&self, hash: &blake3::Hash) -> Result<File, TreeError> {
        self.tree.file(&name(hash))
    }

    /// The contents `hash`; nothing if they are more than `limit` bytes.
    ///
    /// # Errors
    /// If they are not there.
    pub(crate) fn read(&self, hash: &blake3::Hash, limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let file = self.file(hash)?;
        let length = self.length(&file)?;
        if length > limit {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let path = name(hash);
        file.take(limit).read_to_end(&mut bytes).map_err(failed(&self.tree, &path))?;
        Ok(Some(bytes))
    }

    /// Bytes of the contents `hash`.
    ///
    /// # Errors
    /// If they are not there.
    pub(crate) fn size(&self, hash: &blake3::Hash) -> Result<u64, TreeError> {
        self.length(&self.file(hash)?)
    }

    /// Removes what is not in `wanted`.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn retain(&self, wanted: &BTreeSet<PathBuf>) -> Result<(), TreeError> {
        for (found, _) in self.tree.entries(Path::new(""), usize::MAX)? {
            if !wanted.contains(Path::new(&found)) {
                self.tree.remove(Path::new(&found))?;
            }
        }
        Ok(())
    }

    /// The name under which the contents `hash` are kept.
    pub(crate) fn name(hash: &blake3::Hash) -> PathBuf {
        name(hash)
    }

    /// Puts everything that was kept on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let directory = File::open(self.tree.path())?;
        rustix::fs::syncfs(&directory).map_err(Into::into)
    }

    fn length(&self, file: &File) -> Result<u64, TreeError> {
        file.metadata().map(|metadata| metadata.len()).map_err(failed(&self.tree, Path::new("")))
    }

    /// Keeps what `fill` writes. The hash is that of what was written, whoever changes the source meanwhile.
    fn add(&self, fill: impl FnOnce(&File) -> Result<(), TreeError>) -> Result<blake3::Hash, TreeError> {
        let temporary = PathBuf::from(format!("new-{}", std::process::id()));
        self.tree.remove(&temporary)?;
        let file = self.tree.new_file(&temporary, OBJECT_MODE)?;
        fill(&file)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.tree.file(&temporary)?).map_err(failed(&self.tree, &temporary))?;
        let hash = hasher.finalize();
        let path = self.tree.path();
        fs::rename(path.join(&temporary), path.join(name(&hash))).map_err(failed(&self.tree, &temporary))?;
        Ok(hash)
    }
}

/// What is at `path` in `tree`, of the kind `kind`; nothing if it is no file (any more).
///
/// # Errors
/// If it cannot be read.
pub(crate) fn entry(tree: &Tree, path: &Path, kind: Kind) -> Result<Option<Entry>, TreeError> {
    let Some(mode) = FileMode::of(kind) else { return Ok(None) };
    if mode == FileMode::Link {
        let target = tree.link_target(path)?;
        return Ok(Some(Entry { mode, hash: blake3::hash(target.as_bytes()) }));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(tree.file(path)?).map_err(failed(tree, path))?;
    Ok(Some(Entry { mode, hash: hasher.finalize() }))
}

fn name(hash: &blake3::Hash) -> PathBuf {
    PathBuf::from(hash.to_hex().as_str())
}

fn failed(tree: &Tree, path: &Path) -> impl Fn(io::Error) -> TreeError {
    let path = tree.path().join(path);
    move |source| TreeError::Io { action: "copy", path: path.clone(), source }
}
