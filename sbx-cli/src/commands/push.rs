//! `sbx push`.

use sbx_image::{
    Digest, Platform, Reference,
    share::{self, Pushed, SharedSnapshot, SharedStep},
};

use sbx_manifest::{NotARepository, Repository};

use crate::{
    approval,
    context::Context,
    error::{CommandError, Outcome, Result},
    images, locking,
    network::NetworkPlan,
    project::Project,
    provision::{self, Provisioned, Wishes},
    ui::{bytes, printable, short_digest},
};

/// Share the snapshot that sandbox.lock describes, so that others need not build it
///
/// It is built first, if it is not here. From then on `sbx up` takes it from there wherever sandbox.kdl says
/// `share "REPOSITORY"`, and compares it with sandbox.lock. The registry is logged in to as `docker login` left it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to: a repository in a registry, as `ghcr.io/acme/sandboxes`; default: `share` of sandbox.kdl
    #[arg(value_name = "REPOSITORY")]
    repository: Option<String>,
    /// Use the profile of that name in sandbox.kdl
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Answer yes to everything that would be asked
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let project = context.project()?.with_profile(&context.ui, args.profile.as_deref())?;
    let repository = repository(&project, args.repository.as_deref())?;
    locking::require_lock(context, &project)?;
    project.refuse_unsupported(&context.ui)?;
    let network = NetworkPlan::of(project.manifest());
    approval::ask(context, &project, &project.shares(context)?, network.as_ref(), args.yes)?;
    let provisioned = locking::provision(context, &project, &Wishes::default(), true)?;
    if provisioned.made.is_empty() {
        return Err(CommandError::usage("there is nothing to share: sandbox.kdl has nothing but an image")
            .with_hint("`packages { apt \"git\"; }` or `setup \"npm ci\"` make a snapshot of one's own"));
    }
    let content = short_digest(&provisioned.prepared.snapshot.content);
    let Pushed { reference, sent_bytes, was_there } = push(context, &repository, &provisioned)?;
    let what = if was_there { "was there already".to_owned() } else { format!("{} sent", bytes(sent_bytes)) };
    context.ui.status("pushed", format_args!("{content}  {what}"));
    context.ui.data(printable(&reference));
    Ok(Outcome::Done)
}

/// Where to push: what was typed, or what the manifest says.
fn repository(project: &Project, typed: Option<&str>) -> Result<Reference> {
    let share = project.manifest().share.as_ref().map(|share| share.value.as_str());
    let text = typed.or(share).ok_or_else(|| {
        CommandError::usage("sandbox.kdl does not say where snapshots are shared").with_hint(
            "add `share \"ghcr.io/acme/sandboxes\"` to it, or name the repository: `sbx push REPOSITORY`",
        )
    })?;
    // That of the manifest was checked there.
    let repository: Repository = text.parse().map_err(|error: NotARepository| {
        let refused = CommandError::usage(printable(&error.to_string()));
        error.advice().map(str::to_owned).into_iter().fold(refused, CommandError::with_hint)
    })?;
    provision::repository(repository.as_str())
}

fn push(context: &Context, repository: &Reference, provisioned: &Provisioned) -> Result<Pushed> {
    let image = &provisioned.prepared.image;
    let steps = provisioned.made.iter().map(|made| SharedStep {
        key: made.key.clone(),
        layer: made.layer.clone(),
        setup_directories: made.setup_directories.clone(),
    });
    let snapshot = SharedSnapshot {
        inputs: provisioned.machine.key(),
        image: image.manifest_digest.clone(),
        steps: steps.collect(),
    };
    let below: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let options = images::pull_options(context, &Platform::host())?;
    let progress = context.ui.pull_progress();
    let store = images::open_store(context)?;
    let pushed = share::push(&store, repository, &snapshot, &below, &options, &progress);
    let pushed = images::transfer_runtime()?.block_on(pushed);
    progress.finish();
    pushed.map_err(|error| {
        let name = format!("{}/{}", repository.registry(), repository.repository());
        CommandError::failed(format!("cannot push to {}", printable(&name))).with_source(error)
    })
}
