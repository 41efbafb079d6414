//! The static program that is PID 1 in the guest.
//!
//! `sbx` carries it inside itself: sbx-cli's build script compiles it in the same way. This task is for looking at it,
//! at its size above all, because it is read into every machine.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cache;
use crate::output;
use crate::program::{self, ProgramError};

/// The target; with a target given, cargo keeps `RUSTFLAGS` away from build scripts and proc macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Why there is no guest program.
#[derive(Debug, Error)]
pub(crate) enum GuestError {
    /// cargo failed.
    #[error("cannot build sbx-guest")]
    Build(#[from] ProgramError),
    /// cargo succeeded, and yet the program is not there.
    #[error("cannot read {}", path.display())]
    Result {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The task.
pub(crate) fn run() -> Result<(), GuestError> {
    let path = build()?;
    let metadata = std::fs::metadata(&path);
    let size = metadata.map_err(|source| GuestError::Result { path: path.clone(), source })?.len();
    output::step("guest", format_args!("{size} bytes, static"));
    output::result(path.display());
    Ok(())
}

/// Builds it and says where it lies.
pub(crate) fn build() -> Result<PathBuf, GuestError> {
    // The directory and the flags of sbx-cli's build script, so that neither compiles what the other has compiled.
    let target = cache::target().join("guest-build");
    let mut command = program::cargo();
    command.args([
        "build",
        "--package",
        "sbx-guest",
        "--profile",
        "guest",
        "--target",
        TARGET,
        "--target-dir",
    ]);
    command.arg(&target).current_dir(cache::repository());
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static").env_remove("RUSTFLAGS");
    program::run(&mut command)?;
    Ok(target.join(TARGET).join("guest/sbx-guest"))
}
