//! What is where a change is to go, and whether the change may go there.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use crate::workspace::{
    clone::{
        Change,
        objects::{self, Objects},
        record::{Entry, FileMode},
    },
    tree::{Kind, Tree, TreeError},
};

/// Files below a directory that are looked at before it is taken for one that is in use.
const MAX_ENTRIES: usize = 100_000;

/// Longest target of a link (PATH_MAX).
const MAX_TARGET_BYTES: u64 = 4096;

/// What is at a path of the workspace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Absent,
    File(Entry),
    Directory,
    /// A FIFO, a device, or a way over a link.
    Other,
}

impl From<Option<Entry>> for State {
    fn from(entry: Option<Entry>) -> Self {
        entry.map_or(Self::Absent, Self::File)
    }
}

/// What is at `path`.
///
/// # Errors
/// If it cannot be read.
pub(super) fn state_of(workspace: &Tree, path: &Path) -> Result<State, TreeError> {
    Ok(match workspace.kind(path)? {
        None => State::Absent,
        Some(Kind::Directory) => State::Directory,
        Some(Kind::Other) => State::Other,
        Some(kind) => objects::entry(workspace, path, kind)?.into(),
    })
}

/// Whether no file is at `path` (any more): nothing, a directory, or a way over something that is none.
///
/// # Errors
/// If it cannot be read.
pub(super) fn is_gone(workspace: &Tree, path: &Path) -> Result<bool, TreeError> {
    if matches!(workspace.kind(path)?, None | Some(Kind::Directory)) {
        return Ok(true);
    }
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if !matches!(workspace.kind(above)?, None | Some(Kind::Directory)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why `change` cannot be applied to the workspace; nothing if it can.
///
/// # Errors
/// If the workspace cannot be read.
pub(super) fn obstacle(
    workspace: &Tree,
    change: &Change,
    all: &BTreeMap<&Path, &Change>,
) -> Result<Option<&'static str>, TreeError> {
    const BOTH: &str = "was changed on both sides";
    if change.to.is_none() && is_gone(workspace, &change.path)? {
        return Ok(None);
    }
    let makes_way = |path: &Path| all.get(path).is_some_and(|other| other.to.is_none());
    let mut state = state_of(workspace, &change.path)?;
    // A file or link in the place of a directory is no obstacle if it goes with the same apply.
    for above in change.path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if matches!(workspace.kind(above)?, Some(kind) if kind != Kind::Directory) {
            if !makes_way(above) {
                return Ok(Some("is below something that is no directory in the workspace"));
            }
            state = State::Absent;
        }
    }
    if state == State::from(change.to) || state == State::from(change.from) {
        return Ok(None);
    }
    // A directory in the place of a file is none if everything in it goes.
    if state == State::Directory && change.from.is_none() {
        let mut left = MAX_ENTRIES;
        let free = all_go(workspace, &change.path, &makes_way, &mut left)?;
        return Ok((!free).then_some("is a directory with other files in the workspace"));
    }
    Ok(Some(BOTH))
}

/// Whether every file below `directory` goes.
fn all_go(
    workspace: &Tree,
    directory: &Path,
    goes: &dyn Fn(&Path) -> bool,
    left: &mut usize,
) -> Result<bool, TreeError> {
    for (name, kind) in workspace.entries(directory, MAX_ENTRIES)? {
        *left = left.saturating_sub(1);
        let path = directory.join(name);
        let goes = match kind {
            Kind::Directory => all_go(workspace, &path, goes, left)?,
            _ => goes(&path),
        };
        if !goes || *left == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `entry`, as `path` of `workspace`, is a link that leads out of it.
///
/// Only its text is looked at, so that it does not matter what it leads to: it may go up from where it is, as long as that stays
/// inside, and from there only down. So links that lead over links stay inside, too.
///
/// # Errors
/// If its target cannot be read.
pub(super) fn leads_out(
    objects: &Objects,
    workspace: &Path,
    path: &Path,
    entry: Entry,
) -> Result<bool, TreeError> {
    if entry.mode != FileMode::Link {
        return Ok(false);
    }
    let Some(target) = objects.read(&entry.hash, MAX_TARGET_BYTES)? else { return Ok(true) };
    let target = Path::new(OsStr::from_bytes(&target));
    let (mut depth, below) = match target.strip_prefix(workspace) {
        Ok(below) if target.is_absolute() => (0, below),
        _ => (path.components().count().saturating_sub(1), target),
    };
    let mut went_down = false;
    for component in below.components() {
        match component {
            Component::Normal(_) => went_down = true,
            Component::CurDir => {}
            Component::ParentDir if !went_down && depth > 0 => depth = depth.saturating_sub(1),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Ok(true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let (directory, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (tree, objects) = (Tree::open(directory.path()).unwrap(), Objects::open(kept.path()).unwrap());
        let leads_out = |at: &str, target: &str| {
            let _ = std::fs::remove_file(directory.path().join("link"));
            symlink(target, directory.path().join("link")).unwrap();
            let entry = objects.keep(&tree, Path::new("link")).unwrap().unwrap();
            super::leads_out(&objects, Path::new("/home/u/repo"), Path::new(at), entry).unwrap()
        };
        for (at, target) in [
            ("link", "file"),
            ("link", "./a/b"),
            ("a/b/link", "../../file"),
            ("a/link", ".."),
            ("link", "/home/u/repo/a"),
            ("link", "..."),
        ] {
            assert!(!leads_out(at, target), "{at} -> {target}");
        }
        for (at, target) in [
            ("link", "/etc/passwd"),
            ("link", ".."),
            ("a/link", "../../x"),
            ("link", "a/../../x"),
            // Inside as text, but `a` may be a link to the top.
            ("link", "a/.."),
            ("link", "/home/u/repo/../x"),
            ("link", "/home/u/repository"),
        ] {
            assert!(leads_out(at, target), "{at} -> {target}");
        }
    }
}
