//! How fast it is: named figures, each one line, each beside what it is measured against in the same run.
//!
//! ```text
//! name                      value unit      ratio against what                        limit
//! pull                      2.310 s          0.64 of msb pull 0.7.11, 3.601 s         0.70
//! ```
//! A ratio is comparable between machines, a number is not; so wherever there is something to divide by, both are
//! measured one after the other, in turns, and the medians are divided. A figure over its limit makes the task fail, after
//! all the others have been measured.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::cache::CacheError;
use crate::image::{self, ImageError};
use crate::kernel::{self, KernelError};
use crate::output;
use crate::program::ProgramError;
use crate::registry::RegistryError;
use crate::tools::{self, Purpose, ToolsError};

mod bed;
mod commands;
mod engine;
mod floor;
mod gateway;
mod images;
mod measure;
mod namespace;
mod network;
mod peers;
mod resources;
mod shared;
mod workspace;

use bed::Bed;

/// Measure; without a name every figure
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which figures; a name stands for all that begin with it
    names: Vec<String>,
    /// Only list the names
    #[arg(long)]
    list: bool,
    /// Only make what takes long: the kernel, the images and the programs of others
    #[arg(long)]
    prepare: bool,
}

/// Something measured.
#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    against: Option<Against>,
    limit: Option<(Bound, Limit)>,
}

/// What a figure is measured against.
#[derive(Debug)]
struct Against {
    what: String,
    /// In the figure's unit.
    value: f64,
}

/// On which side of its limit a figure is good.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// Less is better.
    AtMost,
    /// More is better.
    AtLeast,
}

/// What is limited.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// The value, in its unit.
    Value(f64),
    /// The ratio to what it is measured against.
    Ratio(f64),
}

/// Measures one group of figures that share their preparation.
type Measure = fn(&mut Bed) -> Result<Vec<Figure>, BenchError>;

/// Every group, in the order in which they are measured: short ones first.
const GROUPS: &[(&str, Measure)] = &[
    ("version", commands::version),
    ("ls", commands::list),
    ("up", commands::up),
    ("up-locked", commands::up_locked),
    ("up-shared", shared::up_shared),
    ("reset", commands::reset),
    ("exec", commands::exec),
    ("first-instruction", engine::first_instruction),
    ("vmm-memory", engine::vmm_memory),
    ("block-calls", engine::block_calls),
    ("binary-size", engine::binary_size),
    ("memory", resources::memory),
    ("disk", resources::disk),
    ("net-core", gateway::core),
    ("net-idle", network::idle),
    ("net-load", network::load),
    ("fs", workspace::measure),
    ("pull", images::pull),
    ("snapshot", images::snapshot),
];

