//! A repository for apt, in the flat form ("DebianRepository/Format" of Debian's wiki), with packages of the tests' own.
//!
//! ```text
//! Packages                     a paragraph for each package
//! NAME_VERSION_all.deb
//! NAME_VERSION_all.control     its paragraph without name, length and hash of the file
//! ```

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{sha256, write};

/// The repository.
#[derive(Debug)]
pub struct DebianRepository {
    directory: PathBuf,
}

/// A package.
#[derive(Clone, Debug, Default)]
pub struct DebianPackage<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its version.
    pub version: &'p str,
    /// What it depends on, separated by commas.
    pub depends: &'p str,
    /// Its files: absolute path and content.
    pub files: &'p [(&'p str, &'p str)],
    /// What it runs when it was installed.
    pub postinst: &'p str,
}

impl DebianRepository {
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

    /// The line of `sources.list` for this repository at `url`. It is not signed: that it comes from there is enough here.
    #[must_use]
    pub fn source(url: &str) -> String {
        format!("deb [trusted=yes] {url} ./\n")
    }

    /// Publishes a package, or another file under a version that there is.
    ///
    /// # Panics
    /// If dpkg does not make it.
    pub fn publish(&self, package: &DebianPackage<'_>) {
        let DebianPackage { name, version, depends, files, postinst } = package;
        let tree = tempfile::tempdir().unwrap();
        let mut control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Tests <tests@example.org>\n\
             Description: a package of the tests\n"
        );
        if !depends.is_empty() {
            control.push_str(&format!("Depends: {depends}\n"));
        }
        write(&tree.path().join("DEBIAN/control"), &control);
        if !postinst.is_empty() {
            let script = tree.path().join("DEBIAN/postinst");
            write(&script, format!("#!/bin/sh\nset -e\n{postinst}\n"));
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (path, content) in *files {
            write(&tree.path().join(path.trim_start_matches('/')), content);
        }
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = self.file(name, version);
        let build = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "--build"])
            .args([tree.path(), &file])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .unwrap();
        assert!(build.status.success(), "{build:?}");
        write(&file.with_extension("control"), control);
        self.index();
    }

    /// Takes a version away.
    ///
    /// # Panics
    /// If there is none.
    pub fn withdraw(&self, name: &str, version: &str) {
        let file = self.file(name, version);
        fs::remove_file(file.with_extension("control")).unwrap();
        fs::remove_file(file).unwrap();
        self.index();
    }

    /// Loses a file that is still in the index, and gives the way back.
    ///
    /// # Panics
    /// If there is none.
    pub fn lose(&self, name: &str, version: &str) -> impl FnOnce() + use<> {
        let file = self.file(name, version);
        let lost = file.with_extension("lost");
        fs::rename(&file, &lost).unwrap();
        move || fs::rename(lost, file).unwrap()
    }

    fn file(&self, name: &str, version: &str) -> PathBuf {
        self.directory.join(format!("{name}_{version}_all.deb"))
    }

    fn index(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let mut packages = String::new();
        for file in names.iter().filter(|file| file.extension().is_some_and(|end| end == "deb")) {
            let content = fs::read(file).unwrap();
            packages.push_str(&fs::read_to_string(file.with_extension("control")).unwrap());
            packages.push_str(&format!(
                "Filename: ./{}\nSize: {}\nSHA256: {}\n\n",
                file.file_name().unwrap().to_str().unwrap(),
                content.len(),
                sha256(&content)
            ));
        }
        write(&self.directory.join("Packages"), packages);
    }
}
