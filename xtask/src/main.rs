//! What developers of sbx run: `cargo xtask kernel`, `test`, `demo` and so on.
//!
//! Nothing here is part of the product. Whatever a task needs and the machine lacks is installed, or named with the
//! command that installs it; whatever takes long is cached outside the checkout and says how far it is.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cache;
mod demo;

mod guest;
mod image;
mod kernel;
#[path = "../../kernel/key.rs"]
mod key;
mod output;
mod program;
mod registry;
mod test;
mod tidy;
mod tools;

/// Build, try, test and measure sbx
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show sbx at work: kernel, image and a sandbox in examples/quickstart
    Demo,
    /// Run the whole test suite; arguments go to nextest
    Test(test::Args),
    /// Build the guest kernel and install it where sbx looks for it
    Kernel(kernel::Args),
    /// Build the static program that is PID 1 in the guest
    Guest,
    /// Measure; without a name every figure
    Bench(bench::Args),
    /// Check what the compiler does not: file lengths, crate arrows, lints, host names, examples
    Tidy,
}

fn main() -> ExitCode {
    let result: Result<(), Box<dyn std::error::Error>> = match Arguments::parse().task {
        Task::Demo => demo::run().map_err(Into::into),
        Task::Test(arguments) => test::run(&arguments).map_err(Into::into),
        Task::Kernel(arguments) => kernel::run(&arguments).map_err(Into::into),
        Task::Guest => guest::run().map_err(Into::into),
        Task::Bench(arguments) => bench::run(&arguments).map_err(Into::into),
        Task::Tidy => tidy::run().map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
