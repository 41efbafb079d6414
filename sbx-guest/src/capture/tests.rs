//! Upper directories as an overlay leaves them, and what GNU tar finds in their captures.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::*;

fn capture(upper: &Path, merged: &Path) -> Vec<u8> {
    let open = |path: &Path| File::open(path).unwrap();
    let mut tar = Vec::new();
    write(open(upper), open(merged), &mut tar).unwrap();
    tar
}

/// What GNU tar lists, sorted: type and mode, size, name.
fn listing(tar: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), tar).unwrap();
    let output = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        [&words[..1], &words[2..3], &words[5..]].concat().join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// Whether the file system of the tests and their user have the overlay's attributes.
fn mark(path: &Path, name: &str, value: &[u8]) -> bool {
    setxattr(path, name, value, XattrFlags::empty()).is_ok()
}

#[test]
fn files_of_every_kind_are_in_the_tar() {
    let upper = tempfile::tempdir().unwrap();
    let at = |path: &str| upper.path().join(path);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::write(at("usr/bin/tool"), vec![7; 200_000]).unwrap();
    fs::set_permissions(at("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::create_dir(at("etc")).unwrap();
    fs::hard_link(at("usr/bin/tool"), at("etc/other")).unwrap();
    symlink("x".repeat(150), at("etc/link")).unwrap();
    mknodat(CWD, at("etc/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = UnixListener::bind(at("etc/socket")).unwrap();
    fs::write(at("etc/.wh.odd"), "").unwrap();
    let long = "n".repeat(200);
    fs::write(at(&format!("etc/{long}")), "long").unwrap();
    whiteout(&at("etc/gone"));

    let found = listing(&capture(upper.path(), upper.path()));
    let link = found.iter().find(|line| line.starts_with('h')).unwrap();
    assert!(link.contains(" link to "), "{link}");
    let others: Vec<&String> =
        found.iter().filter(|line| !line.contains("tool") && !line.contains("other")).collect();
    let expected = [
        format!("-rw-r--r-- 4 etc/{long}"),
        format!("lrwxrwxrwx 0 etc/link -> {}", "x".repeat(150)),
        "drwxr-xr-x 0 etc/".to_owned(),
        "drwxr-xr-x 0 usr/".to_owned(),
        "drwxr-xr-x 0 usr/bin/".to_owned(),
        "prw------- 0 etc/pipe".to_owned(),
    ];
    for line in &expected {
        assert!(others.contains(&line), "{line} is missing: {found:?}");
    }
    assert!(others.iter().any(|line| line.ends_with("0 etc/.wh.gone")), "{found:?}");
    assert_eq!(others.len(), expected.len() + 1, "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("-rws") && line.contains("200000")), "{found:?}");
}

#[test]
fn contents_and_attributes_come_back() {
    let upper = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..300_001_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(upper.path().join("large"), &content).unwrap();
    fs::create_dir(upper.path().join("d")).unwrap();
    let attributed = mark(&upper.path().join("d"), "user.comment", b"two\nlines");
    let tar = capture(upper.path(), upper.path());
    let unpacked = tempfile::tempdir().unwrap();
    fs::write(unpacked.path().join("tar"), &tar).unwrap();
    let status = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xf", "tar"])
        .current_dir(&unpacked)
        .status();
    assert!(status.unwrap().success());
    assert!(fs::read(unpacked.path().join("large")).unwrap() == content);
    if attributed {
        let mut value = [0; 100];
        let length = lgetxattr_of(&unpacked.path().join("d"), &mut value);
        assert_eq!(&value[..length], b"two\nlines");
    }
}

fn lgetxattr_of(path: &Path, value: &mut [u8]) -> usize {
    rustix::fs::lgetxattr(path, "user.comment", value).unwrap()
}

#[test]
fn directories_that_hide_or_were_renamed_say_so() {
    let (upper, merged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for directory in ["hides", "renamed", "plain"] {
        fs::create_dir(upper.path().join(directory)).unwrap();
    }
    let marked = mark(&upper.path().join("hides"), "trusted.overlay.opaque", b"y")
        && mark(&upper.path().join("renamed"), "trusted.overlay.redirect", b"/old")
        && mark(&upper.path().join("plain"), "trusted.overlay.origin", b"x");
    if !marked {
        // Only root may, and not on every file system; the end-to-end tests have an overlay.
        return;
    }
    fs::write(upper.path().join("renamed/new"), "in the upper directory").unwrap();
    fs::create_dir_all(merged.path().join("renamed/below")).unwrap();
    fs::write(merged.path().join("renamed/below/old"), "from the image").unwrap();
    fs::write(merged.path().join("renamed/new"), "in the upper directory").unwrap();
    fs::write(merged.path().join("elsewhere"), "of the image, unchanged").unwrap();
    let found = listing(&capture(upper.path(), merged.path()));
    let names: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(2)).collect();
    let mut expected = [
        "hides/",
        "hides/.wh..wh..opq",
        "plain/",
        "renamed/",
        "renamed/.wh..wh..opq",
        "renamed/below/",
        "renamed/below/old",
        "renamed/new",
    ];
    expected.sort_unstable();
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn what_is_deeper_than_a_path_can_be_is_an_error() {
    let upper = tempfile::tempdir().unwrap();
    let mut current = File::open(upper.path()).unwrap();
    let name = "d".repeat(255);
    for _ in 0..17 {
        rustix::fs::mkdirat(&current, &name, Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        current = openat(&current, &name, flags, Mode::empty()).unwrap().into();
    }
    let open = || File::open(upper.path()).unwrap();
    let error = write(open(), open(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, CaptureError::Path { .. }), "{error}");
}
