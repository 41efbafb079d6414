//! How a step goes, on a terminal and elsewhere.
//!
//! On a terminal one line is redrawn; elsewhere a line is written when something else is done, so that a log can be read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::ui::{Ui, elapsed_time, printable};

/// Characters of output that fit into the line beside what it is about.
const OUTPUT_CHARACTERS: usize = 60;

/// How often the line moves although nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// The line of one step; a copy is the same one.
#[derive(Clone, Debug)]
pub(super) struct StepProgress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    label: &'static str,
    title: String,
    started: Instant,
    bar: Option<ProgressBar>,
    shown: Mutex<String>,
}

impl StepProgress {
    /// For a step that begins now.
    pub(super) fn start(ui: &Ui, label: &'static str, title: &str) -> Self {
        let bar = ui.is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("   {prefix:9} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(label);
            bar.enable_steady_tick(TICK);
            bar
        });
        let title = printable(title.lines().next().unwrap_or_default());
        Self(Arc::new(Inner { label, title, started: Instant::now(), bar, shown: Mutex::default() }))
    }

    /// What is done now: `12 of 14 downloaded`. Elsewhere than on a terminal `milestones` only are written.
    pub(super) fn doing(&self, what: &str, milestone: bool) {
        let Inner { label, title, bar, shown, .. } = &*self.0;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == what {
            return;
        }
        what.clone_into(&mut shown);
        tracing::debug!("{label} {title}: {what}");
        match bar {
            Some(bar) => bar.set_message(format!("{title}  {what}")),
            None if milestone => Ui::new().status(label, format_args!("{title}  {what}")),
            None => {}
        }
    }

    /// A line of a program's output, on a terminal only.
    pub(super) fn output(&self, line: &str) {
        let line: String = line.chars().take(OUTPUT_CHARACTERS).collect();
        self.doing(&line, false);
    }

    /// A line of a setup command's output: its author wants to see it in a log, too.
    pub(super) fn said(&self, line: &str) {
        match &self.0.bar {
            Some(_) => self.output(line),
            None => Ui::new().detail(line),
        }
    }

    /// A line that stays.
    pub(super) fn line(&self, line: &str) {
        match &self.0.bar {
            Some(bar) => bar.suspend(|| Ui::new().notice(line, false)),
            None => Ui::new().notice(line, false),
        }
    }

    /// The step is done: its last line says `what`, how long it took, and how much is `new`.
    pub(super) fn finish(&self, what: &str, new: &str) {
        let Inner { label, title, started, .. } = &*self.0;
        self.clear();
        Ui::new()
            .status(label, format_args!("{title}  {what}  in {}, {new}", elapsed_time(started.elapsed())));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.0.bar {
            bar.finish_and_clear();
        }
    }
}
