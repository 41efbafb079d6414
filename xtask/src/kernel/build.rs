//! Kernels in the cache: found there, or built from Debian's source.
//!
//! ```text
//! /usr/src/linux-source-6.12.tar.xz ─unpack→ ─patches→ ─tinyconfig + config→ ─make→ ─strip→ vmlinux
//!                                             variant:  └─patches→ ─config→ ─make→ ─strip→ vmlinux
//! ```
//! A kernel and its variant that are both wanted come out of one source tree: the second `make` compiles what differs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::{KernelError, io_failed};
use crate::cache;
use crate::key::{self, Recipe};
use crate::output::{self, Count};
use crate::program::{self, ProgramError};
use crate::tools::{self, Purpose};

/// About how many files make says it compiles; the count shown goes up to here.
const EXPECTED_OBJECTS: u64 = 2_260;
/// A kernel that is larger takes too long to read at every boot.
pub(super) const MAXIMUM_SIZE_BYTES: u64 = 25 << 20;

/// A kernel and its place in the cache, in which it may be or not.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Applied one over the other.
    recipes: Vec<Recipe>,
    /// Where it lies, or will lie once it is built.
    pub(super) path: PathBuf,
}

impl Kernel {
    /// The kernel of these recipes, which are applied in this order.
    pub(super) fn of(recipes: Vec<Recipe>) -> Result<Self, KernelError> {
        let kernels = cache::directory("kernel")?;
        let hash = hash(&recipes);
        if !tools::ready(&[Purpose::Kernel])
            && let Some(path) = any_version(&kernels, &hash)
        {
            return Ok(Self { recipes, path });
        }
        tools::ensure(&[Purpose::Kernel])?;
        let path = kernels.join(format!("{hash}-{}", source_version()?)).join("vmlinux");
        Ok(Self { recipes, path })
    }

