//! What tar can say arrives in the file system.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::FileType;
use sbx_image::layer::Limits;
use sbx_image::{comparison, dump, layer};

use crate::rootfs::{Rootfs, gnu_tar, ingest};
use crate::tarball::{TIME, Tarball};

#[test]
fn a_stored_layer_reads_as_what_the_tar_said() {
    let tar = Tarball::new()
        .dir("./")
        .dir("etc/")
        .pax(&[("mtime", b"1600000000.25"), ("SCHILY.xattr.user.comment", b"two\nlines\0")])
        .file("etc/passwd", b"root:x:0:0\n")
        .file("usr/bin/make", &[7; 5000])
        .hard_link("usr/bin/gmake", "./usr/bin/make")
        .symlink("bin", "usr/bin")
        .entry(b'0', b"usr/bin/su", b"#!", |header| header.set_mode(0o100_4755))
        .device(b'3', "dev/null", 1, 3)
        .device(b'4', "dev/vda", 254, 0)
        .entry(b'6', b"run/pipe", b"", |header| {
            header.set_uid(1000);
            header.set_gid(4_000_000_000);
        })
        .file("etc/.wh.shadow", b"")
        .file("var/.wh..wh..opq", b"")
        .file("var/.wh..wh.plnk", b"")
        .file("usr/share/doc/x", &[1; 513])
        .end();
    let (dir, summary) = ingest(&tar, &Limits::default()).unwrap();
    assert_eq!((summary.data_bytes, summary.written_bytes, summary.entries), (12288, 12288, 14));
    layer::verify(dir.path()).unwrap();
    insta::assert_snapshot!(dump::layer(dir.path()).unwrap());
}

#[test]
fn two_layers_differ_where_their_tars_do() {
    let sparse = |byte: u8| vec![byte; 9_000];
    let first = Tarball::new()
        .dir("etc/")
        .file("etc/same", b"x")
        .file("etc/small", b"1")
        .file("etc/mode", b"x")
        .file("etc/gone", b"")
        .file("usr/large", &sparse(1))
        .file("usr/equal", &sparse(3))
        .symlink("bin", "usr/bin")
        .file("var/.wh.x", b"")
        .end();
    let second = Tarball::new()
        .dir("etc/")
        .file("usr/equal", &sparse(3))
        .file("usr/large", &sparse(2))
        .file("etc/same", b"x")
        .file("etc/small", b"22")
        .entry(b'0', b"etc/mode", b"x", |header| header.set_mode(0o600))
        .file("new", b"")
        .symlink("bin", "usr/sbin")
        .end();
    let limits = Limits::default();
    let ((first, _), (second, _)) = (ingest(&first, &limits).unwrap(), ingest(&second, &limits).unwrap());
    let differences = comparison::layers(first.path(), second.path()).unwrap();
    let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    /bin: l 0644 0:0 @1700000000 -> usr/bin became l 0644 0:0 @1700000000 -> usr/sbin
    /etc/gone: only in the first
    /etc/mode: - 0644 0:0 @1700000000 1 bytes became - 0600 0:0 @1700000000 1 bytes
    /etc/small: other contents, and - 0644 0:0 @1700000000 1 bytes became - 0644 0:0 @1700000000 2 bytes
    /new: only in the second
    /usr/large: other contents
    /var: only in the first
    /var/x: only in the first
    ");
    assert_eq!(comparison::layers(first.path(), first.path()).unwrap(), []);
}

