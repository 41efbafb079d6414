//! The machine of a step that reaches the registries: it is asked what there is, and brings files. Nothing that it brings
//! runs in it, and nothing of it enters a layer.

use std::collections::HashSet;

use sbx_manifest::lock::Pin;

use super::{
    arrivals::Arrivals,
    bench::{Bench, Reach},
    builder::Taking,
    client::{LENT, Script, VANISHED},
    downloads::DownloadError,
    hash::Hash,
    machine::{Machine, Workbench},
    needs::Desk,
    progress::StepProgress,
    script::{self, End, Order},
    step::Packages,
};
use crate::{
    error::{CommandError, Result},
    ui::{plural, printable},
};

/// Versions that are gone which an error names.
const MAX_NAMED: usize = 5;

/// The machine, which boots when it is needed.
#[derive(Debug)]
pub(super) struct Online<'o> {
    bench: &'o Bench<'o>,
    packages: &'o Packages,
    desk: Desk,
    machine: Option<Machine>,
}

impl<'o> Online<'o> {
    /// Of a step that asks at `desk`.
    pub(super) fn new(bench: &'o Bench<'o>, packages: &'o Packages, desk: Desk) -> Self {
        Self { bench, packages, desk, machine: None }
    }

    /// What the client would take.
    ///
    /// # Errors
    /// If it does not find something, or says nonsense.
    pub(super) fn resolve(&mut self, taking: &mut Taking<'_>, held: &[Pin]) -> Result<Vec<Pin>> {
        taking.progress.doing("resolving", true);
        let Packages { client, wanted, owner, .. } = self.packages;
        let progress = taking.progress.clone();
        let end = self.run(taking, &client.resolve(wanted, held), &mut |line| progress.output(line))?;
        if !end.succeeded() {
            return Err(unsuccessful(taking, "the packages could not be found", &end));
        }
        let mut pins = client.read(&end.output).map_err(|error| {
            taking.place(
                CommandError::failed("what the package manager said makes no sense").with_source(error),
            )
        })?;
        for pin in &mut pins {
            if owner.is_some() {
                pin.owner.clone_from(owner);
            }
        }
        pins.sort_unstable();
        Ok(pins)
    }

    /// Brings the files of `pins` that are not here, each with the hash of its pin. A pin without a hash gets that of its file.
    ///
    /// # Errors
    /// If one does not arrive or is another than was pinned; those that have arrived are kept.
    pub(super) fn fetch(&mut self, taking: &mut Taking<'_>, pins: &mut [Pin]) -> Result<()> {
        let missing: Vec<usize> = pins
            .iter()
            .enumerate()
            .filter(|(_, pin)| Hash::parse(&pin.hash).is_none_or(|hash| !self.bench.downloads.has(&hash)))
            .map(|(index, _)| index)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let wanted: Vec<Pin> = missing.iter().filter_map(|index| pins.get(*index).cloned()).collect();
        taking.progress.doing(&format!("downloading {}", plural(wanted.len(), "file")), true);
        let client = &self.packages.client;
        let names: HashSet<String> = wanted.iter().map(|pin| client.file_name(pin)).collect();
        let script = client.fetch(&wanted);
        let (progress, out) = (taking.progress.clone(), self.machine(taking)?.out());
        let mut arrivals = Arrivals::new(self.bench, &out, client.as_ref(), &wanted);
        let end = self.run(taking, &script, &mut |line| {
            arrivals.take_in();
            show_download(&progress, &out, &names, line);
        })?;
        if !end.succeeded() {
            arrivals.take_in();
            return Err(unsuccessful(taking, "the download failed", &end));
        }
        for index in missing {
            let Some(pin) = pins.get_mut(index) else { continue };
            let hash = Hash::parse(&pin.hash);
            if hash.as_ref().is_some_and(|hash| self.bench.downloads.has(hash)) {
                continue;
            }
            let name = self.packages.client.file_name(pin);
            let hash = self.bench.downloads.take_in(&out, &name, hash.as_ref());
            pin.hash = hash.map_err(|error| taking.place(not_taken(pin, error)))?.to_string();
        }
        Ok(())
    }

    /// Ends the machine, if there is one: it takes a while until it is needed again.
    pub(super) fn leave(&mut self) {
        self.machine = None;
    }

    fn machine(&mut self, taking: &Taking<'_>) -> Result<&Machine> {
        if self.machine.is_none() {
            let workbench = Workbench::new(self.bench.context)?;
            let hosts = self.packages.client.hosts();
            let machine =
                self.bench.boot(&self.desk.snapshot, Reach::Registries, &hosts, workbench, &taking.progress);
            self.machine = Some(machine.map_err(|error| taking.place(error))?);
        }
        self.machine.as_ref().ok_or_else(|| CommandError::failed("there is no machine"))
    }

    fn run(&mut self, taking: &mut Taking<'_>, script: &Script, show: &mut dyn FnMut(&str)) -> Result<End> {
        let lent = (LENT.to_owned(), self.desk.lent.join(" "));
        let script =
            Script { environment: [script.environment.clone(), vec![lent]].concat(), ..script.clone() };
        let machine = self.machine(taking)?;
        script::run(machine, &script, &Order::root(), &mut taking.log, show)
            .map_err(|error| taking.place(error))
    }
}

/// How many of the files are there, or else what the client says.
fn show_download(progress: &StepProgress, out: &std::path::Path, names: &HashSet<String>, line: &str) {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let here = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| names.contains(name)));
    match here.count() {
        0 => progress.output(line),
        here => progress.doing(&format!("{here} of {} downloaded", names.len()), false),
    }
}

/// A program that asked the registries has failed: because versions are gone, if it says so.
fn unsuccessful(taking: &Taking<'_>, what: &str, end: &End) -> CommandError {
    let gone: Vec<(String, String)> = String::from_utf8_lossy(&end.output)
        .lines()
        .filter_map(|line| {
            let (name, version) = line.strip_prefix(VANISHED)?.strip_prefix('\t')?.split_once('\t')?;
            Some((printable(name), printable(version)))
        })
        .take(MAX_NAMED)
        .collect();
    let Some((first, _)) = gone.first() else { return taking.failed(what, end) };
    let named: Vec<String> = gone.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let error = CommandError::failed(format!("the registries have no {} any more", named.join(", ")))
        .with_hint(format!("`sbx lock --update {first}` takes the version that they have"));
    taking.place(error)
}

/// A file that is not what was pinned, before anything has run it.
fn not_taken(pin: &Pin, error: DownloadError) -> CommandError {
    let what = format!("{} {}", printable(&pin.name), printable(&pin.version));
    let wrong = matches!(error, DownloadError::WrongHash { .. });
    let refused = CommandError::failed(if wrong {
        format!("refused {what}: the registry has another file than was pinned")
    } else {
        format!("cannot take {what}")
    });
    let refused = refused.with_source(error);
    if !wrong {
        return refused;
    }
    refused.with_hint("nothing of it has run").with_hint(format!(
        "if its publisher says that this is right, `sbx lock --update {}` pins the file that is there now",
        printable(&pin.name)
    ))
}
