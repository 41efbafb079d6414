//! The guest kernel: built from Debian's source and our recipe, cached, and installed where `sbx` looks for it.
//!
//! ```text
//! /usr/src/linux-source-6.12.tar.xz ─unpack→ ─tinyconfig + kernel/config→ ─patches→ ─make→ ─strip→ vmlinux
//!   <cache>/kernel/<recipe hash>-<Debian version>/vmlinux        what was built
//!   $SBX_HOME/kernels/<key>/vmlinux                              what sbx boots
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use thiserror::Error;

use crate::cache::{self, CacheError};
use crate::key::{self, Recipe};
use crate::output::{self, Count};
use crate::program::{self, ProgramError};
use crate::tools::{self, Purpose, ToolsError};

/// About how many files make says it compiles; the count shown goes up to here.
const EXPECTED_OBJECTS: u64 = 2_260;
/// A kernel that is larger takes too long to read at every boot.
const MAXIMUM_SIZE_BYTES: u64 = 25 << 20;

/// Build the guest kernel and install it where sbx looks for it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only print the key, which names the kernel in $SBX_HOME/kernels
    #[arg(long)]
    key: bool,
}

/// Why there is no kernel.
#[derive(Debug, Error)]
pub(crate) enum KernelError {
    /// The recipe in the checkout cannot be read.
    #[error("cannot read the recipe in {}", path.display())]
    Recipe {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is needed to build is not there.
    #[error("cannot build the guest kernel")]
    Tools(#[from] ToolsError),
    /// The cache or $SBX_HOME failed.
    #[error("cannot keep the guest kernel")]
    Cache(#[from] CacheError),
    /// A step of the build failed.
    #[error("cannot {action}; the whole output is in {}", log.display())]
    Step {
        /// What was tried.
        action: &'static str,
        /// Everything that was said.
        log: PathBuf,
        /// What failed.
        source: ProgramError,
    },
    /// A program that tells about the system failed.
    #[error("cannot find out the version of the kernel's source")]
    Version(#[source] ProgramError),
    /// Options of the fragment did not survive.
    #[error("these lines of kernel/config had no effect (a dependency is missing?):\n    {}", lines.join("\n    "))]
    Lost {
        /// The lines.
        lines: Vec<String>,
    },
    /// The result is too large.
    #[error(
        "the kernel has {size} bytes, more than {MAXIMUM_SIZE_BYTES}; take something out of kernel/config"
    )]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The task.
pub(crate) fn run(arguments: &Args) -> Result<(), KernelError> {
    if arguments.key {
        output::result(recipe()?.key());
        return Ok(());
    }
    output::result(install()?.display());
    Ok(())
}

/// Builds the kernel unless it is cached, installs it unless it is installed, and says where it lies.
pub(crate) fn install() -> Result<PathBuf, KernelError> {
    let recipe = recipe()?;
    let built = build(&recipe)?;
    let directory = cache::sbx_home()?.join("kernels").join(recipe.key());
    cache::create(&directory)?;
    let path = directory.join("vmlinux");
    if same(&built, &path) {
        output::step("kernel", format_args!("installed as {}", path.display()));
        return Ok(path);
    }
    // The name is our own, so two at once each rename a complete file.
    let part = directory.join(format!("vmlinux.{}.part", std::process::id()));
    fs::copy(&built, &part).map_err(|source| io_failed("copy the kernel to", &part, source))?;
    cache::publish(&part, &path)?;
    output::step("kernel", format_args!("installed {}", path.display()));
    Ok(path)
}

/// The recipe of this checkout.
pub(crate) fn recipe() -> Result<Recipe, KernelError> {
    let path = cache::repository().join("kernel");
    Recipe::read(&path).map_err(|source| KernelError::Recipe { path, source })
}

fn same(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    length(a) == length(b) && matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

/// The kernel of this recipe in the cache, which is built if it is not there.
fn build(recipe: &Recipe) -> Result<PathBuf, KernelError> {
    let kernels = cache::directory("kernel")?;
    if !tools::ready(&[Purpose::Kernel])
        && let Some(path) = any_version(&kernels, &recipe.hash)
    {
        return Ok(path);
    }
    tools::ensure(&[Purpose::Kernel])?;
    let place = kernels.join(format!("{}-{}", recipe.hash, source_version()?));
    let path = place.join("vmlinux");
    let waiting = || output::step("kernel", "waiting for another build of the same kernel");
    let _lock = cache::lock(&place, waiting)?;
    if path.exists() {
        return Ok(path);
    }
    cache::sweep(&kernels, "build");
    Build { recipe, directory: cache::beside(&place, "build"), log: cache::beside(&place, "log") }
        .run(&path)?;
    Ok(path)
}

/// A kernel of this recipe from whichever version of the source: good enough where the source is not installed.
fn any_version(kernels: &Path, hash: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(kernels).ok()?.flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(hash));
    ours.map(|entry| entry.path().join("vmlinux")).filter(|path| path.exists()).max()
}

/// Debian's version of the source package, as in `6.12.43-1~bpo12+1`.
fn source_version() -> Result<String, KernelError> {
    let package = format!("linux-source-{}", key::SERIES);
    let mut query = Command::new("dpkg-query");
    let version = program::output(query.args(["-W", "-f", "${Version}"]).arg(package));
    let version = version.map_err(KernelError::Version)?;
    // It becomes part of a file name.
    Ok(String::from_utf8_lossy(&version).replace('/', "_"))
}

/// One build in a directory of its own.
struct Build<'a> {
    recipe: &'a Recipe,
    directory: PathBuf,
    log: PathBuf,
}

impl Build<'_> {
    fn run(&self, result: &Path) -> Result<(), KernelError> {
        let begin = Instant::now();
        cache::remove(&self.directory)?;
        cache::create(&self.directory)?;
        output::step(
            "kernel",
            format_args!("unpacking Linux {} (1.6 GB for as long as it is built)", key::SERIES),
        );
        let archive = format!("/usr/src/linux-source-{}.tar.xz", key::SERIES);
        self.step("unpack the source", Command::new("tar").args(["-xf", &archive, "--strip-components=1"]))?;
        self.patch()?;
        self.configure()?;
        self.compile()?;
        let part = cache::beside(result, "part");
        if let Some(parent) = result.parent() {
            cache::create(parent)?;
        }
        self.step("strip the kernel", Command::new("strip").args(["-s", "vmlinux", "-o"]).arg(&part))?;
        let size = fs::metadata(&part).map_err(|source| io_failed("read", &part, source))?.len();
        if size > MAXIMUM_SIZE_BYTES {
            return Err(KernelError::TooLarge { size });
        }
        cache::publish(&part, result)?;
        cache::remove(&self.directory)?;
        cache::remove(&self.log)?;
        let taken = output::duration(begin.elapsed());
        output::step("kernel", format_args!("built in {taken}, {:.1} MB", megabytes(size)));
        Ok(())
    }

    fn patch(&self) -> Result<(), KernelError> {
        for patch in self.recipe.files.iter().skip(1) {
            let name = patch.file_name().unwrap_or_default().to_string_lossy();
            output::step("kernel", format_args!("applying {name}"));
            let file = File::open(patch).map_err(|source| io_failed("read", patch, source))?;
            let mut command = Command::new("patch");
            command.args(["-p1", "--batch", "--forward", "--fuzz=0", "-i", "-"]).current_dir(&self.directory);
            // Patches live in a checkout whose path may hold anything, so they come over stdin.
            command.stdin(file);
            let failed = |source| KernelError::Step { action: "apply a patch", log: patch.clone(), source };
            program::run(command.stdout(std::process::Stdio::null())).map_err(failed)?;
        }
        Ok(())
    }

    fn configure(&self) -> Result<(), KernelError> {
        self.step("configure the kernel", self.make().arg("tinyconfig"))?;
        let fragment = self.recipe.files.first().cloned().unwrap_or_default();
        let fragment =
            fs::read_to_string(&fragment).map_err(|source| io_failed("read", &fragment, source))?;
        let path = self.directory.join(".config");
        let read = || fs::read_to_string(&path).map_err(|source| io_failed("read", &path, source));
        // Of two lines for one option kconfig takes the last.
        let merged = read()? + &fragment;
        fs::write(&path, merged).map_err(|source| io_failed("write", &path, source))?;
        self.step("configure the kernel", self.make().arg("olddefconfig"))?;
        let lines = lost(&fragment, &read()?);
        if lines.is_empty() { Ok(()) } else { Err(KernelError::Lost { lines }) }
    }

    fn compile(&self) -> Result<(), KernelError> {
        let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        output::step("kernel", format_args!("compiling on {jobs} processors; two need about six minutes"));
        let mut count = Count::start("kernel", "files compiled", EXPECTED_OBJECTS);
        let mut command = self.make();
        command.arg(format!("-j{jobs}")).arg("vmlinux");
        let done = program::logged(&mut command, &self.log, |line| {
            if line.starts_with("  CC ") || line.starts_with("  AS ") {
                count.add();
            }
        });
        count.finish();
        done.map_err(|source| KernelError::Step {
            action: "compile the kernel",
            log: self.log.clone(),
            source,
        })
    }

    /// `make` with everything fixed that would make two builds differ.
    fn make(&self) -> Command {
        let mut command = Command::new("make");
        command.env("KBUILD_BUILD_USER", "sbx").env("KBUILD_BUILD_HOST", "sbx");
        command.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_VERSION", "1");
        command.env("LC_ALL", "C").env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
        command.current_dir(&self.directory);
        command
    }

    fn step(&self, action: &'static str, command: &mut Command) -> Result<(), KernelError> {
        let command = command.current_dir(&self.directory);
        program::logged(command, &self.log, |_| {}).map_err(|source| KernelError::Step {
            action,
            log: self.log.clone(),
            source,
        })
    }
}

/// Lines of the fragment that are not so in the final configuration.
fn lost(fragment: &str, config: &str) -> Vec<String> {
    let values: HashMap<&str, &str> = config.lines().filter_map(assignment).collect();
    let wanted = fragment.lines().filter_map(|line| Some((line, assignment(line)?)));
    let kept = |option: &str, value: &str| values.get(option).copied().unwrap_or("n") == value;
    wanted.filter(|(_, (option, value))| !kept(option, value)).map(|(line, _)| line.to_owned()).collect()
}

/// Option and value of `CONFIG_X=value` or `# CONFIG_X is not set`; comments and blank lines are neither.
fn assignment(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return rest.strip_suffix(" is not set").map(|option| (option, "n"));
    }
    line.strip_prefix("CONFIG_")?.split_once('=')
}

