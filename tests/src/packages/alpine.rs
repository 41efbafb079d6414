//! A repository for apk, in the form of its version 2, which 3 reads as well (apk-v2(5) and apk-repositories(5)), with packages
//! of the tests' own.
//!
//! ```text
//! x86_64/APKINDEX.tar.gz        signature, then a tar with a paragraph for each package
//! x86_64/NAME-VERSION.apk       signature, .PKGINFO and scripts, files: three gzip streams
//! x86_64/NAME-VERSION.index     its paragraph of the index
//! key                           what signs both
//! ```
//! A signature is over the stream behind it; the paragraph has the hash of the second stream of a package, and that the one of
//! the third. Of a tar that goes on in the next stream the two empty blocks at its end are missing.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

use super::{sha256, write};

/// The name of the key in a signature, and below `etc/apk/keys` of an image.
const KEY: &str = "tests.rsa.pub";

/// Bytes of a block of a tar.
const BLOCK: usize = 512;

/// The repository.
#[derive(Debug)]
pub struct AlpineRepository {
    directory: PathBuf,
}

/// A package.
#[derive(Clone, Debug, Default)]
pub struct AlpinePackage<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its version with its release, as in `1.0-r0`.
    pub version: &'p str,
    /// What it depends on, separated by blanks.
    pub depends: &'p str,
    /// Its files: absolute path and content.
    pub files: &'p [(&'p str, &'p str)],
    /// What it runs when it was installed.
    pub post_install: &'p str,
}

impl AlpineRepository {
    /// A repository in `directory`, empty, with a key of its own.
    ///
    /// # Panics
    /// If the disk or openssl does not take it.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let repository = Self { directory: directory.to_path_buf() };
        fs::create_dir_all(repository.packages()).unwrap();
        openssl(&["genrsa", "-out", &repository.key(), "2048"]);
        repository.index();
        repository
    }

    /// Path and content of the file with which an image trusts the repository.
    #[must_use]
    pub fn public_key(&self) -> (String, Vec<u8>) {
        (format!("etc/apk/keys/{KEY}"), openssl(&["rsa", "-in", &self.key(), "-pubout"]))
    }

    /// Publishes a package, or another file under a version that there is.
    ///
    /// # Panics
    /// If the disk or openssl does not take it.
    pub fn publish(&self, package: &AlpinePackage<'_>) {
        let AlpinePackage { name, version, depends, files, post_install } = package;
        let data = gzip(&self.data(files));
        let mut information = format!(
            "pkgname = {name}\npkgver = {version}\npkgdesc = a package of the tests\nurl = https://example.org\n\
             builddate = 1700000000\nsize = 4096\narch = x86_64\nlicense = MIT\n"
        );
        for depends in depends.split_whitespace() {
            information.push_str(&format!("depend = {depends}\n"));
        }
        information.push_str(&format!("datahash = {}\n", sha256(&data)));
        let mut control = Tar::new();
        control.file(".PKGINFO", 0o644, information.as_bytes());
        if !post_install.is_empty() {
            let script = format!("#!/bin/sh\nset -e\n{post_install}\n");
            control.file(".post-install", 0o755, script.as_bytes());
        }
        let control = gzip(&control.unended());
        let content = [self.signature(&control), control.clone(), data].concat();
        let mut paragraph = format!(
            "C:Q1{}\nP:{name}\nV:{version}\nA:x86_64\nS:{}\nI:4096\nT:a package of the tests\n\
             U:https://example.org\nL:MIT\nt:1700000000\n",
            BASE64_STANDARD.encode(self.digest("-sha1", &control)),
            content.len()
        );
        if !depends.is_empty() {
            paragraph.push_str(&format!("D:{depends}\n"));
        }
        write(&self.file(name, version), content);
        write(&self.file(name, version).with_extension("index"), paragraph + "\n");
        self.index();
    }

    /// Takes a version away.
    ///
    /// # Panics
    /// If there is none.
    pub fn withdraw(&self, name: &str, version: &str) {
        fs::remove_file(self.file(name, version).with_extension("index")).unwrap();
        fs::remove_file(self.file(name, version)).unwrap();
        self.index();
    }

    fn packages(&self) -> PathBuf {
        self.directory.join("x86_64")
    }

    fn key(&self) -> String {
        self.directory.join("key").display().to_string()
    }

    fn file(&self, name: &str, version: &str) -> PathBuf {
        self.packages().join(format!("{name}-{version}.apk"))
    }

    fn index(&self) {
        let files = fs::read_dir(self.packages()).unwrap().map(|entry| entry.unwrap().path());
        let mut paragraphs: Vec<_> =
            files.filter(|file| file.extension().is_some_and(|end| end == "index")).collect();
        paragraphs.sort();
        let text: String = paragraphs.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let mut index = Tar::new();
        index.file("DESCRIPTION", 0o644, b"tests");
        index.file("APKINDEX", 0o644, text.as_bytes());
        let index = gzip(&index.whole());
        write(&self.packages().join("APKINDEX.tar.gz"), [self.signature(&index), index].concat());
    }

    /// Directories before what is in them, and before each file its SHA-1, as abuild writes them.
    fn data(&self, files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = Tar::new();
        let mut directories = BTreeSet::new();
        for (path, content) in files {
            let path = path.trim_start_matches('/');
            for (end, _) in path.match_indices('/') {
                if directories.insert(&path[..end]) {
                    tar.entry(&path[..end], EntryType::Directory, 0o755, &[]);
                }
            }
            let sha1: String =
                self.digest("-sha1", content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            // By hand: the fields that the crate leaves empty are numbers for apk. The record begins with its own length.
            let record = format!("68 APK-TOOLS.checksum.SHA1={sha1}\n");
            tar.entry("PaxHeaders", EntryType::XHeader, 0o644, record.as_bytes());
            tar.file(path, 0o644, content.as_bytes());
        }
        tar.whole()
    }

    /// The stream with the signature of another.
    fn signature(&self, stream: &[u8]) -> Vec<u8> {
        let mut tar = Tar::new();
        tar.file(
            &format!(".SIGN.RSA256.{KEY}"),
            0o644,
            &self.digest_with(&["-sha256", "-sign", &self.key()], stream),
        );
        gzip(&tar.unended())
    }

    fn digest(&self, kind: &str, bytes: &[u8]) -> Vec<u8> {
        self.digest_with(&[kind, "-binary"], bytes)
    }

    fn digest_with(&self, how: &[&str], bytes: &[u8]) -> Vec<u8> {
        let file = self.directory.join("digested");
        write(&file, bytes);
        openssl(&[&["dgst"], how, &[&file.display().to_string()]].concat())
    }
}

/// A tar that is being written.
struct Tar {
    builder: tar::Builder<Vec<u8>>,
}

impl Tar {
    fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, EntryType::Regular, mode, content);
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, content: &[u8]) {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root").unwrap();
        header.set_groupname("root").unwrap();
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, path, content).unwrap();
    }

    fn whole(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }

    fn unended(self) -> Vec<u8> {
        let mut tar = self.whole();
        tar.truncate(tar.len() - 2 * BLOCK);
        tar
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
