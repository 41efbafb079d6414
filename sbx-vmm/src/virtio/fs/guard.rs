//! What a guest may not change in a share: all of it, or the protected paths in it.
//!
//! ```text
//! protected: sandbox.kdl  .git/hooks          standing of
//!
//!   <share>/           .git/            hooks/            pre-commit
//!   Above              Above            Protected         Protected
//!   <share>/sandbox.kdl  Protected      <share>/src/main.rs  Free
//! ```
//!
//! A path is where the kernel says that the directory is *now*, not where the guest once found it, so neither
//! renames on the host nor a guest that keeps old nodes can make a protected path look like another one. What
//! stands above a protected path can be a directory only, made as such: a link or a file in its place, or another
//! directory moved there, would bring a protected path into being with contents of the guest's choice.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::host::{self, Descriptors, Identity};

/// How many files below protected directories are compared with one that has several names, before it is simply
/// taken for one of them.
const MOST_COMPARED: usize = 4096;

/// How a path relates to the protected ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It has nothing to do with any.
    Free,
    /// A protected path is below it.
    Above,
    /// It is one, or is below one.
    Protected,
}

/// A directory of the host that the guest sees, and the rules for it.
#[derive(Debug)]
pub(super) struct Guard {
    root: Arc<OwnedFd>,
    read_only: bool,
    paths: Vec<PathBuf>,
    /// Components of each of `paths`, in lower case.
    protected: Vec<Vec<Vec<u8>>>,
}

impl Guard {
    /// Rules for the share behind `root`; `protected` are relative paths below it.
    pub(super) fn new(root: Arc<OwnedFd>, read_only: bool, protected: &[PathBuf]) -> Self {
        let paths = protected.to_vec();
        let protected = paths.iter().map(|path| components(path)).collect::<Vec<_>>();
        // A path without components is the share itself.
        let all = protected.iter().any(Vec::is_empty);
        Self { root, read_only: read_only || all, paths, protected }
    }

    /// EROFS if nothing may be changed.
    pub(super) fn check_writable(&self) -> Result<(), Errno> {
        if self.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Whether there is nothing to check but [`Self::check_writable`].
    pub(super) fn is_plain(&self) -> bool {
        self.protected.is_empty()
    }

    /// How `name` in `directory`, or with an empty name `directory` itself, stands to the protected paths now.
    pub(super) fn standing(
        &self,
        descriptors: &Descriptors,
        directory: impl AsFd,
        name: &[u8],
    ) -> Result<Standing, Errno> {
        let root = descriptors.path_of(&self.root)?;
        let path = descriptors.path_of(directory)?;
        // What is not below the share any more was moved out on the host: no longer the guest's to change.
        let below = below(root.as_bytes(), path.as_bytes()).ok_or(Errno::STALE)?;
        let parts = below.split(|byte| *byte == b'/').chain([name]).filter(|part| !part.is_empty());
        Ok(self.standing_of(parts))
    }

    /// Whether `identity` is one of the protected files, by whatever name it was reached.
    pub(super) fn holds(&self, identity: Identity) -> Result<bool, Errno> {
        let mut left = MOST_COMPARED;
        for path in &self.paths {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.root, path.as_path(), flags, Mode::empty(), resolve) {
                Ok(file) if holds(&file, identity, &mut left)? => return Ok(true),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn standing_of<'a>(&self, parts: impl Iterator<Item = &'a [u8]> + Clone) -> Standing {
        let mut standing = Standing::Free;
        for protected in &self.protected {
            match compare(protected, parts.clone()) {
                Standing::Protected => return Standing::Protected,
                Standing::Above => standing = Standing::Above,
                Standing::Free => {}
            }
        }
        standing
    }
}

/// How the path `parts` stands to one protected path. Letter case does not count, for on some file systems it
/// does not, and there `.GIT/hooks` is `.git/hooks`.
fn compare<'a>(protected: &[Vec<u8>], mut parts: impl Iterator<Item = &'a [u8]>) -> Standing {
    for component in protected {
        match parts.next() {
            None => return Standing::Above,
            Some(part) if part.eq_ignore_ascii_case(component) => {}
            Some(_) => return Standing::Free,
        }
    }
    Standing::Protected
}

/// The part of `path` below `root`, if it is there.
fn below<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let rest = path.strip_prefix(root)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

fn components(path: &Path) -> Vec<Vec<u8>> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.as_bytes().to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Whether `file` is `identity` or a directory with it somewhere below.
fn holds(file: &OwnedFd, identity: Identity, left: &mut usize) -> Result<bool, Errno> {
    let status = host::status(file)?;
    if Identity::from(&status) == identity {
        return Ok(true);
    }
    if host::Kind::from(&status) != host::Kind::Directory {
        return Ok(false);
    }
    let directory = host::open_entries(file)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Ok(true);
        }
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let Ok(found) = rustix::fs::statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, flags) else {
            continue;
        };
        if Identity::from(&found) == identity {
            return Ok(true);
        }
        if host::Kind::from(&found) == host::Kind::Directory {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            if holds(&inner, identity, left)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(path: &str) -> Standing {
        let root = std::fs::File::open("/").unwrap();
        let paths = ["sandbox.kdl", ".git/hooks", "a/b/c"].map(PathBuf::from);
        let guard = Guard::new(Arc::new(root.into()), false, &paths);
        guard.standing_of(path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes))
    }

    #[test]
    fn standing_of_paths() {
        for (path, expected) in [
            ("", Standing::Above),
            (".git", Standing::Above),
            ("a", Standing::Above),
            ("a/b", Standing::Above),
            ("sandbox.kdl", Standing::Protected),
            ("SANDBOX.kdl", Standing::Protected),
            (".git/hooks", Standing::Protected),
            (".Git/Hooks", Standing::Protected),
            (".git/hooks/pre-commit", Standing::Protected),
            ("a/b/c/d/e", Standing::Protected),
            (".git/hooks2", Standing::Free),
            (".git/config", Standing::Free),
            (".gitignore", Standing::Free),
            ("src/sandbox.kdl", Standing::Free),
            ("vendored/.git/hooks", Standing::Free),
            ("b/c", Standing::Free),
        ] {
            assert_eq!(standing(path), expected, "{path}");
        }
    }

    #[test]
    fn below_ends_at_a_component() {
        assert_eq!(below(b"/home/u/repo", b"/home/u/repo"), Some(&b""[..]));
        assert_eq!(below(b"/home/u/repo", b"/home/u/repo/.git"), Some(&b".git"[..]));
        assert_eq!(below(b"/home/u/repo", b"/home/u/repo2/.git"), None);
        assert_eq!(below(b"/home/u/repo", b"/home/u"), None);
        assert_eq!(below(b"/", b"/etc"), Some(&b"etc"[..]));
    }
}
