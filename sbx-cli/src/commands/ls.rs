//! `sbx ls`.

use serde::Serialize;

use crate::{
    context::Context,
    error::{Outcome, Result},
    sandbox::{
        directory::{self, SandboxDirectory},
        state::{State, now},
    },
    ui::{Table, age, binary_size, printable},
};

/// List the sandboxes of this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One sandbox, with the keys that `--json` promises.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    status: &'static str,
    since: u64,
    image: String,
    image_digest: String,
    snapshot: String,
    engine: String,
    cpus: u8,
    memory_bytes: u64,
    disk_bytes: u64,
    workspace: String,
    /// `direct` or `clone`.
    mode: &'static str,
    created: u64,
    reason: Option<String>,
}

impl Row {
    /// Of the sandbox in `directory`.
    pub(crate) fn new(directory: &SandboxDirectory, state: State) -> Self {
        Self {
            name: directory.name(),
            reason: state.reason_seen(directory),
            status: state.phase_seen(directory).name(),
            since: state.since,
            image: state.image,
            image_digest: state.image_digest,
            snapshot: state.snapshot,
            engine: state.engine,
            cpus: state.vcpus,
            memory_bytes: u64::from(state.memory_mib) << 20,
            disk_bytes: state.disk_bytes,
            workspace: state.workspace.display().to_string(),
            mode: if state.clone { "clone" } else { "direct" },
            created: state.created,
        }
    }

    /// Where the workspace is, and whether the sandbox has a copy of it.
    pub(crate) fn workspace_line(&self, context: &Context) -> String {
        let workspace = context.paths.display(self.workspace.as_ref());
        if self.mode == "clone" { format!("{workspace} (clone)") } else { workspace }
    }

    /// `running 5 minutes`, or how it ended.
    pub(crate) fn status_line(&self) -> String {
        let age = age(now().saturating_sub(self.since));
        match &self.reason {
            Some(reason) => format!("{} {age}: {}", self.status, printable(reason)),
            None => format!("{} {age}", self.status),
        }
    }
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let mut rows = Vec::new();
    for directory in directory::list(&context.paths.sandboxes())? {
        match State::read(&directory) {
            Ok(Some(state)) => rows.push(Row::new(&directory, state)),
            Ok(None) => {}
            Err(error) => context.ui.warning(error.chain().join(": ")),
        }
    }
    if args.json {
        context.ui.json(&rows);
        return Ok(Outcome::Done);
    }
    if rows.is_empty() {
        context.ui.note("no sandboxes; `sbx up` in a repository with a sandbox.kdl makes one");
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["name", "status", "image", "cpus", "memory", "workspace"]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.status_line(),
            printable(&row.image),
            row.cpus.to_string(),
            binary_size(row.memory_bytes),
            row.workspace_line(context),
        ]);
    }
    context.ui.data(table);
    Ok(Outcome::Done)
}
