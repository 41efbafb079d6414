//! Figures of the network's gateway by itself, with frames and bytes in memory: `sbx-net/examples/gateway_core.rs`.

use std::process::Command;

use super::bed::Bed;
use super::measure::{figures, median};
use super::{BenchError, Figure, Limit};
use crate::cache;
use crate::program;

/// Runs of a second for each part.
const RUNS: usize = 3;

/// What is measured.
const PARTS: [Part; 5] = [
    Part { name: "up", title: "net-core to the host", bulk: true },
    Part { name: "down", title: "net-core to the guest", bulk: true },
    Part { name: "event-up", title: "net-core event, guest sends", bulk: false },
    Part { name: "event-down", title: "net-core event, host sends", bulk: false },
    Part { name: "event-connection", title: "net-core event, connection", bulk: false },
];

struct Part {
    name: &'static str,
    title: &'static str,
    bulk: bool,
}

/// Throughput of one connection, and the cost of an event with 10,000 connections open.
pub(super) fn core(_bed: &mut Bed) -> Result<Vec<Figure>, BenchError> {
    let mut build = program::cargo();
    build.args(["build", "--release", "--package", "sbx-net", "--features", "testing"]);
    program::run(build.args(["--example", "gateway_core"]).current_dir(cache::repository()))?;
    let example = cache::target().join("release/examples/gateway_core");
    let mut values = PARTS.map(|_| Vec::new());
    for _ in 0..RUNS {
        let found = figures(&program::output(&mut Command::new(&example))?, PARTS.len())?;
        for (part, values) in PARTS.iter().zip(&mut values) {
            values.extend(found.get(part.name));
        }
    }
    let parts = PARTS.iter().zip(values);
    Ok(parts
        .map(|(part, values)| {
            if part.bulk {
                Figure::new(part.title, median(values) / 1e9, "Gb/s").at_least(Limit::Value(5.0))
            } else {
                Figure::new(part.title, median(values) / 1e3, "µs").at_most(Limit::Value(2.0))
            }
        })
        .collect())
}