#[test]
fn kinds_modes_owners_times_and_attributes_arrive() {
    let capability = b"\x01\x00\x00\x02\x0a\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let tar = Tarball::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.shared", b"both"),
            ("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.quarantine", b"q"),
            ("uid", b"4294967295"),
        ])
        .entry(b'0', b"bin/ping", b"elf", |header| header.set_mode(0o6755))
        .pax(&[("SCHILY.xattr.user.shared", b"both"), ("mtime", b"-1.5")])
        .dir("srv")
        .device(b'3', "dev/console", 5, 1)
        .device(b'4', "dev/nvme", 259, 70_000)
        .entry(b'6', b"fifo", b"", |_| {})
        .symlink("link", "/somewhere/else")
        .entry(b'7', b"contiguous", b"c", |_| {})
        .entry(0, b"old-directory/", b"", |_| {})
        .end();
    let rootfs = Rootfs::build(&[tar]);
    assert_eq!(rootfs.summaries[0].dropped_xattrs, 2);

    let ping = rootfs.get("/bin/ping");
    assert_eq!((ping.mode, ping.owner, ping.modified), (0o6755, (u32::MAX, 0), (TIME as i64, 0)));
    assert_eq!(ping.xattrs.len(), 3);
    assert_eq!(ping.xattrs[&b"security.capability"[..]], capability);
    assert_eq!(ping.xattrs[&b"user.shared"[..]], b"both");
    let srv = rootfs.get("/srv");
    assert_eq!((srv.kind, srv.modified), (FileType::Directory, (-2, 500_000_000)));
    assert_eq!(srv.xattrs[&b"user.shared"[..]], b"both");
    let console = rootfs.get("/dev/console");
    assert_eq!((console.kind, console.device), (FileType::CharacterDevice, Some((5, 1))));
    let nvme = rootfs.get("/dev/nvme");
    assert_eq!((nvme.kind, nvme.device), (FileType::BlockDevice, Some((259, 70_000))));
    assert_eq!(rootfs.get("/fifo").kind, FileType::Fifo);
    assert_eq!(rootfs.get("/link").content, b"/somewhere/else");
    assert_eq!(rootfs.get("/contiguous").content, b"c");
    assert_eq!(rootfs.get("/old-directory").kind, FileType::Directory);
    // Nothing names these: root's, 0755, with the right number of links.
    let root = rootfs.get("/");
    assert_eq!((root.mode, root.owner, root.links), (0o755, (0, 0), 2 + 4));
}

#[test]
fn sizes_around_blocks_and_the_inline_bound_keep_their_contents() {
    let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 1 << 20, (1 << 20) + 1, 3 << 20];
    let content = |size: usize| (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>();
    let tar = sizes.iter().fold(Tarball::new(), |tar, size| tar.file(&format!("f{size}"), &content(*size)));
    let rootfs = Rootfs::build(&[tar.end()]);
    for size in sizes {
        assert!(rootfs.get(&format!("/f{size}")).content == content(size), "{size}");
    }
}

#[test]
fn long_links_large_directories_and_large_attributes_fit() {
    let target = "t/".repeat(2047);
    let value = vec![b'v'; 65535];
    let mut tar = Tarball::new()
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("long", "")
        .pax(&[("SCHILY.xattr.user.large", &value)])
        .file("attributed", b"small")
        .pax(&[("SCHILY.xattr.user.large", &vec![b'w'; 5000])])
        .symlink("attributed-link", "target");
    for number in 0..3000 {
        tar = tar.file(&format!("many/-{number:0>200}"), b"x");
    }
    let rootfs = Rootfs::build(&[tar.end()]);
    let tree = rootfs.tree();
    assert_eq!(tree[&b"/long"[..]].content, target.as_bytes());
    assert_eq!(tree[&b"/attributed"[..]].xattrs[&b"user.large"[..]], value);
    assert_eq!(tree[&b"/attributed"[..]].content, b"small");
    assert_eq!(tree[&b"/attributed-link"[..]].content, b"target");
    assert_eq!(tree.keys().filter(|path| path.starts_with(b"/many/")).count(), 3000);
}

#[test]
fn hard_links_are_one_file_even_after_one_name_is_replaced() {
    let lower = Tarball::new().file("a", b"shared").hard_link("b", "a").hard_link("d/c", "/b").end();
    let upper = Tarball::new().file("b", b"own").end();
    let rootfs = Rootfs::build(&[lower, upper]);
    let (a, b, c) = (rootfs.get("/a"), rootfs.get("/b"), rootfs.get("/d/c"));
    assert_eq!((a.inode, a.links, &a.content[..]), (c.inode, 2, &b"shared"[..]));
    assert_eq!((b.links, &b.content[..]), (1, &b"own"[..]));
}

