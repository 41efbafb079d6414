//! sbx at work, for someone who has just cloned it: one command, nothing prepared.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::cache;
use crate::image::{self, ImageError};
use crate::kernel::{self, KernelError};
use crate::output;
use crate::program::{self, ProgramError};
use crate::registry::{self, Registry, RegistryError};
use crate::tools::{self, Purpose, ToolsError};

/// The registry that the example's image names.
const REGISTRY: &str = "docker.io";
/// What runs in the sandbox the first time.
const SCRIPT: &str = r#"
echo "kernel      $(uname -r)"
echo "system      $(. /etc/os-release && echo "$PRETTY_NAME")"
echo "user        $(id -un), uid $(id -u)"
echo "workspace   $(pwd): $(ls | tr '\n' ' ')"
echo "home        $(ls -A /home /root 2>/dev/null | tr '\n' ' ')"
echo "made in the sandbox" > made-inside.txt
"#;
/// What the script makes in the workspace.
const MADE: &str = "made-inside.txt";

/// Why there was nothing to see.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// QEMU is not there.
    #[error("cannot boot a machine")]
    Tools(#[from] ToolsError),
    /// No kernel.
    #[error("cannot prepare the guest kernel")]
    Kernel(#[from] KernelError),
    /// No image.
    #[error("cannot prepare the image")]
    Image(#[from] ImageError),
    /// No registry.
    #[error("cannot prepare the registry")]
    Registry(#[from] RegistryError),
    /// cargo or sbx failed.
    #[error("the demo ended early")]
    Program(#[from] ProgramError),
    /// The sandbox was up, and yet its file is not here.
    #[error("{} was not made in the workspace", path.display())]
    NothingMade {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
}

/// The task.
pub(crate) fn run() -> Result<(), DemoError> {
    tools::ensure(&[Purpose::Machine])?;
    let kernel = kernel::install()?;
    output::step("sbx", "compiling the release");
    let sbx = build_sbx()?;
    let registry = mirror()?;
    let example = cache::repository().join("examples/quickstart");
    let up = |script: &str| {
        let mut command = Command::new(&sbx);
        command
            .args(["up", "--yes", "--", "sh", "-c", script])
            .current_dir(&example)
            .env("SBX_KERNEL", &kernel);
        if let Some(registry) = &registry {
            command.env("SBX_MIRRORS", format!("{REGISTRY}=http://{}", registry.address()));
        }
        command
    };
    let made = example.join(MADE);
    output::step("demo", format_args!("in {}: sbx up -- sh -c '…'", example.display()));
    let shown = first_start(&mut up(SCRIPT), &made);
    // Whatever happened, the checkout is left as it was.
    let _ = fs::remove_file(&made);
    let first = shown?;
    let second = timed(&mut up("true"))?;
    program::run(Command::new(&sbx).args(["rm", "--force"]).current_dir(&example))?;
    output::step(
        "demo",
        format_args!("first `sbx up` {}, with pulling and the snapshot", output::duration(first)),
    );
    output::step("demo", format_args!("second `sbx up -- true` {}, start to exit", output::duration(second)));
    output::step("demo", format_args!("the program is {}; try it in {}", sbx.display(), example.display()));
    Ok(())
}

fn first_start(up: &mut Command, made: &Path) -> Result<Duration, DemoError> {
    let taken = timed(up)?;
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    output::step("demo", format_args!("the host's kernel is {}", host.trim()));
    let metadata =
        fs::metadata(made).map_err(|source| DemoError::NothingMade { path: made.to_path_buf(), source })?;
    let owner = user(metadata.uid());
    output::step("demo", format_args!("{MADE} is here, and belongs to {owner}"));
    Ok(taken)
}

fn timed(command: &mut Command) -> Result<Duration, ProgramError> {
    let begin = Instant::now();
    program::run(command)?;
    Ok(begin.elapsed())
}

fn build_sbx() -> Result<PathBuf, ProgramError> {
    let mut build = program::cargo();
    program::run(
        build.args(["build", "--release", "--package", "sbx-cli"]).current_dir(cache::repository()),
    )?;
    Ok(cache::target().join("release/sbx"))
}

/// A registry of our own with the image, unless the world's can be reached.
fn mirror() -> Result<Option<Registry>, DemoError> {
    if registry::reachable(REGISTRY) {
        return Ok(None);
    }
    output::step(
        "image",
        format_args!("{REGISTRY} cannot be reached from here, so a mirror on loopback stands in"),
    );
    let layout = image::layout(&image::DEBIAN)?;
    let registry = Registry::start()?;
    registry.push(&layout, &image::DEBIAN)?;
    Ok(Some(registry))
}

/// A user's name and number.
fn user(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shown_by_name_where_they_have_one() {
        assert_eq!(user(0), "root (uid 0)");
        assert_eq!(user(4_000_000_000), "uid 4000000000");
    }
}
