//! A repository for dnf, with packages of the tests' own: Debian has rpm's tools, and createrepo.
//!
//! ```text
//! repodata/                          as createrepo_c makes it
//! NAME-VERSION-RELEASE.noarch.rpm
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{sha256, write};
use crate::ImageBuilder;

/// The repository.
#[derive(Debug)]
pub struct RpmRepository {
    directory: PathBuf,
}

/// A package.
#[derive(Clone, Debug, Default)]
pub struct RpmPackage<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its version, in which there is an epoch if it begins with a number and a colon.
    pub version: &'p str,
    /// What it requires, separated by commas.
    pub requires: &'p str,
    /// What it provides besides itself, separated by commas.
    pub provides: &'p str,
    /// Its files: absolute path and content.
    pub files: &'p [(&'p str, &'p str)],
    /// What it runs before it is installed.
    pub pre: &'p str,
    /// What it runs when it was installed.
    pub post: &'p str,
}

/// Where the database of a [`system`] is, as in RHEL.
const DATABASE: &str = "var/lib/rpm";

/// The time of everything here.
const EPOCH: &str = "1700000000";

impl RpmRepository {
    /// A repository in `directory`, empty.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let repository = Self { directory: directory.to_path_buf() };
        fs::create_dir_all(directory).unwrap();
        repository.index();
        repository
    }

    /// What stands in `/etc/yum.repos.d` for this repository at `url`. It is not signed: that it comes from there is enough here.
    #[must_use]
    pub fn source(url: &str) -> String {
        format!("[tests]\nname=Packages of the tests\nbaseurl={url}\ngpgcheck=0\n")
    }

    /// The same for a repository whose mirrors are in the list at `url`.
    #[must_use]
    pub fn source_of_mirrors(url: &str) -> String {
        format!("[tests]\nname=Packages of the tests\nmirrorlist={url}\ngpgcheck=0\n")
    }

    /// Publishes release 1 of a package, or another file under a version that there is; gives its SHA-256.
    ///
    /// # Panics
    /// If rpm does not make it.
    pub fn publish(&self, package: &RpmPackage<'_>) -> String {
        build(package, &self.directory);
        self.index();
        sha256(&fs::read(self.directory.join(file_name(package.name, package.version))).unwrap())
    }

    /// Takes a version away.
    ///
    /// # Panics
    /// If there is none.
    pub fn withdraw(&self, name: &str, version: &str) {
        fs::remove_file(self.directory.join(file_name(name, version))).unwrap();
        self.index();
    }

    fn index(&self) {
        run(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(&self.directory));
    }
}

/// The image with a database of packages, as one that was made of them has it. In it is one that provides a shell.
///
/// # Panics
/// If rpm does not make it.
#[must_use]
pub fn system(image: ImageBuilder) -> ImageBuilder {
    let directory = tempfile::tempdir().unwrap();
    let package = RpmPackage { name: "system", version: "1", provides: "/bin/sh", ..RpmPackage::default() };
    build(&package, directory.path());
    let database = directory.path().join("database");
    run(Command::new("rpm")
        .arg("--dbpath")
        .arg(&database)
        .args(["--justdb", "--nodeps", "--nosignature", "--upgrade"])
        .arg(directory.path().join(file_name("system", "1")))
        .env("SOURCE_DATE_EPOCH", EPOCH));
    // Debian's rpm has the database in the home of who calls it.
    let image = image.file("etc/rpm/macros", 0o644, format!("%_dbpath /{DATABASE}\n").as_bytes());
    ["rpmdb.sqlite", "rpmdb.sqlite-shm", "rpmdb.sqlite-wal"].iter().fold(image, |image, name| {
        image.file(&format!("{DATABASE}/{name}"), 0o644, &fs::read(database.join(name)).unwrap())
    })
}

fn file_name(name: &str, version: &str) -> String {
    let (_, version) = version.split_once(':').unwrap_or(("", version));
    format!("{name}-{version}-1.noarch.rpm")
}

/// Builds a package into `directory`.
fn build(package: &RpmPackage<'_>, directory: &Path) {
    let RpmPackage { name, version, requires, provides, files, pre, post } = package;
    let tree = tempfile::tempdir().unwrap();
    let (epoch, version) = version.split_once(':').unwrap_or(("", version));
    let mut specification = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: A package of the tests\nLicense: none\nBuildArch: noarch\n"
    );
    for (key, value) in [("Epoch", epoch), ("Requires", *requires), ("Provides", *provides)] {
        if !value.is_empty() {
            specification.push_str(&format!("{key}: {value}\n"));
        }
    }
    specification
        .push_str("%description\nA package of the tests\n%install\ncp -R %{_topdir}/files/. %{buildroot}/\n");
    for (section, script) in [("pre", pre), ("post", post)] {
        if !script.is_empty() {
            specification.push_str(&format!("%{section}\n{script}\n"));
        }
    }
    specification.push_str("%files\n%defattr(-,root,root)\n");
    fs::create_dir(tree.path().join("files")).unwrap();
    for (path, content) in *files {
        write(&tree.path().join("files").join(path.trim_start_matches('/')), content);
        specification.push_str(&format!("{path}\n"));
    }
    let file = tree.path().join("package.spec");
    write(&file, specification);
    let mut command = Command::new("rpmbuild");
    command.args(["--quiet", "-bb"]).env("SOURCE_DATE_EPOCH", EPOCH);
    for (name, value) in [
        ("_topdir", tree.path().display().to_string()),
        ("_rpmdir", directory.display().to_string()),
        ("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".to_owned()),
        ("_dbpath", tree.path().join("database").display().to_string()),
        ("_buildhost", "tests".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    run(command.arg(file));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
