//! The private copy of a workspace that a sandbox in clone mode works on.
//!
//! ```text
//! sandboxes/<name>/clone/
//!   tree/        the copy: what the guest sees in the place of the workspace, and the only part that it can change
//!   base         what the files of the workspace were when they were copied or last applied, by their hashes
//!   objects/     contents by their hash: those of `base`, and of what an apply is about to write
//!   about.json   which workspace it is a copy of, and of which commit
//!   journal      an apply under way: what it writes
//!   lock         held by whoever compares or applies
//! ```
//!
//! It is made under another name and renamed, once, by the first `sbx up`; so it is whole or not there. `base` is replaced by
//! renaming, so it moves at once. Everything in `tree` is the guest's, its `.git` too: it is listed, read and hashed, and nothing
//! in it is run or followed.

pub(crate) mod objects;
pub(crate) mod record;
pub(crate) mod repository;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::{
    objects::Objects,
    record::{Entry, Manifest},
};
use super::{
    copy::{FILE_MODE, PROGRAM_MODE},
    files::{self, Scope},
    git::{self, Repository},
    remove_all,
    tree::{self, Kind, Tree},
};
use crate::{
    error::{CommandError, Result},
    sandbox::directory::{SandboxDirectory, write_atomically},
    ui::{Ui, bytes, plural},
};

/// Version of the directory's layout.
const VERSION: u32 = 1;

/// Bytes of `base` or `journal` that are read: two million files with names of two hundred bytes.
const MAX_RECORD_BYTES: u64 = 1 << 30;

/// What the copy is a copy of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct About {
    version: u32,
    /// The workspace, without symbolic links.
    pub(crate) workspace: PathBuf,
    /// The commit that was checked out, or onto which the changes were last put.
    pub(crate) commit: Option<String>,
    /// Bytes of an object's name in its repository.
    pub(crate) hash_bytes: usize,
    /// Whether the copy has a repository of its own.
    pub(crate) history: bool,
}

/// A file that is not what it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// What it was; nothing if it is new.
    pub(crate) from: Option<Entry>,
    /// What it is in the copy; nothing if it was removed.
    pub(crate) to: Option<Entry>,
}

/// How the copy differs from what it was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// By path.
    pub(crate) files: Vec<Change>,
    /// FIFOs, sockets and devices, which are no change.
    pub(crate) special: Vec<PathBuf>,
}

/// The copy, held so that nobody else compares or applies it.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    path: PathBuf,
    /// What it is a copy of.
    pub(crate) about: About,
    /// The copy.
    pub(crate) tree: Tree,
    /// Contents.
    pub(crate) objects: Objects,
    /// What it was made of.
    pub(crate) base: Manifest,
    _lock: File,
}

/// Where the guest's side of the copy is.
pub(crate) fn tree_of(directory: &SandboxDirectory) -> PathBuf {
    directory.clone_directory().join("tree")
}

/// Makes the copy of `workspace`, unless the sandbox has one.
///
/// # Errors
/// If it cannot be made, or if the copy is one of another directory.
pub(crate) fn prepare(ui: &Ui, workspace: &Path, directory: &SandboxDirectory) -> Result<()> {
    if let Some(copy) = PrivateCopy::open(directory)? {
        if copy.about.workspace == workspace {
            return Ok(());
        }
        return Err(CommandError::usage(format!(
            "the sandbox has a copy of {}, not of {}",
            copy.about.workspace.display(),
            workspace.display()
        ))
        .with_hint("`sbx diff` shows what it changed; `sbx reset` throws the copy away"));
    }
    let failed = |error: io::Error| CommandError::failed("cannot copy the workspace").with_source(error);
    let new = directory.path().join(".clone-new");
    remove_all(&new).map_err(failed)?;
    DirBuilder::new().mode(0o700).create(&new).map_err(failed)?;
    DirBuilder::new().create(new.join("tree")).map_err(failed)?;
    let objects = Objects::open(&new.join("objects"))?;
    let into = Tree::open(&new.join("tree"))?;
    let (base, size) = fill(workspace, &objects, &into)?;
    let about = about(ui, workspace, &into)?;
    write_atomically(&new.join("base"), &record::write(&base))?;
    let text = serde_json::to_vec_pretty(&about).map_err(|error| failed(error.into()))?;
    write_atomically(&new.join("about.json"), &text)?;
    objects.sync().map_err(failed)?;
    fs::rename(&new, directory.clone_directory()).map_err(failed)?;
    File::open(directory.path()).and_then(|parent| parent.sync_all()).map_err(failed)?;
    ui.status(
        "clone",
        format_args!("{}, {}, private to the sandbox", plural(base.len(), "file"), bytes(size)),
    );
    Ok(())
}

