//! Takes the steps of a machine one after the other, and keeps account of what was used.

use sbx_image::{
    Digest, Snapshot,
    share::SharedStep,
    store::{AddedLayer, StepRecord},
};
use sbx_manifest::lock::{LockedAgent, LockedMachine, LockedSetup, Pin};

use super::{
    Wishes,
    bench::Bench,
    capture,
    key::Hasher,
    machine::Machine,
    progress::StepProgress,
    script::{End, Log},
    shared::Shared,
    step::{Packages, Step, TOOLS, Work},
};
use crate::{
    error::{CommandError, Result},
    images::store_failed,
    ui::bytes,
};

/// The steps taken so far.
#[derive(Debug)]
pub(super) struct Builder<'b> {
    /// What they have in common.
    pub(super) bench: &'b Bench<'b>,
    /// What is wanted besides.
    pub(super) wishes: &'b Wishes,
    /// What was locked, as far as it is about this image.
    pub(super) locked: LockedMachine,
    /// The layers, lowest first: the image's, and one for each step.
    pub(super) layers: Vec<Digest>,
    /// Names everything that `layers` come from.
    pub(super) key: String,
    /// Directories that setup commands made in the workspace.
    pub(super) setup_directories: Vec<String>,
    /// What was used.
    pub(super) used: LockedMachine,
    /// What the lock did not have.
    pub(super) lacking: Vec<String>,
    /// What each step made.
    pub(super) made: Vec<Made>,
    /// Whether any step had to be taken.
    pub(super) worked: bool,
    /// What others have pushed.
    shared: Shared,
}

/// The layer of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Made {
    /// The step, as `sbx shell --at` calls it.
    pub(crate) step: String,
    /// Its key in the store.
    pub(crate) key: String,
    /// The layer that was there before: with [`Wishes::rebuild`] only another one than `layer`, if the step does not make the
    /// same every time.
    pub(crate) earlier: Option<Digest>,
    /// The layer.
    pub(crate) layer: Digest,
    /// Directories that it made in the workspace.
    pub(crate) setup_directories: Vec<String>,
}

/// Whether the layer of a step is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum There {
    /// It is, and was put on top of the others.
    Used,
    /// It has to be made.
    ToMake {
        /// The one that is there, which is to be compared.
        earlier: Option<Digest>,
    },
}

/// A step that is being taken.
#[derive(Debug)]
pub(super) struct Taking<'t> {
    /// The step.
    pub(super) step: &'t Step,
    /// Its line on the terminal.
    pub(super) progress: StepProgress,
    /// What its programs say.
    pub(super) log: Log,
}

impl<'b> Builder<'b> {
    /// No step was taken yet.
    pub(super) fn new(bench: &'b Bench<'b>, locked: LockedMachine, wishes: &'b Wishes) -> Self {
        let image = &bench.image;
        let mut key = Hasher::new("image");
        key.text(&image.manifest_digest.to_string()).text(&image.platform.to_string());
        Self {
            bench,
            wishes,
            locked,
            layers: image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            key: key.finish(),
            setup_directories: Vec::new(),
            used: LockedMachine::default(),
            lacking: Vec::new(),
            made: Vec::new(),
            worked: false,
            shared: Shared::new(),
        }
    }

    /// Another one on the same layers, with what it does not have to answer for: nothing of what it makes is in the snapshot.
    pub(super) fn aside<'a>(&'a self, wishes: &'a Wishes) -> Builder<'a> {
        Builder {
            layers: self.layers.clone(),
            key: self.key.clone(),
            ..Builder::new(self.bench, LockedMachine::default(), wishes)
        }
    }

    /// Takes a step: its layer is used if it is there, and made if it is not.
    ///
    /// # Errors
    /// If it fails, with its place.
    pub(super) fn take(&mut self, step: &Step) -> Result<()> {
        match &step.work {
            Work::Packages(packages) => self.take_packages(step, packages),
            Work::Setup(setup) => self.take_setup(step, setup),
        }
    }

