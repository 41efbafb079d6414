//! Changed rules, on their way into the sandbox that runs.

use super::plan::NetworkPlan;
use crate::{
    approval,
    context::Context,
    error::Result,
    project::Project,
    sandbox::{
        control::{self, NetworkAnswer, NetworkCall},
        directory::SandboxDirectory,
        plan::Plan,
        state::State,
    },
};

/// When the rules of the manifest count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Applied {
    /// From the start of the sandbox, which does not run.
    NotRunning,
    /// From now on.
    Now,
    /// From the next start of the sandbox, which was started without a network.
    AtNextStart,
    /// From the next `sbx up`, since the manifest wants more than these rules that was not approved.
    NotApproved,
}

/// Has the sandbox of `project` go by the rules that the manifest has now, of which the user has just written `added`
/// and so approved.
///
/// # Errors
/// If the sandbox or the approval cannot be read or written.
pub(crate) fn apply(context: &Context, project: Project, added: &[String]) -> Result<Applied> {
    let directory = context.for_workspace(&project.name(), &project.root)?;
    let (profile, agent) =
        State::read(&directory)?.map(|state| (state.profile, state.agent)).unwrap_or_default();
    let project =
        project.with_profile(&context.ui, profile.as_deref())?.with_agent(context, agent.as_deref())?;
    let network = NetworkPlan::of(project.manifest());
    let approved = approval::extend(context, &project, &project.shares(context)?, network.as_ref(), added)?;
    if !directory.is_alive() {
        Ok(Applied::NotRunning)
    } else if approved {
        send(&directory, network)
    } else {
        Ok(Applied::NotApproved)
    }
}

/// Has the sandbox in `directory`, which runs, go by the rules of `project`, if they are others and approved; whether
/// that was so.
///
/// # Errors
/// If they are not approved, or the plan of the sandbox cannot be read or written.
pub(crate) fn follow(
    context: &Context,
    project: &Project,
    directory: &SandboxDirectory,
    yes: bool,
) -> Result<bool> {
    let wanted = NetworkPlan::of(project.manifest());
    let Some(running) = Plan::read(directory)?.network else { return Ok(false) };
    if wanted.clone().unwrap_or_default().has_same_rules(&running) {
        return Ok(false);
    }
    approval::ask(context, project, &project.shares(context)?, wanted.as_ref(), yes)?;
    Ok(send(directory, wanted)? == Applied::Now)
}

/// Sends the rules, and notes them in the plan: that is what the next comparison is made with.
fn send(directory: &SandboxDirectory, wanted: Option<NetworkPlan>) -> Result<Applied> {
    let mut plan = Plan::read(directory)?;
    let Some(running) = &mut plan.network else { return Ok(Applied::AtNextStart) };
    let NetworkPlan { default, rules, registries, .. } = wanted.unwrap_or_default();
    (running.default, running.rules, running.registries) = (default, rules.clone(), registries.clone());
    match control::network(&directory.run(), NetworkCall::SetRules { default, rules, registries }) {
        Some(NetworkAnswer::Done) => plan.write(directory).map(|()| Applied::Now),
        Some(NetworkAnswer::NoNetwork) => Ok(Applied::AtNextStart),
        _ => Ok(Applied::NotRunning),
    }
}
