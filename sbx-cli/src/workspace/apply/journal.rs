//! What an apply writes, so that one that was killed is completed by the next.
//!
//! One record for each file: `<mode> <hash> <mode> <hash>\t<path>\0`, what it was and what it becomes. The contents are in the
//! copy's objects before the journal is there. Each file is written under another name and renamed; so at any moment each is what
//! it was or what it becomes, and doing all of it again does no harm.

use std::{
    fs::{self, File, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use super::state::{State, is_gone, state_of};
use crate::{
    error::{CommandError, Result},
    sandbox::directory::write_atomically,
    workspace::{
        clone::{
            Change, PrivateCopy, place,
            record::{self, FileMode},
        },
        tree::Tree,
    },
};

/// Writes `changes` into `workspace`, and takes them for what the copy was made of.
///
/// # Errors
/// If something cannot be written; the next apply goes on then.
pub(crate) fn carry_out(copy: &mut PrivateCopy, workspace: &Tree, changes: &[Change]) -> Result<()> {
    copy.objects
        .sync()
        .map_err(|error| CommandError::failed("cannot write the changes to the disk").with_source(error))?;
    write_atomically(&copy.journal(), &text(changes))?;
    complete(copy, workspace, changes).map(drop)
}

/// Completes the apply that was interrupted, if one was. Files that were changed meanwhile are left as they are, and returned.
///
/// # Errors
/// If the journal cannot be read, or something cannot be written.
pub(crate) fn resume(copy: &mut PrivateCopy, workspace: &Tree) -> Result<Option<Vec<PathBuf>>> {
    let Some(text) = copy.read_journal()? else { return Ok(None) };
    let changes = parse(&text).ok_or_else(|| {
        CommandError::failed(format!("{} cannot be read", copy.journal().display()))
            .with_hint("look at what was applied with `git status`, then remove that file")
    })?;
    complete(copy, workspace, &changes).map(Some)
}

fn complete(copy: &mut PrivateCopy, workspace: &Tree, changes: &[Change]) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    let mut done = Vec::new();
    // What goes makes way for what comes: a directory where a file was.
    let (gone, coming): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.to.is_none());
    for (index, change) in gone.into_iter().chain(coming).enumerate() {
        let interrupted = |error: CommandError| {
            error.with_hint("some files are applied; `sbx apply` goes on as soon as this is out of the way")
        };
        if write(copy, workspace, change, index).map_err(interrupted)? {
            done.push(change.clone());
        } else {
            left.push(change.path.clone());
        }
    }
    copy.move_base(&done, None)?;
    fs::remove_file(copy.journal())
        .and_then(|()| File::open(copy.journal().parent().unwrap_or_else(|| Path::new("/")))?.sync_all())
        .map_err(|error| CommandError::failed("cannot remove the journal").with_source(error))?;
    Ok(left)
}

/// Makes one file what it becomes; false if it is neither that nor what it was.
pub(super) fn write(copy: &PrivateCopy, workspace: &Tree, change: &Change, index: usize) -> Result<bool> {
    if change.to.is_none() && is_gone(workspace, &change.path)? {
        return Ok(true);
    }
    let parent = change.path.parent().unwrap_or_else(|| Path::new(""));
    let temporary = parent.join(format!(".sbx-apply-{index}"));
    let now = state_of(workspace, &change.path)?;
    if now != State::from(change.from) {
        // If it was about to be written when the user changed it.
        let _ = workspace.remove(&temporary);
        return Ok(now == State::from(change.to));
    }
    let Some(entry) = change.to else {
        workspace.remove(&change.path)?;
        workspace.remove_empty_directories(parent);
        return Ok(true);
    };
    workspace.remove(&temporary)?;
    place(&copy.objects, entry, workspace, &temporary, None)?;
    if change.from.is_some_and(|from| from.mode != FileMode::Link) && entry.mode != FileMode::Link {
        keep_permissions(workspace, &change.path, &temporary, entry.mode)?;
    }
    workspace.rename(&temporary, &change.path)?;
    Ok(true)
}

/// Gives the new file the permissions of the old one; whoever may read it may execute a program.
fn keep_permissions(workspace: &Tree, old: &Path, new: &Path, mode: FileMode) -> Result<()> {
    const ALL: u32 = 0o777;
    let (old, new) = (workspace.file(old)?, workspace.file(new)?);
    let failed = |error| CommandError::failed("cannot keep the permissions of a file").with_source(error);
    let bits = old.metadata().map_err(failed)?.permissions().mode() & ALL;
    let executable = bits & 0o444;
    let bits = if mode == FileMode::Program { bits | executable >> 2 } else { bits & 0o666 };
    new.set_permissions(Permissions::from_mode(bits)).map_err(failed)
}

pub(super) fn text(changes: &[Change]) -> Vec<u8> {
    let mut text = Vec::new();
    for change in changes {
        record::push(&mut text, change.from);
        text.push(b' ');
        record::push(&mut text, change.to);
        text.push(b'\t');
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(0);
    }
    text
}

fn parse(text: &[u8]) -> Option<Vec<Change>> {
    record::records(text)
        .map(|record| {
            let (entries, path) = record::split(record, b'\t')?;
            let words: Vec<_> = entries.split(|byte| *byte == b' ').collect();
            let [from_mode, from_hash, to_mode, to_hash] = words.as_slice() else { return None };
            let entry = |mode: &[u8], hash: &[u8]| record::parse(&[mode, b" ", hash].concat());
            Some(Change {
                path: record::path_of(path)?,
                from: entry(from_mode, from_hash)?,
                to: entry(to_mode, to_hash)?,
            })
        })
        .collect()
}
