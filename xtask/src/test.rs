//! The whole test suite, on a machine with nothing but Rust: packages, kernel, image, registry, then the tests.
//!
//! Tests learn from the environment what was prepared for them:
//!
//! | variable | what |
//! |---|---|
//! | `SBX_TEST_KERNEL` | the guest kernel |
//! | `SBX_TEST_KERNEL_EMULATED_KVM` | where there is a /dev/kvm: the kernel to boot on it if it emulates |
//! | `SBX_TEST_ENGINE` | the engine, when the end-to-end tests run once more on the other one |
//! | `SBX_TEST_IMAGES` | an OCI layout with the tag `bookworm-slim` |
//! | `SBX_TEST_CLIENTS` | an OCI layout of `library/clients:bookworm` |
//! | `SBX_TEST_RUST` | an OCI layout of Debian with cargo |
//! | `SBX_TEST_ALPINE` | an OCI layout of Alpine |
//! | `SBX_TEST_DNF` | an OCI layout of Debian with dnf and rpm |
//! | `SBX_TEST_DOWNLOADS` | a directory for files that packages are installed from, which the next run finds again |
//! | `SBX_TEST_REGISTRY` | host:port of a registry that serves it as `library/debian:bookworm-slim` over HTTP, and `library/clients:bookworm` |

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::cache::{self, CacheError};
use crate::image::{self, ImageError, Recipe, alpine};
use crate::kernel::{self, KernelError};
use crate::output;
use crate::program::{self, ProgramError};
use crate::registry::{Registry, RegistryError};
use crate::tools::{self, Purpose, ToolsError};

/// What tests find as files. The suite's registry serves those of [`SERVED`], too.
const IMAGES: [&Recipe; 4] = [&image::DEBIAN, &image::CLIENTS, &image::RUST, &image::DNF];

/// How many of [`IMAGES`], from the first, the registry serves.
const SERVED: usize = 3;

/// The variables that say where the files of [`IMAGES`] are.
const LAYOUTS: [&str; 4] = ["SBX_TEST_IMAGES", "SBX_TEST_CLIENTS", "SBX_TEST_RUST", "SBX_TEST_DNF"];

/// Names of images in the examples, which want clients that [`image::CLIENTS`] has.
const LIKE_CLIENTS: [&str; 2] = ["library/node:22-bookworm", "library/python:3.11-bookworm"];

/// How long a downloaded file is kept that no test asked for.
const UNUSED_DOWNLOADS: Duration = Duration::from_hours(30 * 24);

