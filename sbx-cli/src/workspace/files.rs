//! Which files a workspace consists of: those that git does not ignore, and those that it tracks all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    git::{Repository, index},
    ignored::{self, Rules},
    tree::{Kind, Tree, TreeError},
};
use crate::paths::Paths;

/// Files that are looked at, at most; the largest public repositories have a fifth of it.
const MAX_FILES: usize = 2_000_000;

/// Longest path that the kernel takes (PATH_MAX, less the NUL).
const MAX_PATH_BYTES: usize = 4095;

/// Entries of one directory.
const MAX_ENTRIES: usize = 1_000_000;

/// What decides over the files of a directory from outside of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// The directory, relative to the top of the repository that it is in.
    prefix: PathBuf,
    /// Directories between the top and here, with their rules.
    outer: Vec<(PathBuf, Vec<u8>)>,
    /// The repository's rules that are in no directory.
    exclude: Vec<u8>,
    /// Files that count although they are ignored, relative to the directory.
    tracked: BTreeSet<PathBuf>,
    /// Directories that do not count, relative to the directory: sbx's own.
    left_out: Vec<PathBuf>,
}

impl Scope {
    /// Of the workspace at `root`, which is in a repository or not.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub(crate) fn of(root: &Path) -> Result<Self, TreeError> {
        let own = Paths::from_environment().map(|paths| paths.home).ok();
        let left_out = own
            .and_then(|home| Some(home.canonicalize().ok()?.strip_prefix(root).ok()?.to_path_buf()))
            .into_iter()
            .collect();
        let Some(repository) = Repository::around(root) else {
            return Ok(Self { left_out, ..Self::default() });
        };
        let top = Tree::open(&repository.top)?;
        let prefix = root.strip_prefix(&repository.top).unwrap_or_else(|_| Path::new("")).to_path_buf();
        let mut outer = Vec::new();
        for directory in prefix.ancestors().skip(1) {
            if let Some(text) = rules_in(&top, directory)? {
                outer.push((directory.to_path_buf(), text));
            }
        }
        outer.reverse();
        let tracked = repository.tracked()?;
        let tracked =
            tracked.iter().filter_map(|path| path.strip_prefix(&prefix).ok()).map(Path::to_path_buf);
        Ok(Self { tracked: tracked.collect(), exclude: repository.exclude()?, prefix, outer, left_out })
    }

    /// The same for a copy of that workspace in which `tracked` counts instead.
    pub(crate) fn with_tracked(self, tracked: BTreeSet<PathBuf>) -> Self {
        Self { tracked, left_out: Vec::new(), ..self }
    }
}

/// The files and links of a tree by their paths, and what is neither.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// [`Kind::File`] or [`Kind::Link`].
    pub(crate) found: BTreeMap<PathBuf, Kind>,
    /// FIFOs, sockets and devices, and what is too deep to have a path.
    pub(crate) special: Vec<PathBuf>,
}

/// The files of `tree` that count under `scope`.
///
/// # Errors
/// If the tree cannot be read, or has more than any repository.
pub(crate) fn list(tree: &Tree, scope: &Scope) -> Result<Files, TreeError> {
    let mut rules = Rules::new(&scope.exclude);
    for (directory, text) in &scope.outer {
        rules.enter(directory, text);
    }
    let mut walk = Walk { tree, scope, rules, files: Files::default() };
    walk.visit(Path::new(""))?;
    let Walk { mut files, .. } = walk;
    for path in scope.tracked.iter().filter(|path| index::is_inside(path)) {
        if files.found.contains_key(path) {
            continue;
        }
        if let Some(kind @ (Kind::File { .. } | Kind::Link)) = tree.kind(path)? {
            files.found.insert(path.clone(), kind);
        }
    }
    Ok(files)
}

struct Walk<'a> {
    tree: &'a Tree,
    scope: &'a Scope,
    rules: Rules,
    files: Files,
}

impl Walk<'_> {
    fn visit(&mut self, directory: &Path) -> Result<(), TreeError> {
        let entries = self.tree.entries(directory, MAX_ENTRIES)?;
        let text = rules_in(self.tree, directory)?;
        if let Some(text) = &text {
            self.rules.enter(&self.scope.prefix.join(directory), text);
        }
        for (name, kind) in entries {
            let path = directory.join(&name);
            let is_directory = kind == Kind::Directory;
            if name.eq_ignore_ascii_case(".git")
                || self.scope.left_out.contains(&path)
                || self.rules.ignore(&self.scope.prefix.join(&path), is_directory)
            {
                continue;
            }
            if path.as_os_str().len() > MAX_PATH_BYTES {
                self.files.special.push(path);
                continue;
            }
            match kind {
                Kind::Directory => self.visit(&path)?,
                Kind::Other => self.files.special.push(path),
                Kind::File { .. } | Kind::Link => {
                    self.files.found.insert(path, kind);
                }
            }
            if self.files.found.len() > MAX_FILES {
                return Err(TreeError::TooMany { path: self.tree.path().to_path_buf(), limit: MAX_FILES });
            }
        }
        if text.is_some() {
            self.rules.leave();
        }
        Ok(())
    }
}

/// The rules of one directory. What is not a file, or is larger than any such file, holds none, as with git.
fn rules_in(tree: &Tree, directory: &Path) -> Result<Option<Vec<u8>>, TreeError> {
    let path = directory.join(ignored::FILE);
    match tree.kind(&path)? {
        Some(Kind::File { .. }) => match tree.read(&path, ignored::MAX_BYTES) {
            Err(TreeError::TooLarge { .. } | TreeError::NotAFile { .. }) => Ok(None),
            other => other,
        },
        _ => Ok(None),
    }
}
