//! A place for packages of a test's own, and checkouts that want them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use sbx_tests::{Environment, ImageBuilder, Lan, lan::Service};
use tempfile::TempDir;

/// A public address on a network of the test's own.
pub(super) const ADDRESS: &str = "192.0.1.8";

/// A registry's files, and the network in which they are served.
pub(super) struct Site {
    pub(super) lan: Lan,
    files: TempDir,
    images: TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        let (lan, files) = (Lan::new(&[ADDRESS]), tempfile::tempdir().unwrap());
        let images = tempfile::tempdir().unwrap();
        // Another user takes the same image.
        fs::set_permissions(images.path(), Permissions::from_mode(0o755)).unwrap();
        let address = format!("{ADDRESS}:80");
        lan.serve(&address, Service::Files(files.path().to_path_buf()));
        Self { lan, files, images }
    }

    pub(super) fn directory(&self) -> &Path {
        self.files.path()
    }

    pub(super) fn url() -> String {
        format!("http://{ADDRESS}")
    }

    /// Writes the image of all checkouts; how their manifests name it.
    pub(super) fn image(&self, image: ImageBuilder) -> String {
        image.write(&self.images.path().join("image"))
    }

    /// A home and a checkout that nobody has worked in, with `image` and `packages` in its manifest.
    pub(super) fn checkout(&self, image: &str, packages: &str) -> Environment {
        self.prepare(Environment::new(), 2, image, packages)
    }

    /// The same on another computer, of another user, with another number of processors.
    pub(super) fn checkout_elsewhere(&self, image: &str, packages: &str) -> Environment {
        self.prepare(Environment::elsewhere(), 1, image, packages)
    }

    fn prepare(&self, env: Environment, cpus: u8, image: &str, packages: &str) -> Environment {
        env.on_lan(&self.lan).manifest(&format!(
            "agent \"shell\"\nimage \"{image}\"\nresources cpus={cpus} memory=\"1GiB\" disk=\"4GiB\"\n{packages}\n"
        ))
    }
}

/// Where the image is that a variable of the suite says.
pub(super) fn layout(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; run the tests with `cargo xtask test`"))
}

/// The line of the lock with the digest of the snapshot.
pub(super) fn snapshot(env: &Environment) -> String {
    let lock = env.read("sandbox.lock");
    let line = lock.lines().find(|line| line.trim_start().starts_with("snapshot"));
    line.unwrap_or_else(|| panic!("no snapshot in {lock}")).trim().to_owned()
}

/// The same lock in another checkout and another home gives the same snapshot.
pub(super) fn assert_same_elsewhere(first: &Environment, second: &Environment) {
    second.write("sandbox.lock", first.read("sandbox.lock"));
    second.sbx(&["up", "--yes", "--locked", "--", "true"]).success();
    assert_eq!(snapshot(first), snapshot(second));
}
