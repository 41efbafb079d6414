//! Programs that packages are asked for with, and what is done where the image has none.
//!
//! ```text
//! image, steps before ─▶ has it ─▶ asked there
//!                     └▶ has it not ─▶ an agent that brings what it runs on: on top, for as long as it is asked for, from apt
//!                                   └▶ anything else: an error, before any machine boots
//! ```
//! What is lent so is installed as any package is, in a machine without a network, but nothing of it is in the snapshot.

use sbx_image::Snapshot;
use sbx_manifest::model::PackageManager;

use super::{
    Wishes,
    builder::Builder,
    client::Needed,
    clients,
    step::{Packages, Step, TOOLS, Work},
};
use crate::{
    error::{CommandError, Result},
    images::{self, store_failed},
};

/// Where programs are looked for if the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Managers that have what is missing, by the programs that tell that an image has them. What apk has would be of no use to an
/// agent: the node that it brings is for another C library.
const APT: (&str, PackageManager) = ("apt-get", PackageManager::Apt);
const MANAGERS: [(&str, PackageManager); 2] = [APT, ("apk", PackageManager::Apk)];

/// Where packages are asked for.
#[derive(Debug)]
pub(super) struct Desk {
    /// The file system.
    pub(super) snapshot: Snapshot,
    /// Programs that only this one has, not the one in which the packages will be installed.
    pub(super) lent: Vec<&'static str>,
}

impl Builder<'_> {
    /// Whether the steps without pins have, or will have, what they are asked with.
    ///
    /// # Errors
    /// If not, at the place of the step.
    pub(super) fn check_needs(&self, steps: &[Step]) -> Result<()> {
        for (index, step) in steps.iter().enumerate() {
            let Work::Packages(packages) = &step.work else { continue };
            let Some(needed) = packages.client.needed() else { continue };
            let mut earlier = steps.iter().take(index).flat_map(names);
            if earlier.any(|name| needed.comes_with(name)) || self.pinned(packages).is_some() {
                continue;
            }
            let is_there = self.has(needed.program)? || needed.can_be_lent && self.has(APT.0)?;
            if !is_there {
                return Err(self.missing(step, &needed)?);
            }
        }
        Ok(())
    }

    /// Where the packages of `step` are asked for.
    ///
    /// # Errors
    /// If what they are asked with cannot be lent.
    pub(super) fn desk(&self, step: &Step, packages: &Packages) -> Result<Desk> {
        let needed = packages.client.needed().filter(|needed| needed.can_be_lent);
        if let Some(needed) = needed
            && !self.has(needed.program)?
            && self.has(APT.0)?
        {
            let mut lent = vec![needed.program];
            for program in needed.with {
                if !self.has(program)? {
                    lent.push(*program);
                }
            }
            return Ok(Desk { snapshot: self.lend(step, &needed)?, lent });
        }
        Ok(Desk { snapshot: self.snapshot()?, lent: Vec::new() })
    }

    fn lend(&self, step: &Step, needed: &Needed) -> Result<Snapshot> {
        let (_, manager) = APT;
        let client = clients::of_manager(manager).ok_or_else(|| CommandError::failed("nobody lends it"))?;
        let wanted = vec![needed.package.to_owned()];
        let tools = Step {
            name: format!("{TOOLS}:{}", needed.package),
            label: TOOLS,
            title: format!("{} {} for {}", manager.as_str(), needed.package, step.title),
            place: step.place.clone(),
            work: Work::Packages(Packages { client, owner: None, agent: None, wanted }),
        };
        let wishes = Wishes::default();
        let mut aside = self.aside(&wishes);
        aside.take(&tools)?;
        aside.snapshot()
    }

    /// Whether the layers so far have a program.
    fn has(&self, program: &str) -> Result<bool> {
        let environment = images::environment(&self.bench.image);
        let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(PATH);
        let directories: Vec<&str> = path.split(':').filter(|directory| !directory.is_empty()).collect();
        self.bench.store.has_program(&self.layers, &directories, program).map_err(store_failed)
    }

    fn missing(&self, step: &Step, needed: &Needed) -> Result<CommandError> {
        let Needed { program, package, image, .. } = needed;
        let mut error = CommandError::failed(format!("the image has no {program}, which installs it"))
            .at(&format!("{}: {} {}", step.place, step.label, step.title));
        for (manager, name) in MANAGERS {
            if self.has(manager)? {
                error = error.with_hint(format!("add `packages {{ {} \"{package}\"; }}`", name.as_str()));
                break;
            }
        }
        Ok(error.with_hint(format!("an image that has it: `image \"{image}\"`")))
    }
}

/// What a step wants of a package manager.
fn names(step: &Step) -> &[String] {
    match &step.work {
        Work::Packages(packages) => &packages.wanted,
        Work::Setup(_) => &[],
    }
}
