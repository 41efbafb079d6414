//! Whether a lock is that of a manifest.

use std::collections::{BTreeMap, HashSet};

use super::{
    model::{Installer, LockedMachine, LockedSetup},
    read::ParsedLock,
    request::Request,
    thing::Thing,
};
use crate::{
    fault::Fault,
    model::{Agent, Manifest, PackageManager},
    span::Span,
    types::shorten,
};

/// The lock does not have something of the manifest.
const LACKS: &str = "lock::lacks";

/// The lock has it for something else.
const CHANGED: &str = "lock::changed";

/// The lock has what the manifest has no more.
const GONE: &str = "lock::gone";

/// What neither the manifest nor the lock knows. What is none is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present<'p> {
    /// The platform of a manifest that names none.
    pub platform: Option<&'p str>,
    /// Hash of this version's kernel.
    pub kernel: Option<&'p str>,
    /// Hash of this version's guest.
    pub guest: Option<&'p str>,
    /// What the inputs of setup commands are now.
    pub setup: &'p [LockedSetup],
}

/// Where `manifest`, with `profile` applied, and a lock do not agree: one fault for each thing, at the node of the manifest
/// or at the line of the lock, with the other's place in it. None, if the machine can be made from the lock alone.
#[must_use]
pub fn check(
    manifest: &Manifest,
    profile: Option<&str>,
    parsed: &ParsedLock,
    present: &Present<'_>,
) -> Vec<Fault> {
    let own = profile.filter(|name| parsed.lock.profiles.contains_key(*name));
    let machine = parsed.lock.machine(own);
    let mut check = Check { manifest, parsed, machine, profile: own, faults: Vec::new() };
    check.image(present);
    check.agents();
    check.requests();
    check.owners();
    check.setup(present);
    check.program(present);
    check.faults
}

struct Check<'c> {
    manifest: &'c Manifest,
    parsed: &'c ParsedLock,
    machine: &'c LockedMachine,
    /// The profile whose lines these are.
    profile: Option<&'c str>,
    faults: Vec<Fault>,
}