/// Run the whole test suite; arguments go to nextest
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments for `cargo nextest run`, as in `cargo xtask test -p sbx-image pull`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Why the tests did not pass.
#[derive(Debug, Error)]
pub(crate) enum TestError {
    /// What tests call is not there.
    #[error("cannot run the tests")]
    Tools(#[from] ToolsError),
    /// No kernel for the guests.
    #[error("cannot prepare the guest kernel for the tests")]
    Kernel(#[from] KernelError),
    /// No image for the guests.
    #[error("cannot prepare the image for the tests")]
    Image(#[from] ImageError),
    /// No registry.
    #[error("cannot prepare the registry for the tests")]
    Registry(#[from] RegistryError),
    /// No cache.
    #[error("cannot prepare the tests")]
    Cache(#[from] CacheError),
    /// Tests failed; they have said which.
    #[error("the tests did not pass")]
    Failed(#[source] ProgramError),
}

/// The task.
pub(crate) fn run(arguments: &Args) -> Result<(), TestError> {
    let begin = Instant::now();
    tools::ensure(&[Purpose::Machine, Purpose::Test, Purpose::Registry])?;
    let Prepared { kernel, variant, images, alpine } = prepare()?;
    let downloads = cache::directory("downloads")?;
    cache::remove_unused(&downloads, UNUSED_DOWNLOADS);
    let nextest = ensure_nextest();
    let registry = Registry::start()?;
    for (layout, recipe) in images.iter().zip(IMAGES).take(SERVED) {
        registry.push(layout, recipe)?;
    }
    for (layout, recipe) in images.iter().zip(IMAGES).filter(|(_, recipe)| recipe.name == image::CLIENTS.name)
    {
        for name in LIKE_CLIENTS {
            registry.push_as(layout, recipe, name)?;
        }
    }
    let environment = |command: &mut Command| {
        command.env("SBX_TEST_KERNEL", &kernel).envs(LAYOUTS.into_iter().zip(&images));
        command.env("SBX_TEST_ALPINE", &alpine).env("SBX_TEST_DOWNLOADS", &downloads);
        command.env("SBX_TEST_REGISTRY", registry.address()).current_dir(cache::repository());
        if let Some(variant) = &variant {
            command.env("SBX_TEST_KERNEL_EMULATED_KVM", variant);
        }
    };
    let cargo = |words: &[&str]| {
        let mut command = program::cargo();
        command.args(words);
        environment(&mut command);
        command
    };
    // The whole suite has documentation tests; a chosen part has not. They go first: what nextest counts in the end
    // is then the end of the output.
    if arguments.arguments.is_empty() {
        output::step("test", "the examples in the documentation");
        program::run(&mut cargo(&["test", "--quiet", "--workspace", "--doc"])).map_err(TestError::Failed)?;
    }
    output::step(
        "test",
        format_args!("everything prepared in {}; compiling", output::duration(begin.elapsed())),
    );
    // The end-to-end tests call the program, which is nobody's dependency and would be missing when only they are chosen.
    program::run(&mut cargo(&["build", "--quiet", "--package", "sbx-cli"])).map_err(TestError::Failed)?;
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--no-fail-fast"] };
    // Where KVM runs on the hardware it is what the tests below run on; whoever has no such machine has QEMU.
    if arguments.arguments.is_empty() && kvm_is_hardware() {
        output::step("test", "the end-to-end tests on the qemu engine, before everything on the kvm engine");
        let mut tests = cargo(runner);
        tests.args(["--package", "sbx-tests"]).env("SBX_TEST_ENGINE", "qemu");
        program::run(&mut tests).map_err(TestError::Failed)?;
    }
    let mut tests = cargo(runner);
    if !arguments.arguments.iter().any(|word| word == "-p" || word == "--package") {
        tests.arg("--workspace");
    }
    program::run(tests.args(&arguments.arguments)).map_err(TestError::Failed)
}

/// What guests of the tests are made of.
struct Prepared {
    kernel: PathBuf,
    variant: Option<PathBuf>,
    /// OCI layouts of [`IMAGES`].
    images: Vec<PathBuf>,
    alpine: PathBuf,
}

/// Makes what is not in the cache. Images wait for Debian's mirror most of the time, and kernels for the processors.
fn prepare() -> Result<Prepared, TestError> {
    thread::scope(|scope| {
        let images = scope.spawn(|| {
            let alpine = alpine::layout()?;
            let images = IMAGES.into_iter().map(image::layout).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, ImageError>((images, alpine))
        });
        // Whether KVM emulates is asked by the tests, of the program that they test. Together the two kernels take
        // little longer than one, and computers without KVM do not need the second.
        let kernels = if Path::new("/dev/kvm").exists() {
            kernel::install_with_variant().map(|(kernel, variant)| (kernel, Some(variant)))
        } else {
            kernel::install().map(|kernel| (kernel, None))
        };
        let images = images.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let ((kernel, variant), (images, alpine)) = (kernels?, images?);
        Ok(Prepared { kernel, variant, images, alpine })
    })
}

/// Does the program that has just been built take its own engine by itself?
fn kvm_is_hardware() -> bool {
    let mut doctor = Command::new(cache::target().join("debug/sbx"));
    // A doctor who finds something missing says so with its exit code.
    let report = doctor.args(["doctor", "--json"]).output().map(|output| output.stdout).unwrap_or_default();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&report).unwrap_or_default();
    findings.iter().any(|finding| finding["kvm"] == "hardware")
}

/// Is nextest there, if need be after installing it?
fn ensure_nextest() -> bool {
    if program::succeeds(program::cargo().args(["nextest", "--version"])) {
        return true;
    }
    output::step("test", "installing cargo-nextest, which takes some minutes the first time");
    let mut install = program::cargo();
    // A target directory in the cache would be shared with nobody; cargo's own temporary one is removed afterwards.
    install.args(["install", "--quiet", "--locked", "cargo-nextest"]).current_dir(cache::repository());
    match program::run(&mut install) {
        Ok(()) => true,
        Err(error) => {
            output::step("test", format_args!("{error}; running the tests with `cargo test`"));
            false
        }
    }
}