    /// The directory of its own, beside which its lock and what is built lie.
    fn place(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// Builds those that are not there. The recipes of each begin with the recipes of the one before it.
pub(super) fn ensure(kernels: &[&Kernel]) -> Result<(), KernelError> {
    let mut missing = Vec::new();
    let mut locks = Vec::new();
    for kernel in kernels.iter().filter(|kernel| !kernel.path.exists()) {
        let waiting = || output::step("kernel", "waiting for another build of the same kernel");
        let lock = cache::lock(kernel.place(), waiting)?;
        if !kernel.path.exists() {
            missing.push(*kernel);
            locks.push(lock);
        }
    }
    let Some(first) = missing.first() else { return Ok(()) };
    cache::sweep(&cache::directory("kernel")?, "build");
    let place = first.place();
    let mut tree = Tree::unpack(cache::beside(place, "build"), cache::beside(place, "log"))?;
    for kernel in missing {
        tree.build(kernel)?;
    }
    tree.remove()
}

/// The hash of one recipe is its own.
fn hash(recipes: &[Recipe]) -> String {
    if let [recipe] = recipes {
        return recipe.hash.clone();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sbx guest kernel variant 1");
    // Each has 64 digits, so no two different lists are the same bytes.
    for recipe in recipes {
        hasher.update(recipe.hash.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// A kernel of this hash from whichever version of the source: good enough where the source is not installed.
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

/// The source in a directory of its own, with some recipes applied.
struct Tree {
    directory: PathBuf,
    log: PathBuf,
    applied: usize,
    compiled: bool,
}

impl Tree {
    fn unpack(directory: PathBuf, log: PathBuf) -> Result<Self, KernelError> {
        cache::remove(&directory)?;
        cache::create(&directory)?;
        let tree = Self { directory, log, applied: 0, compiled: false };
        output::step(
            "kernel",
            format_args!("unpacking Linux {} (1.6 GB for as long as it is built)", key::SERIES),
        );
        let archive = format!("/usr/src/linux-source-{}.tar.xz", key::SERIES);
        tree.step("unpack the source", Command::new("tar").args(["-xf", &archive, "--strip-components=1"]))?;
        Ok(tree)
    }

    fn build(&mut self, kernel: &Kernel) -> Result<(), KernelError> {
        let begin = Instant::now();
        for recipe in kernel.recipes.iter().skip(self.applied) {
            self.patch(recipe)?;
            self.configure(recipe)?;
            self.applied += 1;
        }
        self.compile()?;
        let part = cache::beside(&kernel.path, "part");
        cache::create(kernel.place())?;
        self.step("strip the kernel", Command::new("strip").args(["-s", "vmlinux", "-o"]).arg(&part))?;
        let size = fs::metadata(&part).map_err(|source| io_failed("read", &part, source))?.len();
        if size > MAXIMUM_SIZE_BYTES {
            return Err(KernelError::TooLarge { size });
        }
        cache::publish(&part, &kernel.path)?;
        let taken = output::duration(begin.elapsed());
        output::step("kernel", format_args!("built in {taken}, {:.1} MB", megabytes(size)));
        Ok(())
    }

    fn patch(&self, recipe: &Recipe) -> Result<(), KernelError> {
        for patch in recipe.files.iter().skip(1) {
            let name = patch.file_name().unwrap_or_default().to_string_lossy();
            output::step("kernel", format_args!("applying {name}"));
            let file = File::open(patch).map_err(|source| io_failed("read", patch, source))?;
            let mut command = Command::new("patch");
            command.args(["-p1", "--batch", "--forward", "--fuzz=0", "-i", "-"]).current_dir(&self.directory);
            // Patches live in a checkout whose path may hold anything, so they come over stdin.
            command.stdin(file);
            let failed = |source| KernelError::Step { action: "apply a patch", log: patch.clone(), source };
            program::run(command.stdout(Stdio::null())).map_err(failed)?;
        }
        Ok(())
    }

    fn configure(&self, recipe: &Recipe) -> Result<(), KernelError> {
        if self.applied == 0 {
            self.step("configure the kernel", self.make().arg("tinyconfig"))?;
        }
        let file = recipe.files.first().cloned().unwrap_or_default();
        let fragment = fs::read_to_string(&file).map_err(|source| io_failed("read", &file, source))?;
        let path = self.directory.join(".config");
        let read = || fs::read_to_string(&path).map_err(|source| io_failed("read", &path, source));
        // Of two lines for one option kconfig takes the last.
        let merged = read()? + &fragment;
        fs::write(&path, merged).map_err(|source| io_failed("write", &path, source))?;
        self.step("configure the kernel", self.make().arg("olddefconfig"))?;
        let lines = lost(&fragment, &read()?);
        if lines.is_empty() { Ok(()) } else { Err(KernelError::Lost { path: file, lines }) }
    }

    fn compile(&mut self) -> Result<(), KernelError> {
        let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut command = self.make();
        command.arg(format!("-j{jobs}")).arg("vmlinux");
        if self.compiled {
            output::step("kernel", "compiling what the variant changes");
            return self.step("compile the kernel", &mut command);
        }
        output::step("kernel", format_args!("compiling on {jobs} processors; two need about six minutes"));
        let mut count = Count::start("kernel", "files compiled", EXPECTED_OBJECTS);
        let done = program::logged(&mut command, &self.log, |line| {
            if line.starts_with("  CC ") || line.starts_with("  AS ") {
                count.add();
            }
        });
        count.finish();
        self.compiled = true;
        done.map_err(|source| self.failed("compile the kernel", source))
    }

    fn remove(self) -> Result<(), KernelError> {
        cache::remove(&self.directory)?;
        Ok(cache::remove(&self.log)?)
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
        program::logged(command, &self.log, |_| {}).map_err(|source| self.failed(action, source))
    }

    fn failed(&self, action: &'static str, source: ProgramError) -> KernelError {
        KernelError::Step { action, log: self.log.clone(), source }
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
    fn a_variant_has_a_name_of_its_own_and_the_kernel_keeps_its_key() {
        let recipe = |hash: &str| Recipe { hash: hash.repeat(64), files: Vec::new() };
        assert_eq!(hash(&[recipe("a")]), "a".repeat(64));
        let variant = hash(&[recipe("a"), recipe("b")]);
        assert_ne!(variant, hash(&[recipe("b")]));
        assert_ne!(variant, hash(&[recipe("c"), recipe("b")]));
        assert_ne!(variant, hash(&[recipe("b"), recipe("a")]));
    }
}
