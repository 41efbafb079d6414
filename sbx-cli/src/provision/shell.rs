//! `sbx shell --at STEP`: a shell where a step runs, for finding out why it fails.

use sbx_manifest::lock::Lock;

use super::{
    Wishes,
    bench::{Bench, Reach},
    builder::Builder,
    machine::{Machine, Workbench},
    progress::StepProgress,
    setup,
    step::{self, Step, Work},
};
use crate::{
    context::Context,
    error::{CommandError, Outcome, Result},
    images,
    project::Project,
    sandbox::control,
    session::{self, End},
};

/// Takes the steps before the one called `name`, boots its machine and runs a shell, or what is wanted, in it. Nothing of what
/// is done there is kept.
///
/// # Errors
/// If there is no such step, or one before it fails.
pub(crate) fn shell_at(
    context: &Context,
    project: &Project,
    lock: Option<&Lock>,
    name: &str,
    wanted: session::Wishes,
) -> Result<Outcome> {
    let steps = step::of(project)?;
    let position = find(&steps, name)?;
    let (before, here) = steps.split_at(position);
    let Some(here) = here.first() else { return Err(CommandError::usage("there is no such step")) };
    let wishes = Wishes::default();
    let store = images::open_store(context)?;
    let locked = lock.map(|lock| lock.machine(project.profile.as_deref()).clone()).unwrap_or_default();
    let (image, locked) = super::image(context, &store, project, locked, &wishes)?;
    let _hold = store.hold().map_err(images::store_failed)?;
    let bench = Bench::new(context, project, store, image, None)?;
    let mut builder = Builder::new(&bench, locked, &wishes);
    before.iter().try_for_each(|step| builder.take(step))?;
    let (machine, wanted) = boot(&builder, here, wanted)?;
    let connection = control::open_agent(&machine.directory().run())?;
    match session::run(connection, wanted)? {
        End::Over(outcome) => Ok(outcome),
        End::Lost { .. } => Err(CommandError::failed("the machine of the step ended")),
    }
}

/// The step that is called `name`: `setup` is the only setup command.
fn find(steps: &[Step], name: &str) -> Result<usize> {
    let named = |step: &Step| step.name == name;
    let mut of_kind = steps.iter().enumerate().filter(|(_, step)| {
        step.name.split_once(':').is_some_and(|(kind, rest)| kind == name || rest == name)
    });
    let only = match (of_kind.next(), of_kind.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    };
    steps.iter().position(named).or(only).ok_or_else(|| {
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        let error = CommandError::usage(format!("there is no step `{}`", crate::ui::printable(name)));
        if names.is_empty() {
            error.with_hint("the manifest has neither packages nor setup commands")
        } else {
            error.with_hint(format!("the steps are {}", names.join(", ")))
        }
    })
}

/// The machine of a step, as far as it is the same whatever the step asks for: the registries can be reached where a client
/// works, and the workspace is there for a setup command.
fn boot(
    builder: &Builder<'_>,
    step: &Step,
    mut wanted: session::Wishes,
) -> Result<(Machine, session::Wishes)> {
    let bench = builder.bench;
    let mut taking = builder.begin(step);
    taking.progress.doing("booting its machine", false);
    let workbench = Workbench::new(bench.context)?;
    let snapshot = builder.snapshot()?;
    let quiet: &StepProgress = &taking.progress;
    let machine = match &step.work {
        Work::Packages(packages) => {
            builder.lay_out_pinned(packages, &workbench)?;
            wanted.user.get_or_insert_with(|| "root".to_owned());
            bench.boot(&snapshot, Reach::Registries, &packages.client.hosts(), workbench, quiet)?
        }
        Work::Setup(_) => {
            setup::copy_workspace(&bench.project.root, &workbench)?;
            let machine = bench.boot(&snapshot, Reach::Manifest, &[], workbench, quiet)?;
            setup::place_workspace(&machine, &mut taking.log)?;
            wanted.directory.get_or_insert_with(|| sbx_proto::SETUP_WORKSPACE.into());
            machine
        }
    };
    taking.progress.clear();
    Ok((machine, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::step::Setup;

    #[test]
    fn a_step_is_found_by_its_name_or_by_its_kind() {
        let step = |name: &str| Step {
            name: name.to_owned(),
            label: "setup",
            title: String::new(),
            place: String::new(),
            work: Work::Setup(Setup { command: String::new(), inputs: Vec::new(), timeout: None }),
        };
        let steps = [step("apt"), step("agent:claude"), step("setup:1"), step("setup:2")];
        for (name, found) in [
            ("apt", Some(0)),
            ("agent", Some(1)),
            ("claude", Some(1)),
            ("setup:2", Some(3)),
            ("setup", None),
            ("x", None),
        ] {
            assert_eq!(find(&steps, name).ok(), found, "{name}");
        }
        assert_eq!(find(&steps[..3], "setup").unwrap(), 2);
    }
}
