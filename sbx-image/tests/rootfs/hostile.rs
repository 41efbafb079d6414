//! Layers that no one should have made.

use proptest::prelude::*;
use sbx_image::layer::Limits;
use sbx_image::{layer, snapshot};

use crate::checksums::repair;
use crate::rootfs::{Rootfs, ingest};
use crate::tarball::Tarball;

/// What `sbx` would print: the error and its causes.
fn refusal(tar: &[u8], limits: &Limits) -> String {
    let error = ingest(tar, limits).map(|(_, summary)| summary).expect_err("the layer is refused");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn what_points_outside_or_nowhere_is_refused_by_name() {
    let long = "n".repeat(256);
    let path = "p/".repeat(2048);
    let nul: Vec<u8> = b"a\0b".to_vec();
    let cases = [
        Tarball::new().file("../up", b""),
        Tarball::new().file("a/../../up", b""),
        Tarball::new().file(&long, b""),
        Tarball::new().file(&path, b""),
        Tarball::new().pax(&[("path", &nul)]).file("a", b""),
        Tarball::new().hard_link("a", "absent"),
        Tarball::new().hard_link("a", "../outside"),
        Tarball::new().dir("d").hard_link("a", "d"),
        Tarball::new().hard_link("a", "/"),
        Tarball::new().file("a", b"").hard_link("./", "a"),
        Tarball::new().symlink("empty", ""),
        Tarball::new().symlink("a", "b").symlink("b", "a").file("a/x", b""),
        Tarball::new().file("f", b"").file("f/x", b""),
        Tarball::new().symlink(".", "x"),
        Tarball::new().file("d/.wh.", b""),
        Tarball::new().file(".wh...", b""),
        Tarball::new().device(b'3', "huge", 4096, 0),
        Tarball::new().pax(&[("uid", b"4294967296")]).file("a", b""),
        Tarball::new().pax(&[("size", b"many")]).file("a", b""),
        Tarball::new().entry(b'M', b"volume", b"", |_| {}),
        Tarball::new().entry(b'0', b"a", b"", |header| header.as_old_mut().mode = *b"99999999"),
        Tarball::new().pax(&[("SCHILY.xattr.user.a", &vec![0; 65536])]).file("a", b""),
    ];
    let refusals: Vec<String> =
        cases.into_iter().map(|tar| refusal(&tar.end(), &Limits::default())).collect();
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn limits_are_errors_that_name_the_entry() {
    let default = Limits::default;
    let attribute = Tarball::new().pax(&[("SCHILY.xattr.user.a", &[0; 200])]);
    let sparse: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"0"), ("GNU.sparse.size", b"5497558138880"), ("GNU.sparse.map", b"0,1")];
    let cases = [
        (Tarball::new().file("a", b"").file("b/c", b""), Limits { entries: 2, ..default() }),
        (Tarball::new().file("a", &[0; 9000]), Limits { data_bytes: 8192, ..default() }),
        (Tarball::new().entry(b'0', b"bomb", b"", |header| header.set_size(1 << 50)), default()),
        (Tarball::new().pax(sparse).file("sparse", b"x"), default()),
        (
            Tarball::new().pax(sparse).file("sparse", b"x"),
            Limits { file_bytes: 8 << 40, device_bytes: 4096, ..default() },
        ),
        (Tarball::new().file("a", &[0; 500]), Limits { metadata_bytes: 300, ..default() }),
        (attribute.clone().file("a", b""), Limits { xattr_bytes: 100, ..default() }),
        (attribute.file("a", b""), Limits { extension_bytes: 100, ..default() }),
        (Tarball::new().pax(sparse).file("sparse", b"x"), Limits { sparse_segments: 0, ..default() }),
        (Tarball::new().entry(b'L', b"x", b"", |header| header.set_size(1 << 40)), default()),
    ];
    let refusals: Vec<String> = cases.into_iter().map(|(tar, limits)| refusal(&tar.end(), &limits)).collect();
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn malformed_sparse_maps_are_refused() {
    let pax =
        |records: &[(&str, &[u8])], content: &[u8]| Tarball::new().pax(records).file("s", content).end();
    let size = ("GNU.sparse.size", &b"100"[..]);
    for tar in [
        pax(&[size, ("GNU.sparse.map", b"50,10,0,10")], &[0; 20]),
        pax(&[size, ("GNU.sparse.map", b"0,10")], &[0; 20]),
        pax(&[size, ("GNU.sparse.map", b"95,10")], &[0; 10]),
        pax(&[size, ("GNU.sparse.map", b"0")], &[0; 10]),
        pax(&[size, ("GNU.sparse.major", b"1")], b"1\n0\n"),
        pax(&[size, ("GNU.sparse.major", b"1")], &[b'9'; 512]),
        Tarball::new().entry(b'S', b"s", b"", |header| header.as_gnu_mut().unwrap().isextended = [1]).bytes,
    ] {
        let text = refusal(&tar, &Limits::default());
        assert!(text.contains("sparse file is malformed") || text.contains("middle of an entry"), "{text}");
    }
}

#[test]
fn a_tar_cut_anywhere_is_an_error_or_a_shorter_layer_but_never_a_panic() {
    let tar = Tarball::new()
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .file("a", &[1; 700])
        .file(&"l".repeat(120), b"x")
        .hard_link("b", "a")
        .end();
    for length in (0..tar.len()).step_by(64) {
        let result = ingest(&tar[..length], &Limits::default());
        let boundary = length % 512 == 0;
        assert!(result.is_err() || boundary, "cut at {length}");
    }
    for at in (0..tar.len()).step_by(13) {
        let mut broken = tar.clone();
        broken[at] ^= 0x55;
        let _ = ingest(&broken, &Limits::default());
    }
    assert!(refusal(&[b'x'; 1024], &Limits::default()).contains("not a tar archive"));
    assert!(refusal(&[&[0; 512][..], &[1; 512]].concat(), &Limits::default()).contains("not a tar archive"));
    assert!(ingest(b"", &Limits::default()).is_ok());
}

#[test]
fn links_of_the_same_layer_are_followed_inside_it_and_links_below_are_replaced() {
    let lower = Tarball::new()
        .symlink("lib", "usr/lib")
        .file("usr/lib/libc.so", b"c")
        .symlink("esc", "../../../etc")
        .end();
    // The same layer: as Docker and containerd unpack it.
    let same = Tarball::new()
        .symlink("sbin", "/usr/sbin")
        .file("sbin/init", b"i")
        .symlink("up", "../../../../etc")
        .file("up/passwd", b"p")
        .end();
    // A lower layer's link: the directory takes its place, as overlayfs has it.
    let other = Tarball::new().file("lib/mine", b"m").end();
    let rootfs = Rootfs::build(&[lower, same, other]);
    assert_eq!(
        rootfs.paths(),
        [
            "/",
            "/esc",
            "/etc",
            "/etc/passwd",
            "/lib",
            "/lib/mine",
            "/sbin",
            "/up",
            "/usr",
            "/usr/lib",
            "/usr/lib/libc.so",
            "/usr/sbin",
            "/usr/sbin/init"
        ]
    );
}

#[test]
fn the_last_of_two_entries_wins() {
    let tar = Tarball::new()
        .file("a", b"first")
        .file("a", b"second")
        .file("dir-to-file/x", b"")
        .file("dir-to-file", b"file")
        .file("file-to-dir", b"")
        .dir("file-to-dir")
        .file("file-to-dir/x", b"x")
        .file("kept/x", b"x")
        .entry(b'5', b"kept", b"", |header| header.set_mode(0o700))
        .file("./abs//./../x", b"")
        .bytes;
    assert!(refusal(&tar, &Limits::default()).contains("`..`"));
    let tar = Tarball::new().raw(&tar[..tar.len() - 512]).file("/./abs//x", b"absolute").end();
    let rootfs = Rootfs::build(&[tar]);
    assert_eq!(
        rootfs.paths(),
        ["/", "/a", "/abs", "/abs/x", "/dir-to-file", "/file-to-dir", "/file-to-dir/x", "/kept", "/kept/x"]
    );
    assert_eq!(rootfs.get("/a").content, b"second");
    assert_eq!(rootfs.get("/dir-to-file").content, b"file");
    assert_eq!(rootfs.get("/kept").mode, 0o700);
}

#[test]
fn a_damaged_layer_is_noticed() {
    let tar = Tarball::new().file("a", &[1; 9000]).file("b", b"x").end();
    let (dir, _) = ingest(&tar, &Limits::default()).unwrap();
    let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
    let staging = tempfile::tempdir().unwrap();
    let build =
        || snapshot::build(&[dir.path().to_path_buf()], staging.path()).map(|_| ()).unwrap_err().to_string();

    let whole = std::fs::read(&tree).unwrap();
    for at in 0..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        std::fs::write(&tree, &broken).unwrap();
        assert!(layer::verify(dir.path()).is_err(), "byte {at}");
        std::fs::write(&tree, &whole[..at]).unwrap();
        assert!(layer::verify(dir.path()).is_err(), "cut at {at}");
    }
    assert!(build().contains("is damaged"));
    std::fs::write(&tree, &whole).unwrap();
    layer::verify(dir.path()).unwrap();

    let mut contents = std::fs::read(&data).unwrap();
    contents[5000] = 2;
    std::fs::write(&data, &contents).unwrap();
    assert!(layer::verify(dir.path()).unwrap_err().to_string().contains("contents have changed"));
    std::fs::write(&data, &contents[..4096]).unwrap();
    assert!(layer::verify(dir.path()).unwrap_err().to_string().contains("wrong length"));
    assert!(build().contains("wrong length"));
    std::fs::remove_file(&data).unwrap();
    assert!(build().contains("cannot read"));
}

