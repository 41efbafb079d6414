//! What `sbx add` and `sbx remove` have in common: packages more or less in sandbox.kdl, and in sandbox.lock.

use sbx_manifest::{
    edit::{EditError, PackageChange, PackageEdit},
    lock::Request,
};

use super::lock;
use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    locking,
    project::{self, MANIFEST, Project},
    provision::Wishes,
    repository_file::RepositoryFile,
    ui::printable,
};

/// The packages that are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The manager and the package as it writes it: apt:git, npm:typescript@5, pip:ruff, cargo:just, apk:curl, dnf:git
    #[arg(required = true, value_name = "MANAGER:NAME")]
    packages: Vec<String>,
    /// In the profile of that name
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Change sandbox.kdl only; `sbx lock` pins what is in it later
    #[arg(long)]
    no_lock: bool,
    /// Answer yes to everything that would be asked
    #[arg(short, long)]
    yes: bool,
}

/// How a package gets into a text, or out of it.
type Edit = fn(&str, &[u8], Option<&str>, &Request) -> std::result::Result<PackageEdit, EditError>;

/// Changes the manifest by all packages or by none, and then the lock; if what is wanted cannot be resolved, both stay.
pub(crate) fn change(context: &Context, edit: Edit, wanted: &Wanted) -> Result<Outcome> {
    let requests = wanted.packages.iter().map(|package| request(package)).collect::<Result<Vec<_>>>()?;
    let here = std::env::current_dir()
        .map_err(|error| CommandError::failed("cannot tell the current directory").with_source(error))?;
    let root = project::root_of(&here)?;
    let profile = wanted.profile.as_deref();
    let (old, name) = {
        let file = RepositoryFile::open(&root, MANIFEST)?;
        (file.read()?.unwrap_or_default(), project::display_name(file.path()))
    };
    let (mut text, mut edits) = (old.clone(), Vec::new());
    for request in &requests {
        let edited = edit(&name, &text, profile, request).map_err(|error| {
            // Shown in the file as it is, not as the edits before this one would have made it.
            let error = edit(&name, &old, profile, request).err().unwrap_or(error);
            context.ui.diagnostic(error.diagnostic());
            CommandError::reported()
        })?;
        text = edited.text.clone().into_bytes();
        edits.push(edited);
    }
    if text != old && wanted.no_lock {
        RepositoryFile::open(&root, MANIFEST)?.replace(Some(&old), &text)?;
    } else if text != old {
        with_lock(context, &root, &old, &text, wanted)?;
    }
    for (request, edited) in requests.iter().zip(&edits) {
        report(context, &name, profile, request, edited);
    }
    Ok(Outcome::Done)
}

/// Resolves the new manifest, then writes both files: the lock first, which is put back if the manifest cannot be.
fn with_lock(
    context: &Context,
    root: &std::path::Path,
    old: &[u8],
    text: &[u8],
    wanted: &Wanted,
) -> Result<()> {
    let project = Project::of_text(context, &root.join(MANIFEST), text, None)?;
    let (old_lock_text, old_lock) = lock::read(context, &project)?;
    let new = lock::relock(context, &project, old_lock.as_ref(), &Wishes::default(), wanted.yes)?;
    let changes = locking::write(context, &project, old_lock_text.as_deref(), &new)?;
    let written = RepositoryFile::open(root, MANIFEST).and_then(|file| file.replace(Some(old), text));
    if let Err(error) = written {
        locking::restore(root, &new, old_lock_text.as_deref())?;
        return Err(error);
    }
    for change in &changes {
        context.ui.status(change.kind, printable(&change.to_string()));
    }
    Ok(())
}

fn request(package: &str) -> Result<Request> {
    package.parse().map_err(|error: sbx_manifest::lock::NotAPackage| {
        let refusal = CommandError::usage(error.to_string());
        match error.advice() {
            Some(advice) => refusal.with_hint(advice),
            None => refusal,
        }
    })
}

fn report(context: &Context, name: &str, profile: Option<&str>, request: &Request, edited: &PackageEdit) {
    let place = edited.line.map_or_else(|| printable(name), |line| format!("{}:{line}", printable(name)));
    let package = printable(&request.to_string());
    match &edited.change {
        PackageChange::Nothing => context.ui.status("unchanged", format_args!("{package}  {place}")),
        PackageChange::Added => context.ui.status("added", format_args!("{package}  {place}")),
        PackageChange::Replaced(before) => {
            context.ui.status("changed", format_args!("{} → {package}  {place}", printable(before)));
        }
        PackageChange::Removed => context.ui.status("removed", format_args!("{package}  {place}")),
    }
    if let (true, Some(profile)) = (edited.made_packages, profile) {
        context
            .ui
            .detail(format_args!("in the profile `{profile}` these `packages` now stand for the manifest's"));
    }
}
