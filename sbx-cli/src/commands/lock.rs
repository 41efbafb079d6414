//! `sbx lock`.

use sbx_manifest::{
    Fault, Faults,
    lock::{self, Lock, ParsedLock},
};

use crate::{
    approval,
    context::Context,
    error::{CommandError, Outcome, Result},
    locking::{self, LOCK, LockFile},
    network::NetworkPlan,
    project::Project,
    provision::{self, Made, Provisioned, Update, Wishes},
    ui::{printable, short_digest},
};

/// Lines that a comparison of two builds has at most.
const MAX_DIFFERENCES: usize = 100;

/// Pin everything that the machine is built from, exactly, in sandbox.lock
///
/// What is pinned stays as it is, what is missing is looked up, and what sandbox.kdl does not name any more goes. Commit the
/// file: from then on everybody gets the same machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Move pins to what the registries have now: of these packages and agents, of `image`, or all of them
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    /// Change nothing, and exit with 1 if sandbox.lock is not that of sandbox.kdl; for CI
    #[arg(long, conflicts_with_all = ["update", "verify"])]
    check: bool,
    /// Build everything from scratch, and exit with 1 if another snapshot comes of it; lists the files that differ
    #[arg(long, conflicts_with = "update")]
    verify: bool,
    /// Only the profile of that name; otherwise the file and every profile that is built from something else
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Answer yes to everything that would be asked
    #[arg(short, long)]
    yes: bool,
    /// Print JSON: an array of changes, or of faults with --check
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let project = context.project()?;
    if args.check {
        return check(context, &project, args);
    }
    let selected = project.clone().with_profile(&context.ui, args.profile.as_deref())?;
    if args.verify {
        return verify(context, &selected, args);
    }
    let update = update(&selected, args)?;
    let wishes = Wishes { update, ..Wishes::default() };
    let (text, old) = read(context, &project)?;
    let new = match &args.profile {
        Some(profile) => {
            let machine = make(context, &selected, old.as_ref(), &wishes, args.yes)?.machine;
            let mut new = old.unwrap_or_default();
            new.profiles.insert(profile.clone(), machine);
            new
        }
        None => relock(context, &project, old.as_ref(), &wishes, args.yes)?,
    };
    let changes = locking::write(context, &project, text.as_deref(), &new)?;
    if args.json {
        context.ui.json(&changes);
    } else {
        for change in &changes {
            context.ui.status(change.kind, printable(&change.to_string()));
        }
    }
    Ok(Outcome::Done)
}

/// The lock as it is: its text, and what of it does not contradict itself.
pub(super) fn read(context: &Context, project: &Project) -> Result<(Option<Vec<u8>>, Option<Lock>)> {
    let file = LockFile::open(&project.root)?;
    let Some(text) = file.read()? else { return Ok((None, None)) };
    let parsed = lock::recover(&file.name(), &text).map_err(|faults| {
        context.ui.diagnostic(&faults);
        CommandError::reported()
    })?;
    Ok((Some(text), Some(parsed.lock)))
}

/// The lock of a manifest, and of each of its profiles that does not fit the pins of the manifest without one.
pub(super) fn relock(
    context: &Context,
    project: &Project,
    old: Option<&Lock>,
    wishes: &Wishes,
    yes: bool,
) -> Result<Lock> {
    let base = make(context, project, old, wishes, yes)?.machine;
    let mut new = Lock { base, ..Lock::default() };
    let text = new.text();
    let parsed = lock::parse(LOCK, text.as_bytes()).map_err(|faults| unreadable(context, &faults))?;
    let names = project.manifest().profiles.iter().map(|profile| profile.name.value.clone());
    for name in names.collect::<Vec<_>>() {
        let selected = project.clone().with_profile(&context.ui, Some(&name))?;
        if !locking::disagreements(&selected, &parsed)?.is_empty() {
            let machine = make(context, &selected, old, wishes, yes)?.machine;
            new.profiles.insert(name, machine);
        }
    }
    Ok(new)
}

/// Builds what `project` is, after asking for what it wants.
fn make(
    context: &Context,
    project: &Project,
    old: Option<&Lock>,
    wishes: &Wishes,
    yes: bool,
) -> Result<Provisioned> {
    project.refuse_unsupported(&context.ui)?;
    let network = NetworkPlan::of(project.manifest());
    approval::ask(context, project, &project.shares(context)?, network.as_ref(), yes)?;
    provision::provision(context, project, old, wishes)
}

/// What was written by this version and cannot be read by it.
fn unreadable(context: &Context, faults: &Faults) -> CommandError {
    context.ui.diagnostic(faults);
    CommandError::failed("what was resolved cannot be pinned")
}