/// A layer with some of everything.
pub(crate) fn everything() -> Vec<u8> {
    let map: &[(&str, &[u8])] = &[("GNU.sparse.size", b"200000"), ("GNU.sparse.map", b"0,1,100000,3")];
    let lines: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"300000")];
    let mut content = b"1\n200000\n4\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"data");
    Tarball::new()
        .dir("d")
        .file("d/a", &[1; 600])
        .pax(&[("SCHILY.xattr.user.k", b"v"), ("mtime", b"12.5"), ("path", b"d/renamed")])
        .file("x", b"small")
        .hard_link("b", "d/a")
        .symlink("l", "d")
        .file("l/through", b"")
        .device(b'3', "c", 1, 3)
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .pax(map)
        .file("sparse-01", b"abcd")
        .pax(lines)
        .file("sparse-10", &content)
        .entry(b'S', b"sparse-gnu", b"gnu", |header| {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(500_000);
            gnu.sparse[0].set_offset(400_000);
            gnu.sparse[0].set_length(3);
        })
        .file(&"n".repeat(150), b"long")
        .end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_tar_is_refused_or_makes_a_sound_snapshot(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 1..6)
    ) {
        let mut tar = everything();
        for (at, byte) in changes {
            *at.get_mut(&mut tar) = byte;
        }
        repair(&mut tar);
        let limits = Limits { data_bytes: 1 << 20, ..Limits::default() };
        let Ok((dir, _)) = ingest(&tar, &limits) else { return Ok(()) };
        layer::verify(dir.path()).unwrap();
        let staging = tempfile::tempdir().unwrap();
        snapshot::build(&[dir.path().to_path_buf()], staging.path()).unwrap();
    }
}

#[test]
fn the_layer_that_is_changed_above_is_a_good_one() {
    let rootfs = Rootfs::build(&[everything()]);
    assert_eq!(&rootfs.get("/sparse-01").content[100_000..100_003], b"bcd");
    assert_eq!(&rootfs.get("/sparse-10").content[200_000..200_004], b"data");
    assert_eq!(&rootfs.get("/sparse-gnu").content[400_000..400_003], b"gnu");
    assert_eq!(rootfs.get("/d/through").content, b"");
    assert_eq!(rootfs.get("/d/renamed").xattrs[&b"user.k"[..]], b"v");
}
