//! Changed rules, on their way into the sandbox that runs.

use crate::{context::Context, error::Result, project::Project, sandbox::directory::SandboxDirectory};

/// When the rules of the manifest count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Applied {
    /// From the start of the sandbox, which does not run.
    NotRunning,
    /// From the next start of the sandbox, which runs with those that it was started with.
    AtNextUp,
}

/// Has the sandbox of `project` go by the rules that the manifest has now.
///
/// # Errors
/// If the sandbox cannot be found.
pub(crate) fn apply(context: &Context, project: &Project) -> Result<Applied> {
    Ok(send_rules(&context.for_workspace(&project.name(), &project.root)?))
}

/// A sandbox process takes its rules from its plan, once.
fn send_rules(sandbox: &SandboxDirectory) -> Applied {
    if sandbox.is_alive() { Applied::AtNextUp } else { Applied::NotRunning }
}
