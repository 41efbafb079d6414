//! Real images for tests, demo and measurements, made from Debian's packages because no public registry need be there. One, of
//! Alpine, is in the module [`alpine`].
//!
//! ```text
//! <cache>/images/<hash of the recipe>/oci/     an OCI layout with one tag
//! ```
//! The recipe is the list of shell-free command lines below; whoever changes it gets another directory.

pub(crate) mod alpine;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use thiserror::Error;

use crate::cache::{self, CacheError};
use crate::output;
use crate::program::{self, ProgramError};
use crate::tools::{self, Purpose, ToolsError};

/// An image to make: a Debian base and maybe a second layer of packages' files.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// Its name below a registry.
    pub(crate) name: &'static str,
    /// Its tag, in the layout and in a registry.
    pub(crate) tag: &'static str,
    /// Debian's release.
    suite: &'static str,
    /// Packages besides the required ones, with what they depend on.
    include: &'static str,
    /// Packages whose files alone, without what they depend on, are the second layer.
    second_layer: &'static [&'static str],
}

/// Looks like the image of that name on Docker Hub, with what tests call.
pub(crate) const DEBIAN: Recipe = Recipe {
    name: "library/debian",
    tag: "bookworm-slim",
    suite: "bookworm",
    include: "ca-certificates,git,python3,iproute2,procps",
    second_layer: &[],
};

/// The clients of the protocols that agents speak, as Debian has them: 522 packages, 195 MB compressed and 530 MB of files.
pub(crate) const CLIENTS: Recipe = Recipe {
    name: "library/clients",
    tag: "bookworm",
    suite: "bookworm",
    include: "ca-certificates,curl,git,iperf3,iproute2,nodejs,npm,openssh-client,postgresql-client,procps,\
              python3,python3-pip,python3-requests",
    second_layer: &[],
};

/// The clients of distributions that are made of rpms, which Debian has, too.
pub(crate) const DNF: Recipe =
    Recipe { name: "library/dnf", tag: "bookworm", suite: "bookworm", include: "dnf,rpm", second_layer: &[] };

/// Debian's newest compiler, for what is built in a sandbox; the example for Rust names an image like it.
pub(crate) const RUST: Recipe = Recipe {
    name: "library/rust",
    tag: "1.95-bookworm",
    suite: "bookworm",
    include: "ca-certificates,cargo-web,gcc,libc6-dev,rustc-web",
    second_layer: &[],
};

/// Two layers, about 450 MB compressed and 1.1 GB of files: compilers, as a developer's image has them.
pub(crate) const LARGE: Recipe = Recipe {
    name: "library/large",
    tag: "1",
    suite: "bookworm",
    include: "ca-certificates,git,python3,iproute2,procps",
    second_layer: &[
        "golang-1.19-go",
        "openjdk-17-jdk-headless",
        "openjdk-17-jre-headless",
        "gcc-12",
        "libllvm14",
        "libnode108",
    ],
};

/// The environment of the image, as Docker's own has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why there is no image.
#[derive(Debug, Error)]
pub(crate) enum ImageError {
    /// What is needed to make it is not there.
    #[error("cannot make an image")]
    Tools(#[from] ToolsError),
    /// The cache failed.
    #[error("cannot keep the image")]
    Cache(#[from] CacheError),
    /// The root file system could not be made.
    #[error(
        "cannot make a Debian root file system; it needs Debian's mirror, and without root user namespaces and \
         a range of user ids in /etc/subuid and /etc/subgid (the whole output is in {})",
        log.display()
    )]
    Bootstrap {
        /// Everything that was said.
        log: PathBuf,
        /// What failed.
        source: ProgramError,
    },
    /// Another step failed.
    #[error("cannot {action}")]
    Step {
        /// What was tried.
        action: &'static str,
        /// What failed.
        source: ProgramError,
    },
    /// A file or a directory could not be read or changed.
    #[error("cannot read or change {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The OCI layout of an image, which is made if it is not in the cache.
pub(crate) fn layout(recipe: &Recipe) -> Result<PathBuf, ImageError> {
    made(&recipe.hash(), &recipe.full_name(), |work| Build { recipe, work }.run())
}

/// The OCI layout of the image whose recipe has this hash. If it is not in the cache, `make` makes it as `oci` in the directory
/// that it is given, which is removed afterwards.
fn made(
    hash: &str,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), ImageError>,
) -> Result<PathBuf, ImageError> {
    let place = cache::directory("images")?.join(hash);
    let result = place.join("oci");
    if result.exists() {
        return Ok(result);
    }
    let _lock =
        cache::lock(&place, || output::step("image", "waiting for another that makes the same image"))?;
    if result.exists() {
        return Ok(result);
    }
    tools::ensure(&[Purpose::Image])?;
    if !tools::is_root() {
        tools::ensure(&[Purpose::ImageAsUser])?;
    }
    let work = cache::beside(&place, "build");
    if let Some(images) = place.parent() {
        cache::sweep(images, "build");
    }
    cache::remove(&work)?;
    cache::create(&work)?;
    let begin = Instant::now();
    make(&work)?;
    cache::create(&place)?;
    cache::publish(&work.join("oci"), &result)?;
    cache::remove(&work)?;
    output::step("image", format_args!("made {name} in {}", output::duration(begin.elapsed())));
    Ok(result)
}