/// Which pins are to be moved.
fn update(project: &Project, args: &Args) -> Result<Update> {
    let Some(names) = &args.update else { return Ok(Update::None) };
    if names.is_empty() {
        return Ok(Update::All);
    }
    let settings = &project.manifest().settings;
    let mut known = vec!["image".to_owned()];
    known.extend(settings.agents.iter().map(|agent| agent.name.value.clone()));
    for set in settings.packages.iter().flat_map(|packages| &packages.sets) {
        let names = set.names.iter().map(|name| set.manager.package_name(&name.value));
        known.extend(names.flat_map(|name| [name.to_owned(), format!("{}:{name}", set.manager.as_str())]));
    }
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(CommandError::usage(format!("sandbox.kdl has no package or agent `{unknown}`"))
            .with_hint("`sbx lock --update` without a name moves all pins"));
    }
    Ok(Update::Names(names.clone()))
}

/// Says where manifest and lock do not agree.
fn check(context: &Context, project: &Project, args: &Args) -> Result<Outcome> {
    let file = LockFile::open(&project.root)?;
    let Some(text) = file.read()? else {
        if args.json {
            context.ui.json(&[missing(project)]);
        } else {
            context.ui.diagnostic(&missing(project));
        }
        return Ok(Outcome::No);
    };
    let faults = match lock::parse(&file.name(), &text) {
        Ok(parsed) => all_disagreements(context, project, &parsed, args.profile.as_deref())?,
        Err(faults) => faults.iter().cloned().collect(),
    };
    if args.json {
        context.ui.json(&faults);
    } else {
        for fault in &faults {
            context.ui.diagnostic(fault);
        }
    }
    Ok(if faults.is_empty() { Outcome::Done } else { Outcome::No })
}

fn missing(project: &Project) -> Fault {
    let manifest = project.manifest();
    let message = format!("there is no {LOCK}");
    Fault::error(&manifest.source, "lock::missing", manifest.image.span, message, "nothing is pinned")
        .with_help("sbx lock")
}

/// Those of one profile, or of the manifest and of every profile.
fn all_disagreements(
    context: &Context,
    project: &Project,
    parsed: &ParsedLock,
    profile: Option<&str>,
) -> Result<Vec<Fault>> {
    let profiles = match profile {
        Some(profile) => vec![Some(profile.to_owned())],
        None => {
            let names = project.manifest().profiles.iter().map(|profile| Some(profile.name.value.clone()));
            std::iter::once(None).chain(names).collect()
        }
    };
    let mut faults: Vec<Fault> = Vec::new();
    for profile in profiles {
        let selected = project.clone().with_profile(&context.ui, profile.as_deref())?;
        for fault in locking::disagreements(&selected, parsed)? {
            // A profile has what it does not replace from the manifest.
            let known = |other: &Fault| {
                (other.code(), other.span(), other.message()) == (fault.code(), fault.span(), fault.message())
            };
            if !faults.iter().any(known) {
                faults.push(fault);
            }
        }
    }
    Ok(faults)
}

/// Builds everything again, and compares.
fn verify(context: &Context, project: &Project, args: &Args) -> Result<Outcome> {
    locking::require_lock(context, project)?;
    let (_, Some(old)) = read(context, project)? else { return Ok(Outcome::No) };
    let locked = old.machine(project.profile.as_deref());
    let Some(wanted) = locked.snapshot() else {
        return Err(CommandError::usage(format!("{LOCK} has no snapshot of what it pins, as after a merge"))
            .with_hint("`sbx lock` makes it and writes its digest"));
    };
    let wishes = Wishes { rebuild: true, ..Wishes::default() };
    let provisioned = make(context, project, Some(&old), &wishes, args.yes)?;
    if provisioned.machine.snapshot().is_some_and(|made| made == wanted) {
        context
            .ui
            .status("verified", format_args!("{}  built again, and the same", short_digest(&wanted.digest)));
        return Ok(Outcome::Done);
    }
    match locking::other_snapshot(locked, &provisioned.machine) {
        Some(difference) => context.ui.warning(difference),
        None => context.ui.warning(format!("other inputs were used than {LOCK} has")),
    }
    for change in lock::difference(&alone(locked), &alone(&provisioned.machine)) {
        context.ui.status(change.kind, printable(&change.to_string()));
    }
    list_files(context, &provisioned.made)?;
    Ok(Outcome::No)
}

fn alone(machine: &lock::LockedMachine) -> Lock {
    Lock { base: machine.clone(), ..Lock::default() }
}

/// The files that differ between the layers that were there and those that were made now, as data.
fn list_files(context: &Context, made: &[Made]) -> Result<()> {
    let store = crate::images::open_store(context)?;
    let mut left = MAX_DIFFERENCES;
    for Made { step, earlier, layer, .. } in made {
        let Some(earlier) = earlier.as_ref().filter(|earlier| *earlier != layer) else { continue };
        let differences = store.compare_layers(earlier, layer).map_err(crate::images::store_failed)?;
        for difference in differences.iter().take(left) {
            context.ui.data(format_args!("{}  {}", printable(step), printable(&difference.to_string())));
        }
        let hidden = differences.len().saturating_sub(left);
        left = left.saturating_sub(differences.len());
        if hidden > 0 {
            context.ui.note(format_args!("and {hidden} more of {}", printable(step)));
        }
    }
    Ok(())
}
