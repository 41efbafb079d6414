//! Progress of a pull: a bar per layer on a terminal, a line per layer elsewhere.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sbx_image::{
    manifest::{self, Image},
    progress::{LayerEvent, Note, Progress},
};

use super::style::{bytes, plural, printable, short_digest};

/// How often a bar moves that has nothing new to show, so that a stalled download does not look like a stalled program.
const TICK: Duration = Duration::from_millis(200);

/// Receives the events of one pull and draws them on stderr.
#[derive(Debug)]
pub(crate) struct PullProgress {
    terminal: bool,
    bars: MultiProgress,
    layers: Mutex<BTreeMap<usize, Layer>>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl PullProgress {
    pub(super) fn new(terminal: bool) -> Self {
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { terminal, bars: MultiProgress::with_draw_target(target), layers: Mutex::default() }
    }

    /// Takes the bars away, so that what is printed next begins at the margin.
    pub(crate) fn finish(&self) {
        let _ = self.bars.clear();
    }

    /// Names the layers that events will be about.
    fn expect(&self, layers: &[manifest::Layer]) {
        let named = layers.iter().map(|layer| Layer {
            name: short_digest(&layer.diff_id.to_string()),
            bytes: layer.size,
            bar: None,
        });
        *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = named.enumerate().collect();
    }

    fn line(&self, text: &str) {
        if self.terminal {
            let _ = self.bars.println(text);
        } else {
            let _ = writeln!(super::stderr(), "{text}");
        }
    }

    fn start(&self, layer: &mut Layer, total_bytes: u64, resumed_bytes: u64) {
        layer.bytes = total_bytes;
        if !self.terminal {
            let resumed = if resumed_bytes > 0 {
                format!(", {} of them here already", bytes(resumed_bytes))
            } else {
                String::new()
            };
            self.line(&format!("   layer     {}  {}{resumed}", layer.name, bytes(total_bytes)));
            return;
        }
        let bar = layer.bar.get_or_insert_with(|| self.bars.add(ProgressBar::new(total_bytes)));
        if let Ok(style) = ProgressStyle::with_template(
            "   layer     {prefix}  {bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}",
        ) {
            bar.set_style(style.progress_chars("━━─"));
        }
        bar.set_prefix(layer.name.clone());
        bar.set_position(resumed_bytes);
        bar.enable_steady_tick(TICK);
    }
}

impl Progress for PullProgress {
    fn image(&self, image: &Image) {
        self.expect(&image.layers);
        self.line(&format!(
            "   image     {}  {}  {}",
            printable(&image.reference),
            short_digest(&image.manifest_digest.to_string()),
            plural(image.layers.len(), "layer"),
        ));
    }

    fn shared(&self, repository: &str, content: &str, layers: &[manifest::Layer]) {
        self.expect(layers);
        self.line(&format!(
            "   shared    {}  {}  {}",
            printable(repository.split(":lock-").next().unwrap_or(repository)),
            short_digest(content),
            plural(layers.len(), "layer"),
        ));
    }

    fn layer(&self, index: usize, event: &LayerEvent) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(layer) = layers.get_mut(&index) else { return };
        match event {
            LayerEvent::Started { total_bytes, resumed_bytes } => {
                self.start(layer, *total_bytes, *resumed_bytes);
            }
            LayerEvent::Received { bytes } => {
                if let Some(bar) = &layer.bar {
                    bar.set_position(*bytes);
                }
            }
            LayerEvent::Waiting => {
                self.line(&format!("   layer     {}  is being stored by another sbx", layer.name));
            }
            LayerEvent::Done => {
                if let Some(bar) = layer.bar.take() {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    fn note(&self, note: &Note) {
        let text = match note {
            Note::Retry { url, reason, delay_ms } => {
                format!("{}: {}; trying again in {delay_ms} ms", printable(url), printable(reason))
            }
            Note::MirrorFailed { mirror, reason } => {
                format!("mirror {}: {}; asking the next", printable(mirror), printable(reason))
            }
            Note::Credentials { registry, reason } => {
                format!(
                    "no credentials for {}: {}; asking anonymously",
                    printable(registry),
                    printable(reason)
                )
            }
            Note::WrongDigest { digest } => {
                format!("what arrived is not {}; fetching it once more", short_digest(&digest.to_string()))
            }
            _ => return,
        };
        self.line(&format!("warning: {text}"));
    }
}