    /// The snapshot of the layers so far.
    ///
    /// # Errors
    /// If it cannot be built.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        self.bench
            .store
            .snapshot_of(&self.layers)
            .map_err(|error| CommandError::failed("cannot make the snapshot below a step").with_source(error))
    }

    /// Begins to take `step`.
    pub(super) fn begin<'t>(&self, step: &'t Step) -> Taking<'t> {
        let progress = StepProgress::start(&self.bench.context.ui, step.label, &step.title);
        let name = Hasher::new("log").text(&self.key).text(&step.name).finish();
        let name = name.get(..16).unwrap_or(&name);
        let log = Log::new(self.bench.log(&format!("{}-{name}", step.name.replace(':', "-"))));
        Taking { step, progress, log }
    }

    /// Uses the layer of the step with this key, if it was taken on these layers before and is not to be made again.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn look(&mut self, step: &Step, key: &str) -> Result<There> {
        let record = self.bench.store.step(key).map_err(store_failed)?;
        let record = record.filter(|record| record.below == self.layers);
        match record {
            Some(record) if self.wishes.rebuild => Ok(There::ToMake { earlier: Some(record.layer) }),
            Some(record) => {
                self.add(step, key, record, None);
                Ok(There::Used)
            }
            None if self.wishes.rebuild => Ok(There::ToMake { earlier: None }),
            None => match self.shared.step(self.bench, &self.locked, key)? {
                Some(shared) => {
                    let SharedStep { layer, setup_directories, .. } = shared;
                    let record = StepRecord { layer, below: self.layers.clone(), setup_directories };
                    self.bench.store.record_step(key, &record).map_err(store_failed)?;
                    self.add(step, key, record, None);
                    Ok(There::Used)
                }
                None => Ok(There::ToMake { earlier: None }),
            },
        }
    }

    /// Captures what the machine of a step wrote, as its layer.
    pub(super) fn keep(
        &mut self,
        taking: &Taking<'_>,
        key: &str,
        machine: Machine,
        workspace: Option<sbx_image::normalisation::Workspace>,
        earlier: Option<Digest>,
    ) -> Result<AddedLayer> {
        self.worked = true;
        taking.progress.doing("keeping what changed", false);
        let added = capture::layer(self.bench, &machine, &self.layers, workspace)
            .map_err(|error| taking.place(error))?;
        let record = StepRecord {
            layer: added.diff_id.clone(),
            below: self.layers.clone(),
            setup_directories: added.setup_directories.clone(),
        };
        // A look at whether the same comes out changes nothing.
        if earlier.is_none() {
            self.bench.store.record_step(key, &record).map_err(store_failed)?;
        }
        self.add(taking.step, key, record, earlier);
        Ok(added)
    }

    fn add(&mut self, step: &Step, key: &str, record: StepRecord, earlier: Option<Digest>) {
        self.made.push(Made {
            step: step.name.clone(),
            key: key.to_owned(),
            earlier,
            layer: record.layer.clone(),
            setup_directories: record.setup_directories.clone(),
        });
        self.layers.push(record.layer);
        self.setup_directories.extend(record.setup_directories);
        self.setup_directories.sort_unstable();
        self.setup_directories.dedup();
        key.clone_into(&mut self.key);
    }

    /// Notes what a packages step has used.
    pub(super) fn note(&mut self, packages: &Packages, pins: Vec<Pin>) {
        if let Some(agent) = &packages.agent {
            self.used.agents.push(LockedAgent {
                name: agent.name.clone(),
                wanted: agent.wanted.clone(),
                version: packages.client.version(&packages.wanted, &pins).unwrap_or_default(),
                definition: agent.definition.clone(),
            });
        }
        self.used.requests.extend(packages.requests());
        self.used.pins.extend(pins);
    }

    /// Notes what a setup step depends on.
    pub(super) fn note_setup(&mut self, setup: LockedSetup) {
        self.used.setup.push(setup);
    }

    /// Whether `name` is to be moved.
    pub(super) fn moves(&self, prefix: &str, name: &str) -> bool {
        let update = &self.wishes.update;
        update.includes(name) || update.includes(&format!("{prefix}:{name}"))
    }
}

impl Taking<'_> {
    /// An error with the place of the step.
    pub(super) fn place(&self, error: CommandError) -> CommandError {
        self.progress.clear();
        error.at(&format!("{}: {} {}", self.step.place, self.step.label, self.step.title))
    }

    /// A program of the step has failed at `what`.
    pub(super) fn failed(&self, what: &str, end: &End) -> CommandError {
        let mut error = CommandError::failed(format!("{what}: {}", end.words()))
            .with_lines("its last lines", end.tail.clone())
            .with_hint(format!("all that it said is in {}", self.log.path().display()));
        if self.step.label != TOOLS {
            error =
                error.with_hint(format!("`sbx shell --at {}` opens a shell where it ran", self.step.name));
        }
        self.place(error)
    }

    /// The last line of a step that made a layer.
    pub(super) fn done(&self, what: &str, added: &AddedLayer) {
        self.progress.finish(what, &format!("{} new", bytes(added.bytes)));
    }
}
