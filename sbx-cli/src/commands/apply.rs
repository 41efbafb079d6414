//! `sbx apply`.

use std::{fs, path::PathBuf};

use super::diff;
use crate::{
    args::Selection,
    context::Context,
    error::{CommandError, Outcome, Result},
    ui::{Ui, plural},
    workspace::{
        Tree,
        apply::{
            self, Protected,
            branch::{self, Wish},
            journal,
        },
        clone::{Changes, PrivateCopy},
        diff::{
            name::quoted,
            patch::{self, Form},
        },
    },
};

/// Bring what the sandbox changed in its copy back into the workspace
///
/// The files are changed in place, all of them or none: none if one of them was changed in the workspace as well since it was
/// copied. With --branch, they become commits of a new branch, and with --patch a file for `git apply`, and the workspace stays
/// as it is. What was brought back is not shown by `sbx diff` any more.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Make a new branch of that name, with the sandbox's own commits if it made any
    #[arg(long, value_name = "NAME", conflicts_with = "patch")]
    branch: Option<String>,
    /// Write a patch to FILE
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Also bring back what decides over the sandbox or what git runs: sandbox.kdl, sandbox.lock, hooks
    #[arg(long)]
    include_protected: bool,
    /// Only these files and directories
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, state) = context.sandbox(&args.selection)?;
    let mut copy = diff::open(&directory, &state)?;
    resume(&context.ui, &mut copy)?;
    let protected = Protected::of(&copy.about.workspace, &state.workspace)?;
    let mut changes = diff::wanted(context, &copy, &args.paths)?;
    let all_wanted = hold_back(context, args, &protected, &mut changes);
    apply::refuse_links_out(&copy, &changes.files)?;
    if changes.files.is_empty() {
        context.ui.note("nothing to apply");
        return Ok(Outcome::Done);
    }
    let count = plural(changes.files.len(), "file");
    if let Some(name) = &args.branch {
        let history = args.paths.is_empty();
        let none = Protected::default();
        let without = if all_wanted { &none } else { &protected };
        let wish = Wish { name, history, without, sandbox: directory.name() };
        let made = branch::make(context, &mut copy, &changes.files, &wish)?;
        if let Some(reason) = made.dropped {
            context.ui.warning(format_args!(
                "the sandbox's own commits are not kept: {}",
                crate::ui::printable(&reason)
            ));
        }
        let own = if made.kept > 0 {
            format!(", {} of the sandbox", plural(made.kept, "commit"))
        } else {
            String::new()
        };
        context.ui.status(
            "branch",
            format_args!("{name}  {}  {count}{own}", made.commit.get(..12).unwrap_or_default()),
        );
    } else if let Some(file) = &args.patch {
        write_patch(&mut copy, &changes, file)?;
        context.ui.status("patch", format_args!("{}  {count}", file.display()));
    } else {
        apply::into_workspace(&mut copy, &changes.files)?;
        context.ui.status("applied", &count);
    }
    copy.tidy(&[])?;
    Ok(Outcome::Done)
}

/// Completes an apply that was interrupted.
fn resume(ui: &Ui, copy: &mut PrivateCopy) -> Result<()> {
    let workspace = Tree::open(&copy.about.workspace)?;
    let Some(left) = journal::resume(copy, &workspace)? else { return Ok(()) };
    ui.status("applied", "what an interrupted apply had left");
    for path in left {
        ui.warning(format_args!("{} was changed meanwhile, and is left as it is", quoted(&path)));
    }
    Ok(())
}

/// Takes the protected ones out of `changes`, and says which, unless the user wants them; whether that is so.
fn hold_back(context: &Context, args: &Args, protected: &Protected, changes: &mut Changes) -> bool {
    let (held, rest): (Vec<_>, Vec<_>) =
        std::mem::take(&mut changes.files).into_iter().partition(|change| protected.holds(&change.path));
    changes.files = rest;
    if held.is_empty() {
        return args.include_protected;
    }
    let ui = &context.ui;
    ui.warning("the sandbox changed files that decide over it, or that git runs:");
    for change in &held {
        ui.note(format_args!("  {}", quoted(&change.path)));
    }
    let wanted = args.include_protected || ui.can_ask() && ui.confirm("Bring these back, too?");
    if wanted {
        changes.files.extend(held);
        changes.files.sort_by(|left, right| left.path.cmp(&right.path));
    } else {
        ui.hint("they are left out; `sbx diff` shows them, `sbx apply --include-protected` brings them back");
    }
    wanted
}

fn write_patch(copy: &mut PrivateCopy, changes: &Changes, file: &std::path::Path) -> Result<()> {
    let form = Form { binary: true, hash_bytes: copy.about.hash_bytes };
    let mut text = Vec::new();
    for delta in diff::deltas(copy, changes)? {
        text.extend(patch::lines(&delta, &copy.objects, form)?.into_iter().flat_map(|line| line.bytes));
    }
    let written = fs::write(file, text).and_then(|()| fs::File::open(file)?.sync_all());
    written.map_err(|error| {
        CommandError::failed(format!("cannot write {}", file.display())).with_source(error)
    })?;
    copy.move_base(&changes.files, None)
}
