//! Which directories of the host the guest sees, and what in them it may not change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    context::Context,
    error::{CommandError, Result},
    project::MANIFEST,
    workspace::git::{Directories, Repository},
};

/// Paths in the workspace that decide over the sandbox, or that the host's git runs.
const PROTECTED: [&str; 3] = [MANIFEST, "sandbox.lock", ".git/hooks"];

/// A `mount` as the manifest has it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Absolute, relative to the manifest, or beginning with `~`.
    pub(crate) host: String,
    /// Absolute path in the guest; none for the same as on the host.
    pub(crate) at: Option<String>,
    /// Refuse every change.
    pub(crate) read_only: bool,
}

/// A directory of the host that the guest sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProjectShare {
    /// Name on the virtio-fs device.
    pub(crate) name: String,
    /// On the host, without symbolic links.
    pub(crate) host: PathBuf,
    /// In the guest.
    pub(crate) at: PathBuf,
    /// Refuse every change.
    pub(crate) read_only: bool,
    /// Paths below `host` that can be read but not changed.
    pub(crate) protected: Vec<PathBuf>,
}

/// The directory `workspace` of the project at `root`, and the mounts that are wanted besides it. Of a workspace that
/// `git worktree` made, the repository that it belongs to as well, unless the sandbox has a copy, with a repository of its own.
///
/// # Errors
/// If a directory is not there, or would let the guest into sbx's own files.
pub(crate) fn resolve(
    context: &Context,
    root: &Path,
    workspace: &str,
    copied: bool,
    wanted: impl IntoIterator<Item = Wanted>,
) -> Result<Vec<ProjectShare>> {
    // The store may not exist yet; its nearest existing ancestor says where it will be.
    let own = [resolve_future(&context.paths.home), resolve_future(&context.paths.config)];
    let mut protected: Vec<_> = PROTECTED.iter().map(|path| root.join(path)).collect();
    protected.extend(own.iter().cloned());
    let share = |name: String, host: PathBuf, at: PathBuf, read_only: bool| -> Result<ProjectShare> {
        if own.iter().any(|path| host.starts_with(path)) || host == Path::new("/") {
            return Err(CommandError::usage(format!("{} cannot be shared with a sandbox", host.display()))
                .with_hint("sbx keeps its own files there, and the guest must not reach them"));
        }
        let protected = protected
            .iter()
            .filter_map(|path| path.strip_prefix(&host).ok())
            .filter(|path| !path.as_os_str().is_empty())
            .map(Path::to_path_buf)
            .collect();
        Ok(ProjectShare { name, host, at, read_only, protected })
    };
    let workspace = locate(context, root, workspace)?;
    let mut shares = vec![share("workspace".to_owned(), workspace.clone(), workspace.clone(), false)?];
    if let Some(Repository { directories: Some(git), .. }) = Repository::at(&workspace)
        && git.is_linked()
        && !copied
    {
        let mut share = share("git".to_owned(), git.common.clone(), git.common.clone(), false)?;
        share.protected.extend(protected_in_git(&git));
        shares.push(share);
    }
    for (index, wanted) in wanted.into_iter().enumerate() {
        let host = locate(context, root, &wanted.host)?;
        let at = wanted.at.map_or_else(|| host.clone(), PathBuf::from);
        shares.push(share(format!("mount-{}", index + 1), host, at, wanted.read_only)?);
    }
    Ok(shares)
}

/// What a sandbox that works in one working tree may not change in the repository that others belong to as well: what git runs or
/// takes for configuration, and the state of every other working tree. It can commit, make branches, and add working trees.
fn protected_in_git(git: &Directories) -> Vec<PathBuf> {
    // The main working tree's state is in the repository itself.
    let mut protected: Vec<PathBuf> =
        ["hooks", "config", "config.worktree", "modules", "info", "HEAD", "index"].map(PathBuf::from).into();
    let worktrees = Path::new("worktrees");
    if let Ok(entries) = fs::read_dir(git.common.join(worktrees)) {
        protected.extend(entries.flatten().filter_map(|entry| {
            let own = git.own.file_name() == Some(&entry.file_name());
            (!own).then(|| worktrees.join(entry.file_name()))
        }));
    }
    // Where its files lead decides what git on the host reads.
    let own = worktrees.join(git.own.file_name().unwrap_or_default());
    protected.extend(["commondir", "gitdir", "config.worktree"].map(|name| own.join(name)));
    protected
}

/// The directory that a manifest means by `text`.
fn locate(context: &Context, root: &Path, text: &str) -> Result<PathBuf> {
    let path = match text.strip_prefix('~') {
        Some("") => context.paths.user_home.clone(),
        Some(rest) if rest.starts_with('/') => context.paths.user_home.join(rest.trim_start_matches('/')),
        _ => root.join(text),
    };
    let resolved = fs::canonicalize(&path).map_err(|error| {
        CommandError::usage(format!("cannot mount {}", path.display()))
            .with_source(error)
            .with_hint(format!("make the directory, or take `mount \"{text}\"` out of {MANIFEST}"))
    })?;
    if !resolved.is_dir() {
        return Err(CommandError::usage(format!(
            "cannot mount {}: it is not a directory",
            resolved.display()
        ))
        .with_hint("mount the directory that it is in"));
    }
    Ok(resolved)
}

/// `path` without the symbolic links of the part of it that exists.
fn resolve_future(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let Ok(resolved) = fs::canonicalize(ancestor) {
            return resolved.join(path.strip_prefix(ancestor).unwrap_or_else(|_| Path::new("")));
        }
    }
    path.to_path_buf()
}
