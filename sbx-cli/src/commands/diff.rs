//! `sbx diff`.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    sandbox::{directory::SandboxDirectory, state::State},
    ui::plural,
    workspace::{
        apply,
        clone::{Changes, PrivateCopy},
        diff::{
            Delta,
            name::quoted,
            patch::{self, Form},
            rename,
            stat::{self, FileStat},
        },
        git::Repository,
    },
};

/// Show what the sandbox changed in its copy of the workspace
///
/// For workspaces with mode="clone". What the sandbox committed counts as well: it is the files that are compared, with those
/// that were copied or last applied. Without a terminal the output is a patch that `git apply` reads, with --binary also for files
/// that are no text.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Count lines, file by file
    #[arg(long, conflicts_with = "name_only")]
    stat: bool,
    /// Print the names of the files only
    #[arg(long)]
    name_only: bool,
    /// Put the contents of binary files into the patch
    #[arg(long, conflicts_with_all = ["stat", "name_only"])]
    binary: bool,
    /// Print JSON: what --stat counts
    #[arg(long, conflicts_with_all = ["name_only", "binary"])]
    json: bool,
    /// Only these files and directories
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, state) = context.sandbox(&args.selection)?;
    let copy = open(&directory, &state)?;
    let changes = wanted(context, &copy, &args.paths)?;
    if copy.read_journal()?.is_some() {
        context.ui.warning("an apply was interrupted; `sbx apply` completes it, and the rest is shown here");
    }
    let deltas = deltas(&copy, &changes)?;
    if args.name_only {
        for delta in &deltas {
            context.ui.data(quoted(delta.path()));
        }
    } else if args.stat || args.json {
        let stats: Vec<_> = deltas
            .iter()
            .map(|delta| FileStat::of(delta, &copy.objects))
            .collect::<std::result::Result<_, _>>()?;
        if args.json {
            context.ui.json(&stats);
        } else {
            stat::table(&stats).into_iter().for_each(|line| context.ui.data(line));
        }
    } else {
        let form = Form { binary: args.binary, hash_bytes: copy.about.hash_bytes };
        for delta in &deltas {
            context.ui.patch(&patch::lines(delta, &copy.objects, form)?);
        }
    }
    copy.tidy(&changes.files)?;
    Ok(Outcome::Done)
}

/// The copy of the sandbox.
///
/// # Errors
/// If it has none.
pub(super) fn open(directory: &SandboxDirectory, state: &State) -> Result<PrivateCopy> {
    PrivateCopy::open(directory)?.ok_or_else(|| {
        let name = directory.name();
        CommandError::usage(format!("`{name}` works on {} itself, not on a copy", state.workspace.display()))
            .with_hint("what it changes is there at once; `workspace \".\" mode=\"clone\"` gives it a copy")
    })
}

/// The changes below `paths`, which are relative to where the user is; all of them if there are none.
///
/// # Errors
/// If the copy cannot be read, or if a path is not in the workspace.
pub(super) fn wanted(context: &Context, copy: &PrivateCopy, paths: &[PathBuf]) -> Result<Changes> {
    let wanted = paths.iter().map(|path| below(&copy.about.workspace, path)).collect::<Result<Vec<_>>>()?;
    let mut changes = copy.changes()?;
    changes.files.retain(|change| apply::is_wanted(&change.path, &wanted));
    if !changes.special.is_empty() {
        context.ui.warning(format_args!(
            "{} not copied: neither a file nor a link, as {}",
            plural(changes.special.len(), "file"),
            changes.special.first().map(|path| quoted(path)).unwrap_or_default()
        ));
    }
    Ok(changes)
}

/// The differences with their paths from the top of the repository, as git has them.
///
/// # Errors
/// If contents cannot be read.
pub(super) fn deltas(copy: &PrivateCopy, changes: &Changes) -> Result<Vec<Delta>> {
    let mut deltas = rename::deltas(&changes.files, &copy.objects)?;
    let workspace = &copy.about.workspace;
    if let Some(repository) = Repository::around(workspace)
        && let Ok(prefix) = workspace.strip_prefix(&repository.top)
    {
        for (path, _) in deltas.iter_mut().flat_map(|delta| delta.from.iter_mut().chain(&mut delta.to)) {
            *path = prefix.join(&*path);
        }
    }
    Ok(deltas)
}

/// `path`, as it was typed, relative to the workspace.
fn below(workspace: &Path, path: &Path) -> Result<PathBuf> {
    let here = env::current_dir()
        .and_then(|here| here.canonicalize())
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let mut whole = PathBuf::new();
    for component in here.join(path).components() {
        match component {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole
        .strip_prefix(workspace)
        .map(Path::to_path_buf)
        .map_err(|_| CommandError::usage(format!("{} is not in {}", path.display(), workspace.display())))
}