#[test]
fn every_encoding_of_sparse_files_reads_the_same() {
    let source = tempfile::tempdir().unwrap();
    let file = File::create(source.path().join("sparse")).unwrap();
    // More parts than the old header holds itself (4) and than one continuation does (21).
    for part in 0..40u8 {
        file.write_all_at(&[part + 1; 5000], u64::from(part) * 300_000).unwrap();
    }
    file.set_len(100_000_000).unwrap();
    fs::File::create(source.path().join("hole")).unwrap().set_len(5_000_000_000).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let tar = gnu_tar(source.path(), &[format, &["-S", "-c", "sparse", "hole"]].concat()).unwrap();
        let rootfs = Rootfs::build(&[tar]);
        let written = rootfs.summaries[0].written_bytes;
        assert!(written < 40 * 20_000, "{format:?}: {written} bytes written");
        layer::verify(&rootfs.layers[0]).unwrap();
        let device = rootfs.device();
        let erofs = erofs_rs::EroFS::new(erofs_rs::backend::SliceImage::new(&device)).unwrap();
        let content = rootfs_content(&erofs, "/sparse");
        assert!(content == fs::read(source.path().join("sparse")).unwrap(), "{format:?}");
        assert_eq!(erofs.open("/hole").unwrap().size(), 5_000_000_000, "{format:?}");
        let mut part = [1; 100];
        assert_eq!(erofs.open("/hole").unwrap().read_at(&mut part, 4_999_999_900).unwrap(), 100);
        assert_eq!(part, [0; 100]);
    }
}

fn rootfs_content(erofs: &erofs_rs::EroFS<erofs_rs::backend::SliceImage<'_>>, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut erofs.open(path).unwrap(), &mut content).unwrap();
    content
}

#[test]
fn a_tree_packed_by_gnu_tar_arrives_whole() {
    let source = tempfile::tempdir().unwrap();
    make_tree(source.path());
    for format in ["gnu", "pax", "ustar"] {
        if format == "ustar" {
            fs::remove_dir_all(source.path().join("deep")).unwrap();
        }
        let arguments = [&format!("--format={format}"), "--sort=name", "-c", "."];
        let rootfs = Rootfs::build(&[gnu_tar(source.path(), &arguments).unwrap()]);
        let tree = rootfs.tree();
        let mut found = 0;
        compare(source.path(), source.path(), &tree, format == "pax", &mut found);
        assert_eq!(tree.len(), found, "{format}");
    }
}

pub(crate) fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for size in [0usize, 10, 600, 70_000] {
        let mut file = File::create(root.join(format!("a/file-{size}"))).unwrap();
        file.write_all(&vec![b'f'; size]).unwrap();
    }
    fs::hard_link(root.join("a/file-10"), root.join("a/b/linked")).unwrap();
    symlink("../a/file-600", root.join("a/b/c/symbolic")).unwrap();
    fs::set_permissions(root.join("a/file-600"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join(std::ffi::OsStr::new("caf\u{e9} \n name")), b"odd").unwrap();
    let deep = (0..6).fold(root.join("deep"), |path, _| path.join("d".repeat(120)));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(255)), b"deep").unwrap();
    symlink("l".repeat(300), deep.join("long-link")).unwrap();
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(1 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
}

/// Compares what is at and below `path` on the host with the file system.
fn compare(
    root: &Path,
    path: &Path,
    tree: &std::collections::BTreeMap<Vec<u8>, crate::rootfs::Seen>,
    nanoseconds: bool,
    found: &mut usize,
) {
    use std::os::unix::ffi::OsStrExt as _;
    let name = Path::new("/").join(path.strip_prefix(root).unwrap());
    let seen =
        &tree.get(name.as_os_str().as_bytes()).unwrap_or_else(|| panic!("{} is missing", name.display()));
    let host = fs::symlink_metadata(path).unwrap();
    *found += 1;
    assert_eq!(seen.mode, host.mode() & 0o7777, "{}", name.display());
    assert_eq!(seen.owner, (host.uid(), host.gid()), "{}", name.display());
    let fraction = if nanoseconds { u32::try_from(host.mtime_nsec()).unwrap() } else { 0 };
    assert_eq!(seen.modified, (host.mtime(), fraction), "{}", name.display());
    assert_eq!(u64::from(seen.links), if host.is_dir() { 2 + subdirectories(path) } else { host.nlink() });
    if host.is_symlink() {
        assert_eq!(seen.content, fs::read_link(path).unwrap().as_os_str().as_bytes());
    } else if host.is_file() {
        assert!(seen.content == fs::read(path).unwrap(), "{}", name.display());
    } else {
        for entry in fs::read_dir(path).unwrap() {
            compare(root, &entry.unwrap().path(), tree, nanoseconds, found);
        }
    }
}

fn subdirectories(path: &Path) -> u64 {
    fs::read_dir(path).unwrap().filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir()).count()
        as u64
}
