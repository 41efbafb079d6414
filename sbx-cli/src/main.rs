//! `sbx`: gives every repository a disposable, isolated, reproducible machine for coding agents.
//!
//! This crate is the wiring and the terminal; what can be known without either is in the other crates.

#![forbid(unsafe_code)]

mod agents;
mod approval;
mod args;
mod artifacts;
mod commands;
mod config;
mod context;
mod environment;
mod error;
mod follow;
mod git;
mod images;
mod locking;
mod network;
mod paths;
mod project;
#[allow(dead_code, reason = "`sbx lock` uses the rest")]
mod provision;
mod repository_file;
mod sandbox;
mod secrets;
mod session;
mod shares;
mod ui;
mod watch;

mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Arguments, context::Context, ui::Ui};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let context = Context::new(Ui::new());
    let result = context.map(|context| {
        let result = commands::run(&context, arguments);
        (context, result)
    });
    let (ui, result) = match result {
        Ok((context, result)) => (context.ui, result),
        Err(error) => (Ui::new(), Err(error)),
    };
    if let Err(error) = &result {
        ui.error(error);
    }
    ExitCode::from(error::exit_code(&result))
}

/// Nothing is logged unless `SBX_LOG` asks for it, except by the sandbox process, whose stderr is its log file.
fn start_log() {
    let filter = match environment::value(environment::SBX_LOG) {
        Some(filter) => filter.to_string_lossy().into_owned(),
        None if std::env::args_os().nth(1).is_some_and(|command| command == "sandbox-process") => {
            "info".to_owned()
        }
        None => return,
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Otherwise a line that cannot be written, to a log on a full disk, is complained about on stderr, and that
        // complaint panics when it cannot be written either.
        .log_internal_errors(false)
        .init();
}
