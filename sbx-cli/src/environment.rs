//! Every environment variable that sbx reads, in one place.
//!
//! Variables that belong to others (`NO_COLOR`, `DOCKER_CONFIG`, `SSL_CERT_FILE`, `HTTPS_PROXY`, `XDG_*`, `TERM`) keep
//! the meaning that their owners gave them.

use std::{ffi::OsString, path::PathBuf};

use sbx_vmm::{engine::EngineKind, seccomp::Violation};

use crate::{
    error::{CommandError, Result},
    ui::printable,
};

/// Directory of the store and of all sandboxes; default `$XDG_DATA_HOME/sbx`.
pub(crate) const SBX_HOME: &str = "SBX_HOME";
/// The user's configuration file; default `$XDG_CONFIG_HOME/sbx/config.kdl`.
pub(crate) const SBX_CONFIG: &str = "SBX_CONFIG";
/// Mirrors, as in `docker.io=http://127.0.0.1:5000,ghcr.io=https://mirror.example`; goes before the configuration file.
pub(crate) const SBX_MIRRORS: &str = "SBX_MIRRORS";
/// An ELF kernel to boot instead of the one that `cargo xtask kernel` installs.
pub(crate) const SBX_KERNEL: &str = "SBX_KERNEL";
/// Words for the guest kernel's command line, behind those of the engine: for tests, and for looking for faults.
pub(crate) const SBX_KERNEL_ARGS: &str = "SBX_KERNEL_ARGS";
/// The engine to run on, as `sbx up --engine` says it: `kvm` or `qemu`; default the one that suits this machine.
pub(crate) const SBX_ENGINE: &str = "SBX_ENGINE";
/// The QEMU program; default `qemu-system-x86_64` in `PATH`.
pub(crate) const SBX_QEMU: &str = "SBX_QEMU";
/// Filter of the log on stderr, as in `SBX_LOG=sbx_vmm=debug`; nothing is logged without it.
pub(crate) const SBX_LOG: &str = "SBX_LOG";
/// What becomes of a sandbox process that makes a system call that its filters do not permit. It ends, unless this is
/// `log`: then the kernel logs the call and makes it, which is for finding out what a filter lacks.
pub(crate) const SBX_SECCOMP: &str = "SBX_SECCOMP";

/// The value of `name`, unless it is unset or empty.
pub(crate) fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The value of `name` as a path, unless it is unset or empty.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from)
}

/// The words in `name`, none if it is unset.
pub(crate) fn words(name: &str) -> Result<Vec<String>> {
    let text = value(name).unwrap_or_default();
    let text = text.to_str().ok_or_else(|| CommandError::usage(format!("{name} is not UTF-8")))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The engine that [`SBX_ENGINE`] asks for.
pub(crate) fn engine() -> Result<Option<EngineKind>> {
    let Some(word) = value(SBX_ENGINE) else { return Ok(None) };
    let known = [EngineKind::Kvm, EngineKind::Qemu].into_iter().find(|kind| word == kind.name());
    known.map(Some).ok_or_else(|| {
        let word = printable(&word.to_string_lossy());
        CommandError::usage(format!("{SBX_ENGINE} is `{word}`; it can be `kvm`, `qemu`, or not be set"))
    })
}

/// What [`SBX_SECCOMP`] asks for.
pub(crate) fn violation() -> Result<Violation> {
    match value(SBX_SECCOMP) {
        None => Ok(Violation::Kill),
        Some(word) if word == "log" => Ok(Violation::Log),
        Some(word) => Err(CommandError::usage(format!(
            "{SBX_SECCOMP} is `{}`; it can be `log`, or not be set",
            printable(&word.to_string_lossy())
        ))),
    }
}
