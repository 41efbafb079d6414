//! `sandbox.lock`: read, held against the manifest, and written.
//!
//! ```text
//! sbx up             no lock: made, if there is anything to pin · a lock: never changed
//! sbx up --locked    a lock that fits the manifest, and the snapshot that it says, or an error with the line
//! sbx lock           what the lock lacks is resolved, what nobody wants any more goes
//! ```
//! The text itself is `sbx_manifest::lock`'s.

mod attributes;
mod file;

use std::path::Path;

use sbx_image::Platform;
use sbx_manifest::{
    Fault,
    lock::{self, Change, Lock, LockedMachine, ParsedLock, Present},
};

pub(crate) use self::file::{LOCK, LockFile};
use crate::{
    artifacts,
    context::Context,
    error::{CommandError, Result},
    project::Project,
    provision::{self, Provisioned, Wishes, inputs},
    ui::{plural, printable, short_digest},
};

/// Makes the snapshot of `project` for `sbx up`, by the lock if there is one, which stays as it is. Without one, the first
/// lock is written.
///
/// # Errors
/// If a step fails; with `locked`, also if the lock is not that of the manifest, or another snapshot comes of it.
pub(crate) fn provision(
    context: &Context,
    project: &Project,
    wishes: &Wishes,
    locked: bool,
) -> Result<Provisioned> {
    let Some(parsed) = LockFile::open(&project.root)?.parse(&context.ui)? else {
        if locked {
            return Err(missing());
        }
        let provisioned = provision::provision(context, project, None, wishes)?;
        first_lock(context, project, &provisioned.machine);
        return Ok(provisioned);
    };
    if locked {
        require(context, project, &parsed)?;
    }
    let provisioned = provision::provision(context, project, Some(&parsed.lock), wishes)?;
    if !provisioned.lacking.is_empty() {
        let lacking: Vec<_> = provisioned.lacking.iter().map(|what| printable(what)).collect();
        context.ui.warning(format!("{LOCK} lacks {}; `sbx lock` writes it", lacking.join(", ")));
    }
    let machine = parsed.lock.machine(project.profile.as_deref());
    if let Some(difference) = other_snapshot(machine, &provisioned.machine) {
        if locked {
            return Err(CommandError::failed(difference)
                .with_hint("`sbx lock --verify` builds it again and lists the files that differ"));
        }
        context.ui.warning(difference);
    }
    Ok(provisioned)
}

/// Refuses a project whose lock is not there, or not that of its manifest; where, is printed.
///
/// # Errors
/// If so.
pub(crate) fn require_lock(context: &Context, project: &Project) -> Result<()> {
    let parsed = LockFile::open(&project.root)?.parse(&context.ui)?.ok_or_else(missing)?;
    require(context, project, &parsed)
}

fn require(context: &Context, project: &Project, parsed: &ParsedLock) -> Result<()> {
    let faults = disagreements(project, parsed)?;
    for fault in &faults {
        context.ui.diagnostic(fault);
    }
    if faults.is_empty() { Ok(()) } else { Err(CommandError::reported()) }
}

fn missing() -> CommandError {
    CommandError::usage(format!("there is no {LOCK}")).with_hint("`sbx lock` writes it")
}

/// Where the manifest, with its profile, and the lock do not agree.
///
/// # Errors
/// If the inputs of a setup command cannot be read.
pub(crate) fn disagreements(project: &Project, parsed: &ParsedLock) -> Result<Vec<Fault>> {
    let (platform, setup) = (Platform::host().to_string(), inputs::of(project)?);
    let present = Present {
        platform: Some(&platform),
        kernel: Some(artifacts::KERNEL_KEY),
        guest: Some(artifacts::GUEST_KEY),
        setup: &setup,
    };
    Ok(lock::check(project.manifest(), project.profile.as_deref(), parsed, &present))
}

/// What to say if the lock has another snapshot for the very inputs that were used.
pub(crate) fn other_snapshot(locked: &LockedMachine, made: &LockedMachine) -> Option<String> {
    let key = made.key();
    let wanted = locked.snapshots.iter().find(|snapshot| snapshot.inputs == key)?;
    let got = made.snapshot().filter(|got| got.digest != wanted.digest)?;
    Some(format!(
        "the snapshot is {}, and {LOCK} has {} for the same inputs",
        short_digest(&got.digest),
        short_digest(&wanted.digest)
    ))
}

/// Writes the first lock of a repository, unless there is nothing in it but an image, or an agent that only the command line
/// names. A directory that cannot be written to is no reason not to start.
fn first_lock(context: &Context, project: &Project, machine: &LockedMachine) {
    let only_image = machine.requests.is_empty() && machine.agents.is_empty() && machine.setup.is_empty();
    if only_image || project.agent.is_some() {
        return;
    }
    let mut lock = Lock::default();
    match &project.profile {
        None => lock.base = machine.clone(),
        // The rest of the file is pinned when it is used, or by `sbx lock`.
        Some(profile) => {
            lock.profiles.insert(profile.clone(), machine.clone());
        }
    }
    if let Err(error) = write(context, project, None, &lock) {
        context.ui.warning(format!("{}; `sbx lock` writes it", error.chain().join(": ")));
    }
}

/// Writes `new` in the place of the text `old`, if it is another, and says what changed.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(
    context: &Context,
    project: &Project,
    old: Option<&[u8]>,
    new: &Lock,
) -> Result<Vec<Change>> {
    let text = new.text();
    if old == Some(text.as_bytes()) {
        return Ok(Vec::new());
    }
    // What cannot be read again must not stand in the place of a lock.
    lock::parse(LOCK, text.as_bytes()).map_err(|faults| {
        context.ui.diagnostic(&faults);
        CommandError::failed("what was resolved cannot be pinned")
    })?;
    let before = old.and_then(|old| lock::recover(LOCK, old).ok()).map(|parsed| parsed.lock);
    LockFile::open(&project.root)?.replace(old, text.as_bytes())?;
    let pins = new.base.pins.len().saturating_add(new.profiles.values().map(|own| own.pins.len()).sum());
    context.ui.status("lock", format_args!("{LOCK}  {} pinned", plural(pins, "package")));
    if old.is_none() {
        attributes::ask_for_union(context, &project.root);
        return Ok(lock::difference(&Lock::default(), new));
    }
    Ok(lock::difference(&before.unwrap_or_default(), new))
}

/// Puts the text `old` back in the place of `new`.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn restore(root: &Path, new: &Lock, old: Option<&[u8]>) -> Result<()> {
    let file = LockFile::open(root)?;
    match old {
        Some(old) => file.replace(Some(new.text().as_bytes()), old),
        None => file.remove(),
    }
}