fn io_failed(action: &'static str, path: &Path, source: io::Error) -> KernelError {
    KernelError::Io { action, path: path.to_path_buf(), source }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_effect_are_named() {
        let fragment =
            "# why\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n\nCONFIG_D=n\nCONFIG_E=100\n";
        assert_eq!(lost(fragment, "CONFIG_A=y\nCONFIG_C=\"x\"\nCONFIG_E=100\n"), Vec::<String>::new());
        let config = "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=\"x\"\nCONFIG_D=y\nCONFIG_E=250\n";
        let lines = ["CONFIG_A=y", "# CONFIG_B is not set", "CONFIG_D=n", "CONFIG_E=100"];
        assert_eq!(lost(fragment, config), lines);
    }

    #[test]
    fn the_recipe_has_a_key_and_every_patch_says_why() {
        let recipe = recipe().unwrap();
        assert_eq!(recipe.key().len(), 16);
        for patch in recipe.files.iter().skip(1) {
            let text = fs::read_to_string(patch).unwrap();
            let head = text.split("--- a/").next().unwrap();
            assert!(head.lines().filter(|line| !line.is_empty()).count() > 1, "{}", patch.display());
        }
    }

    #[test]
    fn another_recipe_has_another_key() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("patches")).unwrap();
        let hash = || Recipe::read(directory.path()).unwrap().hash;
        write("config", "CONFIG_A=y\n");
        let plain = hash();
        write("patches/README", "not a patch");
        assert_eq!(hash(), plain);
        write("patches/0001-a.patch", "x");
        let patched = hash();
        assert_ne!(patched, plain);
        write("config", "CONFIG_A=n\n");
        assert_ne!(hash(), patched);
    }
}
