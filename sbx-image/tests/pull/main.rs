//! Pulls, from good and bad sources, into stores in all conditions.

mod archives;
mod faults;
mod image;
mod limits;
mod login;
mod made;
mod processes;
mod registry;
mod room;
mod server;
mod shared;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use sbx_image::progress::{LayerEvent, Note, Progress};
use sbx_image::{Image, Mirrors, PullError, PullOptions, Source, Store};

/// A store in a directory that is deleted afterwards, and what a pull told.
pub(crate) struct TestStore {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) options: PullOptions,
    pub(crate) heard: Heard,
}

/// Remembers all events.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) layers: Mutex<Vec<(usize, LayerEvent)>>,
    pub(crate) notes: Mutex<Vec<Note>>,
}

impl Progress for Heard {
    fn layer(&self, index: usize, event: &LayerEvent) {
        self.layers.lock().unwrap().push((index, event.clone()));
    }

    fn note(&self, note: &Note) {
        self.notes.lock().unwrap().push(note.clone());
    }
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("home")).unwrap();
        Self { directory, store, options: quick_options(), heard: Heard::default() }
    }

    /// Pulls `source`.
    pub(crate) fn pull(&self, source: &str) -> Result<Image, PullError> {
        install_crypto();
        let source: Source = source.parse().unwrap();
        runtime().block_on(sbx_image::pull(&self.store, &source, &self.options, &self.heard))
    }

    /// Pulls what must fail; gives the error with its causes in one line.
    pub(crate) fn pull_error(&self, source: &str) -> String {
        with_causes(&self.pull(source).unwrap_err())
    }

    pub(crate) fn find(&self, source: &str) -> Option<Image> {
        self.store.find(&source.parse().unwrap(), &self.options.platform)
    }

    pub(crate) fn mirrors(&mut self, mirrors: &str) {
        self.options.mirrors = mirrors.parse::<Mirrors>().unwrap();
    }

    /// The files in the store that are neither complete objects nor locks.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.store.home().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                if path.parent().unwrap().ends_with(".staging")
                    || path.extension().is_some_and(|e| e == "partial")
                {
                    found.push(path);
                } else if path.is_dir() {
                    directories.push(path);
                }
            }
        }
        found
    }

    /// Everything in the store is what it should be.
    pub(crate) fn assert_sound(&self) {
        let verified = self.store.verify(&mut |_| {}).unwrap();
        assert_eq!(verified.damaged, [], "{verified:?}");
    }
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Options with short times, so that tests of faults do not take long.
pub(crate) fn quick_options() -> PullOptions {
    let mut options = PullOptions { platform: "linux/amd64".parse().unwrap(), ..PullOptions::default() };
    options.network.first_delay = Duration::from_millis(5);
    options.network.longest_wait = Duration::from_secs(5);
    options.network.stall_timeout = Duration::from_secs(20);
    options
}

pub(crate) fn install_crypto() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