/// Why something was not measured.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// There is no such figure.
    #[error("no figure is called {name}; there are {}", names())]
    NoSuchFigure {
        /// What was asked for.
        name: String,
    },
    /// Programs are missing.
    #[error("cannot measure")]
    Tools(#[from] ToolsError),
    /// No kernel.
    #[error("cannot prepare the guest kernel")]
    Kernel(#[from] KernelError),
    /// No image.
    #[error("cannot prepare an image")]
    Image(#[from] ImageError),
    /// No registry.
    #[error("cannot prepare the registry")]
    Registry(#[from] RegistryError),
    /// No place.
    #[error("cannot keep what is measured")]
    Cache(#[from] CacheError),
    /// A program that was measured, or one that prepares, failed.
    #[error("cannot measure")]
    Program(#[from] ProgramError),
    /// A file could not be read or written.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
    /// There is nothing to run a machine on.
    #[error("there is no /dev/kvm")]
    NoKvm,
    /// A running machine is not where it should be.
    #[error("cannot find {what} of the sandbox among the running processes")]
    NoProcess {
        /// Which process.
        what: &'static str,
    },
    /// The guest did not say what was expected.
    #[error("the guest gave no figures; it said:\n{output}")]
    Unreadable {
        /// Its output.
        output: String,
    },
    /// Some groups could not be measured, or a figure is over its limit. They have been printed.
    #[error("{faults} of the figures could not be measured or are over their limit")]
    Faults {
        /// How many.
        faults: usize,
    },
}

/// The task.
pub(crate) fn run(arguments: &Args) -> Result<(), BenchError> {
    let chosen = chosen(&arguments.names)?;
    if arguments.list {
        output::result(names());
        return Ok(());
    }
    if arguments.prepare {
        return prepare();
    }
    let mut bed = Bed::make()?;
    let mut faults = 0_usize;
    for (name, measure) in GROUPS.iter().filter(|(name, _)| chosen.contains(name)) {
        output::step("measuring", name);
        match measure(&mut bed) {
            Ok(figures) => {
                for figure in figures {
                    faults = faults.saturating_add(usize::from(figure.over()));
                    output::result(figure.line());
                }
            }
            Err(error) => {
                faults = faults.saturating_add(1);
                output::failure(&error);
                output::result(format_args!("{name:28} not measured"));
            }
        }
    }
    if faults == 0 { Ok(()) } else { Err(BenchError::Faults { faults }) }
}

fn prepare() -> Result<(), BenchError> {
    tools::ensure(&[Purpose::Machine, Purpose::Bench])?;
    kernel::install()?;
    for recipe in [&image::DEBIAN, &image::LARGE] {
        image::layout(recipe)?;
    }
    peers::microsandbox()?;
    peers::virtiofsd()?;
    Ok(())
}

fn chosen(names: &[String]) -> Result<BTreeSet<&'static str>, BenchError> {
    let mut chosen = BTreeSet::new();
    for name in names {
        let before = chosen.len();
        chosen
            .extend(GROUPS.iter().map(|(group, _)| *group).filter(|group| group.starts_with(name.as_str())));
        if chosen.len() == before && !chosen.iter().any(|group| group.starts_with(name.as_str())) {
            return Err(BenchError::NoSuchFigure { name: name.clone() });
        }
    }
    if names.is_empty() {
        chosen.extend(GROUPS.iter().map(|(group, _)| *group));
    }
    Ok(chosen)
}

fn names() -> String {
    GROUPS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, against: None, limit: None }
    }

    fn against(mut self, what: impl Into<String>, value: f64) -> Self {
        self.against = Some(Against { what: what.into(), value });
        self
    }

    fn at_most(mut self, limit: Limit) -> Self {
        self.limit = Some((Bound::AtMost, limit));
        self
    }

    fn at_least(mut self, limit: Limit) -> Self {
        self.limit = Some((Bound::AtLeast, limit));
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.against.as_ref().map(|against| self.value / against.value)
    }

    fn over(&self) -> bool {
        let Some((bound, limit)) = self.limit else { return false };
        let (value, limit) = match limit {
            Limit::Value(limit) => (Some(self.value), limit),
            Limit::Ratio(limit) => (self.ratio(), limit),
        };
        value.is_some_and(|value| match bound {
            Bound::AtMost => value > limit,
            Bound::AtLeast => value < limit,
        })
    }

    fn line(&self) -> String {
        let mut line = format!("{:28} {:>10.3} {:4}", self.name, self.value, self.unit);
        if let (Some(ratio), Some(against)) = (self.ratio(), &self.against) {
            line += &format!("  {ratio:.2} × {} ({:.3} {})", against.what, against.value, self.unit);
        }
        if let Some((bound, limit)) = self.limit {
            let bound = match bound {
                Bound::AtMost => "at most",
                Bound::AtLeast => "at least",
            };
            line += &match limit {
                Limit::Value(limit) => format!("  {bound} {limit} {}", self.unit),
                Limit::Ratio(limit) => format!("  {bound} {limit} ×"),
            };
        }
        if self.over() {
            line += "  OVER";
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_line_and_knows_its_limit() {
        let figure = Figure::new("pull", 2.5, "s").against("msb pull", 5.0).at_most(Limit::Ratio(0.7));
        assert!(!figure.over());
        let words: Vec<String> = figure.line().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.join(" "), "pull 2.500 s 0.50 × msb pull (5.000 s) at most 0.7 ×");
        let figure = Figure::new("ls", 12.0, "ms").at_most(Limit::Value(10.0));
        assert!(figure.line().ends_with("at most 10 ms  OVER"));
        let figure = Figure::new("up", 3.0, "Gb/s").against("slirp", 1.0).at_least(Limit::Ratio(1.5));
        assert!(!figure.over() && figure.line().ends_with("at least 1.5 ×"));
    }

    #[test]
    fn a_name_stands_for_all_that_begin_with_it() {
        assert_eq!(chosen(&["ver".into()]).unwrap().len(), 1);
        assert_eq!(chosen(&[]).unwrap().len(), GROUPS.len());
        assert!(chosen(&["pulls".into()]).is_err());
    }
}
