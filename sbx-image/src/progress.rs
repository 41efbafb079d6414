//! What a pull tells while it works, for progress bars and log lines.
//!
//! Events come from one task, in order per layer: [`LayerEvent::Waiting`]*, then either [`LayerEvent::Reused`], or
//! [`LayerEvent::Started`], [`LayerEvent::Received`]*, [`LayerEvent::Done`]. A layer that must be fetched a second time
//! starts again with [`LayerEvent::Started`].

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::digest::Digest;
use crate::manifest::{Image, Layer};

/// Receives the events of one pull.
///
/// All methods do nothing unless they are overridden. They are called from the task that runs the pull and must not
/// block for long: the download waits for them.
pub trait Progress: Send + Sync {
    /// Called once, when the manifest and configuration are known and before the first layer event.
    fn image(&self, _image: &Image) {}

    /// Called once instead of [`Progress::image`] when a shared snapshot is pulled or pushed: the repository, the snapshot's
    /// digest, and the layers that are in it besides the image's.
    fn shared(&self, _repository: &str, _content: &str, _layers: &[Layer]) {}

    /// Called for every event of the layer at `index` (position in [`Image::layers`], or in the layers of
    /// [`Progress::shared`]).
    fn layer(&self, _index: usize, _event: &LayerEvent) {}

    /// Called when something unexpected was overcome, such as a mirror that did not answer.
    fn note(&self, _note: &Note) {}
}

/// A [`Progress`] that shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What happens to one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerEvent {
    /// Another process is storing this layer now; we wait for it.
    Waiting,
    /// The layer is in the store already.
    Reused,
    /// The download begins.
    Started {
        /// Compressed size in bytes.
        total_bytes: u64,
        /// Bytes that an interrupted pull left behind and that need not be fetched again.
        resumed_bytes: u64,
    },
    /// More of the layer has arrived.
    Received {
        /// Compressed bytes so far, those of an interrupted pull included.
        bytes: u64,
    },
    /// The layer is checked and in the store.
    Done,
}

/// Runs `work`, and hands the user what it tells meanwhile.
pub(crate) async fn delivered<T, W: Future<Output = T>>(
    progress: &dyn Progress,
    work: impl FnOnce(Reporter) -> W,
) -> T {
    let (reporter, mut events) = Reporter::new();
    let work = work(reporter);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => event.deliver(progress),
            result = &mut work => {
                while let Ok(event) = events.try_recv() {
                    event.deliver(progress);
                }
                return result;
            }
        }
    }
}

/// Something unexpected that did not stop the pull.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A request failed and will be tried again.
    Retry {
        /// What was asked for, as a URL.
        url: String,
        /// Why it failed, in one line.
        reason: String,
        /// Milliseconds until the next try.
        delay_ms: u64,
    },
    /// A mirror could not serve; the next one, or the registry itself, is asked.
    MirrorFailed {
        /// The mirror as configured.
        mirror: String,
        /// Why it failed, in one line.
        reason: String,
    },
    /// The stored credentials for a registry could not be read; it is asked anonymously.
    Credentials {
        /// Registry host.
        registry: String,
        /// Why, in one line.
        reason: String,
    },
    /// What arrived was not what the digest names; it was thrown away and is fetched once more.
    WrongDigest {
        /// The digest that was asked for.
        digest: Digest,
    },
}

/// An event on its way from a layer's task to the task that runs the pull.
#[derive(Debug)]
pub(crate) enum Event {
    /// Of the layer at this position.
    Layer(usize, LayerEvent),
    /// Of no particular layer.
    Note(Note),
}

/// The sending end for tasks. Nothing happens when nobody listens any more.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    events: UnboundedSender<Event>,
}

impl Reporter {
    /// A reporter and the end where its events come out.
    pub(crate) fn new() -> (Self, UnboundedReceiver<Event>) {
        let (events, received) = unbounded_channel();
        (Self { events }, received)
    }

    /// Tells what happened to a layer.
    pub(crate) fn layer(&self, index: usize, event: LayerEvent) {
        let _ = self.events.send(Event::Layer(index, event));
    }

    /// Tells something else.
    pub(crate) fn note(&self, note: Note) {
        let _ = self.events.send(Event::Note(note));
    }
}

impl Event {
    /// Hands the event to the user's side.
    pub(crate) fn deliver(&self, progress: &dyn Progress) {
        match self {
            Self::Layer(index, event) => progress.layer(*index, event),
            Self::Note(note) => progress.note(note),
        }
    }
}
