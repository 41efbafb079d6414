//! The steps that a manifest asks for, in their order.

use std::time::Duration;

use sbx_manifest::{
    Manifest, Span,
    lock::{Installer, LockedAgent, Pin, Request},
    model::{Agent, InstallFrom, PackageManager},
};

use super::{client::Client, clients, key::Hasher};
use crate::{
    error::{CommandError, Result},
    project::Project,
};

/// One step, which makes one layer.
#[derive(Debug)]
pub(crate) struct Step {
    /// What `sbx shell --at` calls it: `apt`, `agent:claude`, `setup:1`.
    pub(super) name: String,
    /// The word in front of its line.
    pub(super) label: &'static str,
    /// What it is about: the manager, the agent, the command.
    pub(super) title: String,
    /// Where the manifest says it: `sandbox.kdl:12`.
    pub(super) place: String,
    /// What is done.
    pub(super) work: Work,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Work {
    /// Something is installed by a client.
    Packages(Packages),
    /// A command is run.
    Setup(Setup),
}

/// What a client installs.
#[derive(Debug)]
pub(super) struct Packages {
    /// The client.
    pub(super) client: Box<dyn Client>,
    /// Whose pins these are, if it is an agent.
    pub(super) owner: Option<String>,
    /// The agent, if it is one.
    pub(super) agent: Option<Identity>,
    /// As the manifest writes them.
    pub(super) wanted: Vec<String>,
}

/// What a lock has to say of an agent for its pins to count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    /// As the manifest names it.
    pub(super) name: String,
    /// The version that the manifest wants, if it does.
    pub(super) wanted: Option<String>,
    /// BLAKE3 of what it is.
    pub(super) definition: String,
}

impl Identity {
    /// Whether `locked` is this agent.
    pub(super) fn is(&self, locked: &LockedAgent) -> bool {
        (&self.name, &self.wanted, &self.definition) == (&locked.name, &locked.wanted, &locked.definition)
    }
}

/// A setup command.
#[derive(Debug)]
pub(super) struct Setup {
    /// For the shell of the image.
    pub(super) command: String,
    /// Files and directories that decide whether it has to run again, relative to the manifest.
    pub(super) inputs: Vec<String>,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
}

impl Packages {
    /// Whether `pin` is one of this step's.
    pub(super) fn owns(&self, pin: &Pin) -> bool {
        let of_agent = pin.owner.as_deref().filter(|owner| owner.starts_with(AGENT));
        match &self.owner {
            Some(owner) => of_agent == Some(owner),
            None => of_agent.is_none() && pin.manager == self.client.installer(),
        }
    }

    /// What `sbx lock --update` can call these: packages without their versions, or the agent.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let agent = self.agent.iter().map(|agent| agent.name.clone());
        let requests = self.requests();
        agent
            .chain(requests.into_iter().map(|request| request.manager.package_name(&request.name).to_owned()))
    }

    /// What stands before the colon where two managers have a package of one name.
    pub(super) fn prefix(&self) -> &'static str {
        match (&self.agent, self.client.installer()) {
            (None, Installer::Package(manager)) => manager.as_str(),
            _ => "agent",
        }
    }

    /// What a lock says that was asked for; nothing for an agent, which has a line of its own.
    pub(super) fn requests(&self) -> Vec<Request> {
        let (None, Installer::Package(manager)) = (&self.owner, self.client.installer()) else {
            return Vec::new();
        };
        self.wanted.iter().map(|name| Request { manager, name: name.clone() }).collect()
    }

    /// Everything that decides what comes out, besides what is below.
    pub(super) fn hash(&self, pins: &[Pin], hasher: &mut Hasher) {
        hasher.text(self.owner.as_deref().unwrap_or_default());
        hasher.texts(pins.iter().map(|pin| &pin.hash));
        self.client.install(&self.wanted, pins).hash(hasher);
    }
}

/// The word in front of what is lent to a step, which is no step of the manifest.
pub(super) const TOOLS: &str = "tools";

/// Before the names of agents.
const AGENT: &str = "agent:";