/// Refuses to lose what the sandbox changed in its copy and nobody applied, unless the user says that it may go.
///
/// # Errors
/// If there is something, and the answer is no or nobody can be asked.
pub(crate) fn refuse_to_lose(ui: &Ui, directory: &SandboxDirectory, force: &str) -> Result<()> {
    let Some(copy) = PrivateCopy::open(directory)? else { return Ok(()) };
    let changes = copy.changes()?.files;
    copy.tidy(&[])?;
    if changes.is_empty() {
        return Ok(());
    }
    let count = plural(changes.len(), "changed file");
    if ui.can_ask() {
        ui.warning(format_args!("the sandbox's copy of the workspace has {count}, not applied"));
        if ui.confirm("Throw them away?") {
            return Ok(());
        }
    }
    Err(CommandError::usage(format!("the sandbox's copy of the workspace has {count}, not applied"))
        .with_hint("`sbx diff` shows them, `sbx apply` brings them back")
        .with_hint(format!("`{force}` throws them away")))
}

/// Removes the copy, if there is one: at once for every other command.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn discard(directory: &SandboxDirectory) -> Result<()> {
    let failed =
        |error: io::Error| CommandError::failed("cannot remove the copy of the workspace").with_source(error);
    let grave = directory.path().join(".clone-removed");
    remove_all(&grave).map_err(failed)?;
    match fs::rename(directory.clone_directory(), &grave) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    }
    remove_all(&grave).map_err(failed)
}

/// Copies the files of `workspace`; what they are, and how many bytes.
fn fill(workspace: &Path, objects: &Objects, into: &Tree) -> Result<(Manifest, u64)> {
    let from = Tree::open(workspace)?;
    let (mut base, mut size) = (Manifest::new(), 0_u64);
    for (path, _) in files::list(&from, &Scope::of(workspace)?)?.found {
        // What went away meanwhile was not there.
        let Some(entry) = objects.keep(&from, &path)? else { continue };
        place(objects, entry, into, &path, Some(&from))?;
        size = size.saturating_add(objects.size(&entry.hash)?);
        base.insert(path, entry);
    }
    Ok((base, size))
}

/// Makes the file `path` in `into`, where nothing of that name is, with the time that it has in `times`.
pub(crate) fn place(
    objects: &Objects,
    entry: Entry,
    into: &Tree,
    path: &Path,
    times: Option<&Tree>,
) -> Result<()> {
    into.make_directories(path.parent().unwrap_or_else(|| Path::new("")))?;
    if entry.mode == record::FileMode::Link {
        const MAX_TARGET_BYTES: u64 = 4096;
        let target = objects.read(&entry.hash, MAX_TARGET_BYTES)?.unwrap_or_default();
        into.new_link(path, std::os::unix::ffi::OsStrExt::from_bytes(target.as_slice()))?;
        return Ok(());
    }
    let mode = if entry.mode == record::FileMode::Program { PROGRAM_MODE } else { FILE_MODE };
    let (source, target) = (objects.file(&entry.hash)?, into.new_file(path, mode)?);
    let written = tree::copy_contents(&source, &target).and_then(|()| match times {
        Some(times) => match times.file(path) {
            Ok(original) => tree::copy_time(&original, &target),
            // It went away; the time of the copy is as good as any.
            Err(_) => Ok(()),
        },
        None => target.sync_all(),
    });
    written.map_err(|error| {
        CommandError::failed(format!("cannot write {}", into.path().join(path).display())).with_source(error)
    })
}

/// Gives the copy a repository, if the workspace is the top of one, and says what it is a copy of.
fn about(ui: &Ui, workspace: &Path, into: &Tree) -> Result<About> {
    let mut about = About {
        version: VERSION,
        workspace: workspace.to_path_buf(),
        commit: None,
        hash_bytes: 20,
        history: false,
    };
    let Some(repository) = Repository::around(workspace) else { return Ok(about) };
    let Some(directories) = &repository.directories else {
        ui.warning("the copy has no history: .git is neither a directory nor that of a git worktree");
        return Ok(about);
    };
    let (own, common) = (Tree::open(&directories.own)?, Tree::open(&directories.common)?);
    about.hash_bytes = directories.config()?.hash_bytes();
    about.commit = repository::head((&own, Path::new("")), (&common, Path::new("")))?;
    if repository.top != workspace {
        return Ok(about);
    }
    if repository::borrows(directories) {
        ui.warning("the copy has no history: the repository borrows objects from another one");
        return Ok(about);
    }
    repository::copy(directories, into)?;
    about.history = true;
    Ok(about)
}