/// Makes the image `tag` of tars that are in `work`, in an OCI layout of its own there.
fn pack(work: &Path, tag: &str, layers: &[&str], command: &str) -> Result<(), ImageError> {
    let umoci = |action: &'static str, arguments: &[&str]| {
        let mut command = Command::new("umoci");
        let packed = program::output(command.args(arguments).current_dir(work));
        packed.map(drop).map_err(|source| ImageError::Step { action, source })
    };
    let image = format!("oci:{tag}");
    umoci("begin an image", &["init", "--layout", "oci"])?;
    umoci("begin an image", &["new", "--image", &image])?;
    for layer in layers {
        umoci("add a layer to an image", &["raw", "add-layer", "--image", &image, layer])?;
    }
    umoci("configure an image", &["config", "--image", &image, "--config.cmd", command, "--config.env", PATH])
}

/// Packs a directory as a tar in a fixed order, with fixed owners and times.
fn tar(work: &Path, directory: &str, file: &str) -> Result<(), ImageError> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--format=pax"]);
    tar.args(["--pax-option=delete=atime,delete=ctime", "-cf", file, "-C", directory, "."]);
    let packed = program::output(tar.current_dir(work));
    packed.map(drop).map_err(|source| ImageError::Step { action: "pack a layer", source })
}

impl Recipe {
    /// Name and tag.
    pub(crate) fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }

    fn hash(&self) -> String {
        let text = format!("sbx image 1 {self:?} {PATH}");
        blake3::hash(text.as_bytes()).to_hex().chars().take(16).collect()
    }
}

struct Build<'a> {
    recipe: &'a Recipe,
    work: &'a Path,
}

impl Build<'_> {
    fn run(&self) -> Result<(), ImageError> {
        let name = self.recipe.full_name();
        output::step("image", format_args!("making {name} from Debian's packages, about a minute"));
        self.bootstrap()?;
        if self.recipe.second_layer.is_empty() {
            return pack(self.work, self.recipe.tag, &["base.tar"], "/bin/bash");
        }
        self.second_layer()?;
        pack(self.work, self.recipe.tag, &["base.tar", "second.tar"], "/bin/bash")
    }

    fn bootstrap(&self) -> Result<(), ImageError> {
        // Outside the working directory, so that it is still there for whoever reads the message.
        let log = cache::beside(self.work, "log");
        let mut command = Command::new("mmdebstrap");
        // `auto` is root's own way for root, else user namespaces, else fakechroot.
        command.args(["--mode=auto", "--variant=minbase", &format!("--include={}", self.recipe.include)]);
        command.args([self.recipe.suite, "base.tar"]).env("SOURCE_DATE_EPOCH", "0").current_dir(self.work);
        program::logged(&mut command, &log, |_| {})
            .map_err(|source| ImageError::Bootstrap { log: log.clone(), source })?;
        Ok(cache::remove(&log)?)
    }

    /// The files of some packages as one tar, in a fixed order and with fixed owners and times.
    fn second_layer(&self) -> Result<(), ImageError> {
        output::step("image", "downloading compilers for the second layer, about 230 MB");
        let failed = |source| ImageError::Step { action: "download packages", source };
        let mut download = Command::new("apt-get");
        download.args(["-q", "download"]).args(self.recipe.second_layer).current_dir(self.work);
        program::output(&mut download).map_err(failed)?;
        let read_failed = |source| ImageError::File { path: self.work.to_path_buf(), source };
        let names = fs::read_dir(self.work).map_err(read_failed)?.flatten().map(|entry| entry.path());
        let mut packages: Vec<PathBuf> =
            names.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect();
        packages.sort();
        let failed = |source| ImageError::Step { action: "unpack packages", source };
        for package in &packages {
            let mut extract = Command::new("dpkg-deb");
            extract.arg("-x").arg(package).arg("second").current_dir(self.work);
            program::output(&mut extract).map_err(failed)?;
        }
        tar(self.work, "second", "second.tar")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_directories_of_their_own() {
        assert_ne!(DEBIAN.hash(), LARGE.hash());
        assert_ne!(DEBIAN.hash(), CLIENTS.hash());
        assert_eq!(DEBIAN.hash().len(), 16);
        assert_eq!(DEBIAN.full_name(), "library/debian:bookworm-slim");
    }
}
