//! The guest kernel: built from Debian's source and our recipe, cached, and installed where `sbx` looks for it.
//!
//! ```text
//! <cache>/kernel/<hash>-<Debian version>/vmlinux   what was built (module `build`)
//! $SBX_HOME/kernels/<key>/vmlinux                  what sbx boots
//! ```
//! A variant is a second recipe over the first. It is for tests, which name its file; no sbx finds it by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cache::{self, CacheError};
use crate::key::Recipe;
use crate::output;
use crate::program::ProgramError;
use crate::tools::ToolsError;

mod build;

use build::{Kernel, MAXIMUM_SIZE_BYTES};

/// Build the guest kernel and install it where sbx looks for it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only print the key, which names the kernel in $SBX_HOME/kernels
    #[arg(long)]
    key: bool,

    /// Build a kernel that only tests may boot; print where it lies, and install nothing
    #[arg(long, value_enum, conflicts_with = "key")]
    variant: Option<Variant>,
}

/// A second recipe, in a directory of kernel/.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Variant {
    /// For a KVM that emulates the guest's kernel mode
    EmulatedKvm,
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
    #[error("these lines of {} had no effect (a dependency is missing?):\n    {}", path.display(), lines.join("\n    "))]
    Lost {
        /// The fragment.
        path: PathBuf,
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
    let path = match arguments.variant {
        None => install()?,
        Some(Variant::EmulatedKvm) => {
            let kernel = emulated_kvm(&recipe()?)?;
            build::ensure(&[&kernel])?;
            kernel.path
        }
    };
    output::result(path.display());
    Ok(())
}

/// Builds the kernel unless it is cached, installs it unless it is installed, and says where it lies.
pub(crate) fn install() -> Result<PathBuf, KernelError> {
    let recipe = recipe()?;
    let kernel = Kernel::of(vec![recipe.clone()])?;
    build::ensure(&[&kernel])?;
    put_in_place(&recipe, &kernel.path)
}

/// The same, and the variant for an emulated KVM besides: where the two lie. What has to be built is built in one tree.
pub(crate) fn install_with_variant() -> Result<(PathBuf, PathBuf), KernelError> {
    let recipe = recipe()?;
    let (kernel, variant) = (Kernel::of(vec![recipe.clone()])?, emulated_kvm(&recipe)?);
    build::ensure(&[&kernel, &variant])?;
    Ok((put_in_place(&recipe, &kernel.path)?, variant.path))
}

/// The recipe of this checkout.
pub(crate) fn recipe() -> Result<Recipe, KernelError> {
    read_recipe(cache::repository().join("kernel"))
}

fn emulated_kvm(recipe: &Recipe) -> Result<Kernel, KernelError> {
    let variant = read_recipe(cache::repository().join("kernel/emulated-kvm"))?;
    Kernel::of(vec![recipe.clone(), variant])
}

fn read_recipe(path: PathBuf) -> Result<Recipe, KernelError> {
    Recipe::read(&path).map_err(|source| KernelError::Recipe { path, source })
}

fn put_in_place(recipe: &Recipe, built: &Path) -> Result<PathBuf, KernelError> {
    let directory = cache::sbx_home()?.join("kernels").join(recipe.key());
    cache::create(&directory)?;
    let path = directory.join("vmlinux");
    if same(built, &path) {
        output::step("kernel", format_args!("installed as {}", path.display()));
        return Ok(path);
    }
    // The name is our own, so two at once each rename a complete file.
    let part = directory.join(format!("vmlinux.{}.part", std::process::id()));
    fs::copy(built, &part).map_err(|source| io_failed("copy the kernel to", &part, source))?;
    cache::publish(&part, &path)?;
    output::step("kernel", format_args!("installed {}", path.display()));
    Ok(path)
}

fn same(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    length(a) == length(b) && matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

fn io_failed(action: &'static str, path: &Path, source: io::Error) -> KernelError {
    KernelError::Io { action, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_has_a_key_and_every_patch_says_why() {
        assert_eq!(recipe().unwrap().key().len(), 16);
        let variant = read_recipe(cache::repository().join("kernel/emulated-kvm")).unwrap();
        for recipe in [recipe().unwrap(), variant] {
            for patch in recipe.files.iter().skip(1) {
                let text = fs::read_to_string(patch).unwrap();
                let head = text.split("--- a/").next().unwrap();
                assert!(head.lines().filter(|line| !line.is_empty()).count() > 1, "{}", patch.display());
            }
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