/// The steps of `project`.
///
/// # Errors
/// If it wants something that this version cannot install.
pub(super) fn of(project: &Project) -> Result<Vec<Step>> {
    let manifest = project.manifest();
    let mut steps = Vec::new();
    for manager in PackageManager::ALL {
        let (wanted, span) = packages_of(manifest, manager);
        let Some(span) = span else { continue };
        let what = format!("{} packages", manager.as_str());
        let client = clients::of_manager(manager).ok_or_else(|| impossible(manifest, span, &what))?;
        steps.push(Step {
            name: manager.as_str().to_owned(),
            label: "packages",
            title: manager.as_str().to_owned(),
            place: place(manifest, span),
            work: Work::Packages(Packages { client, owner: None, agent: None, wanted }),
        });
    }
    for agent in by_name(&manifest.settings.agents) {
        let what = format!("the agent {}", agent.name.value);
        let client = clients::of_agent(agent).ok_or_else(|| impossible(manifest, agent.span, &what))?;
        let name = format!("{AGENT}{}", agent.name.value);
        steps.push(Step {
            label: "agent",
            title: agent.name.value.clone(),
            place: place(manifest, agent.span),
            work: Work::Packages(Packages {
                client,
                owner: Some(name.clone()),
                agent: Some(identity(agent)),
                wanted: wanted_of(agent),
            }),
            name,
        });
    }
    for (index, setup) in manifest.settings.setup.iter().enumerate() {
        steps.push(Step {
            name: format!("setup:{}", index.saturating_add(1)),
            label: "setup",
            title: setup.command.value.clone(),
            place: place(manifest, setup.span),
            work: Work::Setup(Setup {
                command: setup.command.value.clone(),
                inputs: setup.inputs.iter().map(|input| input.value.clone()).collect(),
                timeout: setup.timeout_seconds.as_ref().map(|seconds| Duration::from_secs(seconds.value)),
            }),
        });
    }
    Ok(steps)
}

/// The agents that are installed. They have one order, whichever of them is asked for and so comes first: otherwise each would
/// have a machine of its own.
fn by_name(agents: &[Agent]) -> Vec<&Agent> {
    let mut installed: Vec<_> = agents.iter().filter(|agent| agent.definition.install.is_some()).collect();
    installed.sort_by(|one, other| one.name.value.cmp(&other.name.value));
    installed
}

/// What is wanted of `manager`, sorted, and the first place that says so.
fn packages_of(manifest: &Manifest, manager: PackageManager) -> (Vec<String>, Option<Span>) {
    let sets = manifest.settings.packages.iter().flat_map(|packages| &packages.sets);
    let sets: Vec<_> = sets.filter(|set| set.manager == manager).collect();
    let names = sets.iter().flat_map(|set| &set.names).map(|name| name.value.clone());
    let mut wanted: Vec<String> = names.collect();
    wanted.sort_unstable();
    wanted.dedup();
    (wanted, sets.first().map(|set| set.span))
}

fn identity(agent: &Agent) -> Identity {
    let definition = serde_json::to_vec(&agent.definition).unwrap_or_default();
    Identity {
        name: agent.name.value.clone(),
        wanted: agent.version.as_ref().map(|version| version.value.clone()),
        definition: blake3::hash(&definition).to_hex().to_string(),
    }
}

/// What the client of an agent is asked for: its package, with the version that the manifest wants, if it wants one.
fn wanted_of(agent: &Agent) -> Vec<String> {
    let install = agent.definition.install.as_ref();
    let package = match install.map(|install| &install.from) {
        Some(InstallFrom::Package { package, .. }) => &package.value,
        _ => &agent.name.value,
    };
    vec![match &agent.version {
        Some(version) => format!("{package}@{}", version.value),
        None => package.clone(),
    }]
}

fn place(manifest: &Manifest, span: Span) -> String {
    format!("{}:{}", manifest.source.name(), manifest.source.line(span.offset))
}

fn impossible(manifest: &Manifest, span: Span, what: &str) -> CommandError {
    CommandError::usage(format!("{}: this version of sbx cannot install {what}", place(manifest, span)))
}
