//! What a repository may reach outside itself, asked once and remembered.
//!
//! A manifest is somebody else's text. What it mounts from outside its own directory is shown and asked for; a yes is
//! kept in `trust/`, outside the repository, under a hash of exactly what was shown.

use std::{fs, io};

use crate::{
    context::Context,
    error::{CommandError, Result},
    project::Project,
    sandbox::directory::write_atomically,
    shares::ProjectShare,
    ui::printable,
};

/// Asks for what `project` wants outside its directory, unless that was approved before.
///
/// # Errors
/// If the answer is no, or nobody can be asked.
pub(crate) fn ask(context: &Context, project: &Project, shares: &[ProjectShare], yes: bool) -> Result<()> {
    let outside: Vec<_> = shares.iter().filter(|share| !share.host.starts_with(&project.root)).collect();
    if outside.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = outside.iter().map(|share| line(context, share)).collect();
    let path = context.paths.trust().join(key(project, &lines));
    if path.is_file() {
        return Ok(());
    }
    context.ui.note(format_args!(
        "{} wants to reach outside {}:",
        context.paths.display(&project.manifest_path),
        context.paths.display(&project.root)
    ));
    for line in &lines {
        context.ui.note(format_args!("  {}", printable(line)));
    }
    if !yes {
        if !context.ui.can_ask() {
            return Err(CommandError::usage(
                "these mounts were not approved, and there is no terminal to ask at",
            )
            .with_hint("`sbx up --yes` approves them"));
        }
        if !context.ui.confirm("Allow this?") {
            return Err(CommandError::usage("not approved"));
        }
    }
    remember(context, &path, &lines)
}

fn line(context: &Context, share: &ProjectShare) -> String {
    let rights = if share.read_only { "read" } else { "read and write" };
    let host = context.paths.display(&share.host);
    if share.at == share.host {
        format!("{rights}  {host}")
    } else {
        format!("{rights}  {host} at {}", share.at.display())
    }
}

/// Changes with the repository and with everything that was shown.
fn key(project: &Project, lines: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in
        std::iter::once(project.root.as_os_str().as_encoded_bytes()).chain(lines.iter().map(String::as_bytes))
    {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn remember(context: &Context, path: &std::path::Path, lines: &[String]) -> Result<()> {
    let make = || -> io::Result<()> { fs::create_dir_all(context.paths.trust()) };
    make().map_err(|error| CommandError::failed("cannot remember the approval").with_source(error))?;
    write_atomically(path, format!("{}\n", lines.join("\n")).as_bytes())
}
