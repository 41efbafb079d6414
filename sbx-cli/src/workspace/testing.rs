//! A workspace with a copy, for tests.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::clone::{self, PrivateCopy};
use crate::{sandbox::directory::SandboxDirectory, ui::Ui};

/// A workspace, and the directory of a sandbox that has a copy of it.
pub(super) struct Fixture {
    pub(super) directory: TempDir,
}

impl Fixture {
    /// An empty workspace.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["work", "sandbox", "elsewhere"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    /// The same as a git repository with one commit of `files`.
    pub(super) fn repository(files: &[(&str, &str)]) -> Self {
        let fixture = Self::new();
        let work = fixture.work();
        git(&work, &["init", "-q", "-b", "main"]);
        git(&work, &["config", "user.name", "A"]);
        git(&work, &["config", "user.email", "a@example.com"]);
        for (name, text) in files {
            write(&work, name, text);
        }
        git(&work, &["add", "."]);
        git(&work, &["commit", "-qm", "first"]);
        fixture
    }

    pub(super) fn work(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("work")
    }

    pub(super) fn sandbox(&self) -> SandboxDirectory {
        SandboxDirectory::new(self.directory.path().join("sandbox"))
    }

    /// The copy's files, as the guest has them.
    pub(super) fn tree(&self) -> PathBuf {
        clone::tree_of(&self.sandbox())
    }

    /// The copy, made if it is not there.
    pub(super) fn copy(&self) -> PrivateCopy {
        clone::prepare(&Ui::new(), &self.work(), &self.sandbox()).unwrap();
        PrivateCopy::open(&self.sandbox()).unwrap().unwrap()
    }

    /// Names of the changed files.
    pub(super) fn changed(&self) -> Vec<String> {
        let changes = self.copy().changes().unwrap();
        changes.files.iter().map(|change| change.path.to_string_lossy().into_owned()).collect()
    }
}

/// Runs git in `directory`; what it printed.
pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]);
    let output = command.arg("-C").arg(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a file and the directories above it.
pub(super) fn write(root: &Path, name: impl AsRef<OsStr>, text: impl AsRef<[u8]>) {
    let path = root.join(name.as_ref());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Everything below `root` but `.git`: the path, then whether it is a link (`l`), a program (`x`) or a file (`-`), and what it has.
pub(super) fn contents(root: &Path) -> BTreeMap<Vec<u8>, (char, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if entry.file_name() == ".git" {
                continue;
            }
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            let what = if metadata.is_symlink() {
                ('l', fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
            } else {
                let program = metadata.permissions().mode() & 0o111 != 0;
                (if program { 'x' } else { '-' }, fs::read(&path).unwrap())
            };
            found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), what);
        }
    }
    found
}

/// Files of every kind that is hard to bring back.
pub(super) fn make_odd_files(root: &Path) {
    for (name, text) in [
        ("text", "one\ntwo\nthree\n"),
        ("windows", "one\r\ntwo\r\n"),
        ("no-end", "one\ntwo"),
        ("gone", "gone\n"),
        ("deep/er/gone", "gone\n"),
        ("old-name", "a file\nthat is long enough\nto be known again\nby its lines\n"),
        ("becomes-directory", "file\n"),
        ("becomes-file/inside", "file\n"),
        ("becomes-link", "link file\n"),
        ("directory-becomes-link/inside", "inside\n"),
        ("script", "#!/bin/sh\n"),
        ("program", "#!/bin/sh\n"),
        ("same", "same\n"),
    ] {
        write(root, name, text);
    }
    write(root, "binary", [0, 1, 2, 255].repeat(1000));
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("text", root.join("link")).unwrap();
}

/// Changes them in every way.
pub(super) fn change_odd_files(root: &Path) {
    write(root, "text", "one\n2\nthree\nfour\n");
    write(root, "windows", "one\r\n2\r\n");
    write(root, "no-end", "one\ntwo\n");
    for gone in [
        "gone",
        "deep/er/gone",
        "becomes-directory",
        "becomes-file/inside",
        "becomes-link",
        "directory-becomes-link/inside",
    ] {
        fs::remove_file(root.join(gone)).unwrap();
    }
    for directory in ["becomes-file", "directory-becomes-link"] {
        fs::remove_dir(root.join(directory)).unwrap();
    }
    std::os::unix::fs::symlink("same", root.join("directory-becomes-link")).unwrap();
    write(root, "becomes-directory/inside", "in a directory now\n");
    write(root, "becomes-file", "a file now\n");
    std::os::unix::fs::symlink("deep", root.join("becomes-link")).unwrap();
    fs::rename(root.join("old-name"), root.join("new name")).unwrap();
    let text = fs::read_to_string(root.join("new name")).unwrap();
    fs::write(root.join("new name"), text + "and one more\n").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    std::os::unix::fs::symlink("same", root.join("link")).unwrap();
    write(root, "empty", "");
    write(root, "new/in/directory", "new\n");
    write(root, OsStr::from_bytes(b"new\nline\t\"\\"), "odd\n");
    write(root, OsStr::from_bytes(b"caf\xe9"), "latin\n");
    write(root, "binary", [0, 9, 2, 255].repeat(1500));
    let noise = (0_u32..800_000).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes());
    write(root, "large", noise.collect::<Vec<_>>());
}