impl Check<'_> {
    /// A fault at a node of the manifest.
    fn at_node(&mut self, code: &'static str, span: Span, message: String, label: String) {
        let fault = Fault::error(&self.manifest.source, code, span, message, label);
        self.report(fault);
    }

    /// A fault at a line of the lock.
    fn at_line(&mut self, code: &'static str, thing: &Thing, message: String, label: &str) {
        let span = self.parsed.place(self.profile, thing).unwrap_or_default();
        let fault = Fault::error(&self.parsed.source, code, span, message, label);
        self.report(fault);
    }

    fn report(&mut self, fault: Fault) {
        let command = match self.profile {
            Some(profile) => format!("sbx lock --profile {profile}"),
            None => "sbx lock".to_owned(),
        };
        self.faults.push(fault.with_help(command));
    }

    fn lacks(&mut self, span: Span, what: &str) {
        let lock = self.parsed.source.name();
        self.at_node(LACKS, span, format!("{lock} lacks {what}"), "not pinned".to_owned());
    }

    /// What the lock has for it, and where.
    fn but(&self, thing: &Thing, value: &str) -> String {
        let place = self.parsed.line(self.profile, thing);
        format!("{} has {value}", place.unwrap_or_else(|| self.parsed.source.name().to_owned()))
    }

    fn image(&mut self, present: &Present<'_>) {
        let image = &self.manifest.image;
        let Some(locked) = &self.machine.image else {
            return self.lacks(image.reference.span, "the image");
        };
        let lock = self.parsed.source.name();
        if locked.reference != image.reference.value {
            let label = self.but(&Thing::Image, &format!("`{}`", locked.reference));
            self.at_node(CHANGED, image.reference.span, format!("{lock} is for another image"), label);
        }
        let platform = image.platform.as_ref();
        let wanted = platform.map(|platform| platform.value.as_str()).or(present.platform);
        // What is wanted need not name the variant.
        let fits = |wanted: &str| {
            locked.platform.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if wanted.is_some_and(|wanted| !fits(wanted)) {
            let label = self.but(&Thing::Image, &format!("`{}`", locked.platform));
            let span = platform.map_or(image.reference.span, |platform| platform.span);
            self.at_node(CHANGED, span, format!("{lock} is for another platform"), label);
        }
    }

    fn agents(&mut self) {
        let manifest = self.manifest;
        for agent in manifest.settings.agents.iter().filter(|agent| is_installed(agent)) {
            let name = &agent.name.value;
            let Some(locked) = self.machine.agents.iter().find(|locked| locked.name == *name) else {
                self.lacks(agent.name.span, &format!("the agent `{name}`"));
                continue;
            };
            let wanted = agent.version.as_ref();
            if wanted.map(|version| &version.value) != locked.wanted.as_ref() {
                let was = locked
                    .wanted
                    .as_ref()
                    .map_or_else(|| "any version".to_owned(), |wanted| format!("`{wanted}`"));
                let label = self.but(&Thing::Agent(name.clone()), &was);
                let span = wanted.map_or(agent.name.span, |version| version.span);
                let message = format!("another version of `{name}` is asked for than was pinned");
                self.at_node(CHANGED, span, message, label);
            }
        }
        for locked in &self.machine.agents {
            if !self.has_agent(&locked.name) {
                let thing = Thing::Agent(locked.name.clone());
                let message = format!("the agent `{}` is pinned, and not in the manifest", locked.name);
                self.at_line(GONE, &thing, message, "nobody's");
            }
        }
    }

    fn has_agent(&self, name: &str) -> bool {
        self.manifest.settings.agents.iter().any(|agent| agent.name.value == name && is_installed(agent))
    }

    fn requests(&mut self) {
        let sets = self.manifest.settings.packages.iter().flat_map(|packages| &packages.sets);
        let wanted: Vec<_> = sets
            .flat_map(|set| {
                set.names
                    .iter()
                    .map(|name| (Request { manager: set.manager, name: name.value.clone() }, name.span))
            })
            .collect();
        let locked: HashSet<_> = self.machine.requests.iter().collect();
        for (request, span) in &wanted {
            if locked.contains(request) {
                continue;
            }
            // The same package in another version is one fault, not two.
            let other = self.machine.requests.iter().find(|other| other.is_about(request));
            match other {
                Some(other) => {
                    let label = self.but(&Thing::Request(other.clone()), &format!("`{}`", other.name));
                    self.at_node(CHANGED, *span, format!("`{}` is not what was pinned", request.name), label);
                }
                None => self.lacks(*span, &format!("`{request}`")),
            }
        }
        let machine = self.machine;
        for request in &machine.requests {
            let has = wanted.iter().any(|(wanted, _)| wanted.is_about(request));
            if !has {
                let message = format!("`{request}` is pinned, and not in the manifest");
                self.at_line(GONE, &Thing::Request(request.clone()), message, "nobody's");
            }
        }
    }

    /// Pins for agents and tools that are not there; one fault for each of those, at its first pin.
    fn owners(&mut self) {
        let machine = self.machine;
        let cargo = |request: &&Request| request.manager == PackageManager::Cargo;
        let tools: HashSet<_> = machine.requests.iter().filter(cargo).map(Request::package).collect();
        let mut orphans = BTreeMap::new();
        for pin in &machine.pins {
            let Some(owner) = pin.owner.as_deref() else { continue };
            let known = match owner.strip_prefix("agent:") {
                // An agent that is pinned and gone was reported.
                Some(agent) => {
                    self.has_agent(agent) || machine.agents.iter().any(|locked| locked.name == agent)
                }
                None => pin.manager == Installer::Package(PackageManager::Cargo) && tools.contains(owner),
            };
            if !known {
                orphans.entry(owner).or_insert(pin);
            }
        }
        for (owner, pin) in orphans {
            let thing = super::thing::Statement::Pin(pin.clone()).thing();
            let message = format!("packages are pinned for `{owner}`, which is not in the manifest");
            self.at_line(GONE, &thing, message, "the first of them");
        }
    }

    fn setup(&mut self, present: &Present<'_>) {
        let (manifest, machine) = (self.manifest, self.machine);
        for setup in &manifest.settings.setup {
            let command = &setup.command.value;
            let Some(locked) = machine.setup.iter().find(|locked| locked.command == *command) else {
                self.lacks(setup.command.span, "this setup command");
                continue;
            };
            let now = present.setup.iter().find(|now| now.command == *command);
            if now.is_some_and(|now| now.inputs != locked.inputs) {
                let label = self.but(&Thing::Setup(command.clone()), "those of before");
                let span = setup.inputs.first().map_or(setup.command.span, |input| input.span);
                self.at_node(
                    CHANGED,
                    span,
                    "the inputs of this setup command have changed".to_owned(),
                    label,
                );
            }
        }
        for locked in &machine.setup {
            if manifest.settings.setup.iter().all(|setup| setup.command.value != locked.command) {
                let message =
                    format!("the setup command `{}` is not in the manifest", shorten(&locked.command));
                self.at_line(GONE, &Thing::Setup(locked.command.clone()), message, "nobody's");
            }
        }
    }

    /// Kernel and guest are parts of sbx itself.
    fn program(&mut self, present: &Present<'_>) {
        for (thing, locked, own, what) in [
            (Thing::Kernel, &self.machine.kernel, present.kernel, "kernel"),
            (Thing::Guest, &self.machine.guest, present.guest, "guest"),
        ] {
            if let (Some(locked), Some(own)) = (locked, own)
                && locked != own
            {
                let message = format!("this version of sbx has another {what} than the one that wrote this");
                self.at_line(CHANGED, &thing, message, &format!("here it is {own}"));
            }
        }
    }
}

/// Whether there is anything to pin: a shell is in every image, and so may be a command of one's own.
fn is_installed(agent: &Agent) -> bool {
    agent.definition.install.is_some()
}
