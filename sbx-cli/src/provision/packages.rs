//! A step in which a client installs something.
//!
//! ```text
//! pins known? ─no─▶ Online::resolve ─▶ pins ─▶ files here? ─no─▶ Online::fetch ─▶ install, offline ─▶ layer
//! ```
//! Resolving and fetching share a machine, if both are needed.

use std::{collections::HashSet, fs};

use sbx_image::Digest;
use sbx_manifest::lock::Pin;

use super::{
    bench::Reach,
    builder::{Builder, Taking, There},
    hash::Hash,
    key::Hasher,
    machine::Workbench,
    needs::Desk,
    online::Online,
    script::{self, Order},
    step::{Packages, Step},
    turn::Turn,
};
use crate::{
    error::{CommandError, Result},
    ui::plural,
};

/// How often files are fetched that turn out to be damaged when they are taken out.
const FETCHES: usize = 2;

impl Builder<'_> {
    /// Takes a step in which a client installs something.
    ///
    /// # Errors
    /// If it fails, with its place.
    pub(super) fn take_packages(&mut self, step: &Step, packages: &Packages) -> Result<()> {
        let pinned = self.pinned(packages);
        if let Some(pins) = &pinned
            && self.look_for(step, packages, pins)? == There::Used
        {
            self.note(packages, pins.clone());
            return Ok(());
        }
        let here = |pin: &Pin| Hash::parse(&pin.hash).is_some_and(|hash| self.bench.downloads.has(&hash));
        let desk = match &pinned {
            Some(pins) if pins.iter().all(here) => Desk { snapshot: self.snapshot()?, lent: Vec::new() },
            _ => self.desk(step, packages)?,
        };
        let mut taking = self.begin(step);
        let mut online = Online::new(self.bench, packages, desk);
        let mut pins = match pinned {
            Some(pins) => pins,
            None => {
                self.lacking.push(format!("pins of {} {}", step.label, step.title));
                online.resolve(&mut taking, &self.held(packages))?
            }
        };
        // A pin without a hash gets that of its file.
        if pins.iter().any(|pin| Hash::parse(&pin.hash).is_none()) {
            online.fetch(&mut taking, &mut pins)?;
        }
        let earlier = match self.look_for(step, packages, &pins)? {
            There::Used => {
                taking.progress.clear();
                self.note(packages, pins);
                return Ok(());
            }
            There::ToMake { earlier } => earlier,
        };
        let key = self.packages_key(packages, &pins);
        let turn = Turn::take(self, &key, &taking.progress, || online.leave())?;
        if turn.waited && earlier.is_none() && self.look(step, &key)? == There::Used {
            taking.progress.clear();
            self.note(packages, pins);
            return Ok(());
        }
        self.install(&mut taking, packages, &mut pins, online, earlier)?;
        self.note(packages, pins);
        Ok(())
    }

    /// The pins of this step, if they answer what the manifest asks for and are not to be moved.
    pub(super) fn pinned(&self, packages: &Packages) -> Option<Vec<Pin>> {
        let locked = &self.locked;
        let answers = match &packages.agent {
            Some(agent) => locked.agents.iter().any(|locked| agent.is(locked)),
            None => {
                let manager = packages.client.installer();
                let mut asked: Vec<_> = locked
                    .requests
                    .iter()
                    .filter(|request| sbx_manifest::lock::Installer::Package(request.manager) == manager)
                    .collect();
                asked.sort_unstable();
                asked.into_iter().eq(packages.requests().iter())
            }
        };
        let own: Vec<Pin> = locked.pins.iter().filter(|pin| packages.owns(pin)).cloned().collect();
        let moved = packages.names().any(|name| self.moves(packages.prefix(), &name))
            || own.iter().any(|pin| self.moves(packages.prefix(), &pin.name));
        let whole = own.iter().all(|pin| Hash::parse(&pin.hash).is_some());
        (answers && !moved && whole).then_some(own)
    }

    /// The pins of this step that are to be kept when others are looked for.
    fn held(&self, packages: &Packages) -> Vec<Pin> {
        if packages.agent.as_ref().is_some_and(|agent| self.moves("agent", &agent.name)) {
            return Vec::new();
        }
        let own = self.locked.pins.iter().filter(|pin| packages.owns(pin));
        own.filter(|pin| !self.moves(packages.prefix(), &pin.name)).cloned().collect()
    }

    fn packages_key(&self, packages: &Packages, pins: &[Pin]) -> String {
        let mut key = Hasher::new("packages");
        key.text(&self.key);
        packages.hash(pins, &mut key);
        key.finish()
    }

    /// What is in the image already makes no layer.
    fn look_for(&mut self, step: &Step, packages: &Packages, pins: &[Pin]) -> Result<There> {
        if pins.is_empty() {
            return Ok(There::Used);
        }
        let key = self.packages_key(packages, pins);
        self.look(step, &key)
    }

    /// Installs `pins` in a machine without a network.
    fn install(
        &mut self,
        taking: &mut Taking<'_>,
        packages: &Packages,
        pins: &mut [Pin],
        mut online: Online<'_>,
        earlier: Option<Digest>,
    ) -> Result<()> {
        let mut workbench = Workbench::new(self.bench.context)?;
        let mut left = FETCHES;
        loop {
            online.fetch(taking, pins)?;
            if self.lay_out(&workbench, packages, pins)? {
                break;
            }
            left = left.saturating_sub(1);
            if left == 0 {
                return Err(taking.place(
                    CommandError::failed("downloaded files do not stay as they are")
                        .with_hint("the disk under the store may be failing"),
                ));
            }
            workbench = Workbench::new(self.bench.context)?;
        }
        drop(online);
        taking.progress.doing(&format!("installing {}", plural(pins.len(), "package")), true);
        let script = packages.client.install(&packages.wanted, pins);
        let machine = self.bench.boot(&self.snapshot()?, Reach::Nothing, &[], workbench, &taking.progress)?;
        let progress = taking.progress.clone();
        let end = script::run(&machine, &script, &Order::root(), &mut taking.log, &mut |line| {
            progress.output(line);
        });
        let end = end.map_err(|error| taking.place(error))?;
        if !end.succeeded() {
            return Err(taking.failed("the installation failed", &end));
        }
        let key = self.packages_key(packages, pins);
        let added = self.keep(taking, &key, machine, None, earlier)?;
        taking.done(&plural(pins.len(), "package"), &added);
        Ok(())
    }

    /// Lays out what is pinned and here, for somebody who wants to look.
    pub(super) fn lay_out_pinned(&self, packages: &Packages, workbench: &Workbench) -> Result<()> {
        let pins = self.pinned(packages).unwrap_or_default();
        let here = pins
            .into_iter()
            .filter(|pin| Hash::parse(&pin.hash).is_some_and(|hash| self.bench.downloads.has(&hash)));
        self.lay_out(workbench, packages, &here.collect::<Vec<_>>()).map(|_| ())
    }

    /// Lays the files out for a machine; false if one is damaged, which is gone then.
    fn lay_out(&self, workbench: &Workbench, packages: &Packages, pins: &[Pin]) -> Result<bool> {
        let downloads = &self.bench.downloads;
        // What does not fit on the machine's disk is not inflated on the host's.
        let mut room_bytes = self.bench.project.disk_bytes();
        let mut names = HashSet::new();
        for pin in pins {
            let name = packages.client.file_name(pin);
            let path = workbench.input().join(&name);
            let Some(hash) = Hash::parse(&pin.hash) else { continue };
            // A package of npm can be at several places.
            if !names.insert(name) {
                continue;
            }
            let there = if packages.client.wants_inflated() {
                downloads.lay_out_inflated(&hash, &path, room_bytes)
            } else {
                downloads.lay_out(&hash, &path)
            };
            let there = there.map_err(|error| {
                CommandError::failed(format!("cannot write {}", path.display())).with_source(error)
            })?;
            room_bytes = room_bytes.saturating_sub(fs::metadata(&path).map_or(0, |file| file.len()));
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
