//! A stored layer written as a tar again: readable by others, and the same layer when it is read.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use sbx_image::layer::{self, Limits};
use sbx_image::{Digest, dump};

use crate::checksums::repair;
use crate::hostile::everything;
use crate::rootfs::{gnu_tar, ingest};
use crate::tarball::Tarball;

fn written(layer: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    layer::write_tar(layer, &mut tar).unwrap();
    tar
}

/// Everything that a tar can say and that takes a PAX header to say it.
fn demanding() -> Vec<u8> {
    let long = "n".repeat(101);
    Tarball::new()
        .dir("./")
        .pax(&[
            ("SCHILY.xattr.user.b", b"two\nlines\0"),
            ("SCHILY.xattr.user.a", b""),
            (
                "SCHILY.xattr.security.capability",
                &[1, 0, 0, 2, 10, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            ("uid", b"4294967294"),
            ("gid", b"2097152"),
            ("mtime", b"-1.5"),
        ])
        .file("caf\u{e9}", &[3; 70_000])
        .hard_link("a/second", "caf\u{e9}")
        .file(&format!("d/{long}"), b"long")
        .pax(&[("linkpath", format!("d/{long}").as_bytes())])
        .hard_link("zz", "")
        .pax(&[("linkpath", long.as_bytes())])
        .symlink("link", "x")
        .device(b'3', "dev/console", 5, 1)
        .device(b'4', "dev/nvme", 259, 70_000)
        .entry(b'6', b"pipe", b"", |header| header.set_mode(0o1600))
        .file("d/.wh.gone", b"")
        .dir("hides")
        .file("hides/.wh..wh..opq", b"")
        .file("replaced/x", b"")
        .file(".wh.replaced", b"")
        .end()
}

#[test]
fn a_layer_that_was_written_reads_as_the_same_layer() {
    for tar in [demanding(), everything()] {
        let (first, _) = ingest(&tar, &Limits::default()).unwrap();
        let bytes = written(first.path());
        let (second, _) = ingest(&bytes, &Limits::default()).unwrap();
        assert!(written(second.path()) == bytes);
        let (third, _) = ingest(&written(second.path()), &Limits::default()).unwrap();
        for file in [layer::DATA_FILE, layer::TREE_FILE] {
            let read = |layer: &Path| fs::read(layer.join(file)).unwrap();
            assert!(read(second.path()) == read(third.path()), "{file}");
        }
    }
}

/// The digest names layers in lock files: it must not change, whatever becomes of this crate and the tar crate.
#[test]
fn the_form_is_the_same_for_ever() {
    let (layer, _) = ingest(&demanding(), &Limits::default()).unwrap();
    insta::assert_snapshot!(Digest::sha256(&written(layer.path())), @"sha256:26d8af492ad295c8f88d77dbe974b25e6c2fbb37f86bdbb5bc986142e2848798");
}

#[test]
fn what_is_written_says_the_same_as_what_was_read() {
    let (first, _) = ingest(&demanding(), &Limits::default()).unwrap();
    let (second, _) = ingest(&written(first.path()), &Limits::default()).unwrap();
    // Contents lie in another order; the root is only implied.
    let lines = |layer: &Path| {
        let text = dump::layer(layer).unwrap();
        let lines = text.lines().map(|line| line.split(" from block").next().unwrap().to_owned());
        lines.filter(|line| !line.contains("(implicit)") && !line.ends_with(" /")).collect::<Vec<_>>()
    };
    assert_eq!(lines(first.path()), lines(second.path()));
}

#[test]
fn other_programs_read_it() {
    let (layer, _) = ingest(&demanding(), &Limits::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("layer.tar"), written(layer.path())).unwrap();
    let listing =
        gnu_tar(dir.path(), &["--numeric-owner", "--full-time", "--utc", "-tvf", "layer.tar"]).unwrap();
    insta::assert_snapshot!(String::from_utf8(listing).unwrap(), @r#"
    -rw-r--r-- 4294967294/2097152 70000 1969-12-31 23:59:59.5 a/second
    hrw-r--r-- 4294967294/2097152     0 1969-12-31 23:59:59.5 café link to a/second
    ---------- 0/0                    0 1970-01-01 00:00:00   d/.wh.gone
    -rw-r--r-- 0/0                    4 2023-11-14 22:13:20   d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
    crw-r--r-- 0/0                  5,1 2023-11-14 22:13:20   dev/console
    brw-r--r-- 0/0            259,70000 2023-11-14 22:13:20   dev/nvme
    drwxr-xr-x 0/0                    0 2023-11-14 22:13:20   hides/
    ---------- 0/0                    0 1970-01-01 00:00:00   hides/.wh..wh..opq
    lrw-r--r-- 0/0                    0 2023-11-14 22:13:20   link -> nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
    prw------T 0/0                    0 2023-11-14 22:13:20   pipe
    drwxr-xr-x 0/0                    0 1970-01-01 00:00:00   replaced/
    ---------- 0/0                    0 1970-01-01 00:00:00   replaced/.wh..wh..opq
    -rw-r--r-- 0/0                    0 2023-11-14 22:13:20   replaced/x
    hrw-r--r-- 0/0                    0 2023-11-14 22:13:20   zz link to d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
    "#);
}

#[test]
fn a_tree_that_gnu_tar_unpacked_again_is_the_same() {
    let source = tempfile::tempdir().unwrap();
    crate::formats::make_tree(source.path());
    let tar = gnu_tar(source.path(), &["--format=pax", "-c", "."]).unwrap();
    let (layer, _) = ingest(&tar, &Limits::default()).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), written(layer.path())).unwrap();
    gnu_tar(unpacked.path(), &["-xpf", &file.path().display().to_string()]).unwrap();
    let output = Command::new("diff")
        .args(["--recursive", "--no-dereference"])
        .args([source.path(), unpacked.path()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_stored_is_written_in_one_way(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 0..6)
    ) {
        let mut tar = if changes.len() % 2 == 0 { demanding() } else { everything() };
        for (at, byte) in changes {
            *at.get_mut(&mut tar) = byte;
        }
        repair(&mut tar);
        let limits = Limits { data_bytes: 4 << 20, file_bytes: 4 << 20, ..Limits::default() };
        let Ok((first, _)) = ingest(&tar, &limits) else { return Ok(()) };
        let bytes = written(first.path());
        // Holes are written out, so it may be too large now.
        let Ok((second, _)) = ingest(&bytes, &limits) else { return Ok(()) };
        layer::verify(second.path()).unwrap();
        prop_assert!(written(second.path()) == bytes);
    }
}