impl PrivateCopy {
    /// The copy of the sandbox in `directory`, if it has one. Waits for whoever compares or applies it.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub(crate) fn open(directory: &SandboxDirectory) -> Result<Option<Self>> {
        let path = directory.clone_directory();
        if !path.is_dir() {
            return Ok(None);
        }
        let damaged = |what: &str| {
            CommandError::failed(format!("the copy of the workspace has no {what} that can be read"))
                .with_hint(
                    "`sbx rm --force` removes the sandbox with its copy; take what you need from it first",
                )
                .with_hint(format!("the copy itself is {}", path.join("tree").display()))
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| damaged("lock").with_source(error))?;
        let own = Tree::open(&path)?;
        let read = |name: &str| {
            own.read(Path::new(name), MAX_RECORD_BYTES).ok().flatten().ok_or_else(|| damaged(name))
        };
        let about: About = serde_json::from_slice(&read("about.json")?)
            .map_err(|error| damaged("about.json").with_source(error))?;
        if about.version != VERSION {
            return Err(damaged("format of this version"));
        }
        let base = record::read(&read("base")?).ok_or_else(|| damaged("base"))?;
        let (tree, objects) = (Tree::open(&path.join("tree"))?, Objects::open(&path.join("objects"))?);
        Ok(Some(Self { path, about, tree, objects, base, _lock: lock }))
    }

    /// `journal`.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// What the journal says, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read_journal(&self) -> Result<Option<Vec<u8>>> {
        Ok(Tree::open(&self.path)?.read(Path::new("journal"), MAX_RECORD_BYTES)?)
    }

    /// How the copy differs from what it was made of. The contents of what changed are kept, so that what is shown or applied
    /// is what was seen, whatever the guest does meanwhile.
    ///
    /// # Errors
    /// If the copy cannot be read.
    pub(crate) fn changes(&self) -> Result<Changes> {
        let mut tracked: BTreeSet<PathBuf> = self.base.keys().cloned().collect();
        let git = Path::new(".git");
        if self.about.history && self.tree.kind(git)? == Some(Kind::Directory) {
            tracked.extend(git::tracked(&self.tree, git, self.about.hash_bytes)?);
        }
        let scope = Scope::of(&self.about.workspace)?.with_tracked(tracked);
        let files::Files { found, special } = files::list(&self.tree, &scope)?;
        let mut changes = Vec::new();
        for (path, kind) in &found {
            let from = self.base.get(path).copied();
            if objects::entry(&self.tree, path, *kind)? == from {
                continue;
            }
            let to = self.objects.keep(&self.tree, path)?;
            if to != from {
                changes.push(Change { path: path.clone(), from, to });
            }
        }
        let gone = self.base.iter().filter(|(path, _)| !found.contains_key(*path));
        changes.extend(gone.map(|(path, entry)| Change { path: path.clone(), from: Some(*entry), to: None }));
        changes.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Changes { files: changes, special })
    }

    /// Takes `changes` for what the copy was made of, from now on.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(crate) fn move_base(&mut self, changes: &[Change], commit: Option<String>) -> Result<()> {
        for change in changes {
            match change.to {
                Some(entry) => self.base.insert(change.path.clone(), entry),
                None => self.base.remove(&change.path),
            };
        }
        if commit.is_some() {
            self.about.commit = commit;
            let text = serde_json::to_vec_pretty(&self.about)
                .map_err(|error| CommandError::failed("cannot write about.json").with_source(error))?;
            write_atomically(&self.path.join("about.json"), &text)?;
        }
        write_atomically(&self.path.join("base"), &record::write(&self.base))
    }

    /// Forgets contents that are neither the base's nor of `changes`.
    ///
    /// # Errors
    /// If they cannot be listed or removed.
    pub(crate) fn tidy(&self, changes: &[Change]) -> Result<()> {
        let own = self.base.values().copied();
        let wanted = own.chain(changes.iter().flat_map(|change| change.from.into_iter().chain(change.to)));
        Ok(self.objects.retain(&wanted.map(|entry| Objects::name(&entry.hash)).collect())?)
    }
}

#[cfg(test)]
mod tests;
