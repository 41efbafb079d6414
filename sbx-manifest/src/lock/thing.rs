//! What each line of a lock says, and what it is about.

use super::{
    model::{Installer, LockedAgent, LockedImage, LockedMachine, LockedSetup, LockedSnapshot, Pin},
    request::Request,
};
use crate::model::PackageManager;

/// What a line is about. Two lines about one thing are the same line twice, or contradict each other.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Thing {
    /// The base image.
    Image,
    /// The kernel.
    Kernel,
    /// The guest's initramfs.
    Guest,
    /// The agent of that name.
    Agent(String),
    /// What the manifest asks for.
    Request(Request),
    /// A file that is installed.
    Pin {
        /// By whom.
        manager: Installer,
        /// For whom.
        owner: Option<String>,
        /// Its name.
        name: String,
        /// Of a crate that a tool is made of: there can be several versions of it in one tool.
        version: Option<String>,
        /// For which processor.
        architecture: Option<String>,
    },
    /// The setup command.
    Setup(String),
    /// The snapshot that these inputs make.
    Snapshot(String),
}

/// What a line says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Statement {
    Image(LockedImage),
    Kernel(String),
    Guest(String),
    Agent(LockedAgent),
    Request(Request),
    Pin(Pin),
    Setup(LockedSetup),
    Snapshot(LockedSnapshot),
}

impl Statement {
    /// What it is about.
    pub(super) fn thing(&self) -> Thing {
        match self {
            Self::Image(_) => Thing::Image,
            Self::Kernel(_) => Thing::Kernel,
            Self::Guest(_) => Thing::Guest,
            Self::Agent(agent) => Thing::Agent(agent.name.clone()),
            Self::Request(request) => Thing::Request(request.clone()),
            Self::Pin(pin) => {
                let crates = pin.manager == Installer::Package(PackageManager::Cargo);
                // A wheel of another version is for other tags, and still the same package.
                let is_wheel = pin.manager == Installer::Package(PackageManager::Pip);
                let is_part = crates && pin.owner.as_ref().is_some_and(|owner| *owner != pin.name);
                Thing::Pin {
                    manager: pin.manager,
                    owner: pin.owner.clone(),
                    name: pin.name.clone(),
                    version: is_part.then(|| pin.version.clone()),
                    architecture: pin.architecture.clone().filter(|_| !is_wheel),
                }
            }
            Self::Setup(setup) => Thing::Setup(setup.command.clone()),
            Self::Snapshot(snapshot) => Thing::Snapshot(snapshot.inputs.clone()),
        }
    }
}

impl LockedMachine {
    /// All that is said about this machine, in the order of a lock: sorted, but for what runs in an order.
    pub(super) fn statements(&self) -> Vec<Statement> {
        let mut statements: Vec<_> = self.image.iter().cloned().map(Statement::Image).collect();
        statements.extend(self.kernel.iter().cloned().map(Statement::Kernel));
        statements.extend(self.guest.iter().cloned().map(Statement::Guest));
        statements.extend(sorted(&self.agents).into_iter().map(Statement::Agent));
        statements.extend(sorted(&self.requests).into_iter().map(Statement::Request));
        statements.extend(sorted(&self.pins).into_iter().map(Statement::Pin));
        statements.extend(self.setup.iter().cloned().map(Statement::Setup));
        statements.extend(sorted(&self.snapshots).into_iter().map(Statement::Snapshot));
        statements
    }

    /// Adds what a line says.
    pub(super) fn learn(&mut self, statement: Statement) {
        match statement {
            Statement::Image(image) => self.image = Some(image),
            Statement::Kernel(hash) => self.kernel = Some(hash),
            Statement::Guest(hash) => self.guest = Some(hash),
            Statement::Agent(agent) => self.agents.push(agent),
            Statement::Request(request) => self.requests.push(request),
            Statement::Pin(pin) => self.pins.push(pin),
            Statement::Setup(setup) => self.setup.push(setup),
            Statement::Snapshot(snapshot) => self.snapshots.push(snapshot),
        }
    }
}

/// Each once.
fn sorted<T: Clone + Ord>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort();
    values.dedup();
    values
}
