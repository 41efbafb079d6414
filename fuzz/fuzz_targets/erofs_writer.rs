//! Any layers: the snapshot they make is one that erofs-rs, which is not ours, reads whole, and always the same bytes.

#![no_main]

use std::io::Read as _;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use libfuzzer_sys::fuzz_target;
use sbx_image::layer::{self, Limits};
use sbx_image::snapshot::{self, ROOTFS_FILE};
use tar::Header;

/// Most bytes of one device: the reader gets it whole.
const DEVICE_BYTES_MAX: u64 = 16 << 20;

/// Takes the next byte; zeros after the end.
fn next(input: &mut &[u8]) -> u8 {
    let Some((first, rest)) = input.split_first() else { return 0 };
    *input = rest;
    *first
}

/// A path of up to three components, of few names, so that entries meet; some names are long.
fn path(input: &mut &[u8]) -> String {
    let shape = next(input);
    let names = (0..=shape % 3).map(|_| {
        let byte = next(input);
        let name = char::from(b'!' + byte % 8).to_string();
        if byte >= 248 { name.repeat(80) } else { name }
    });
    names.collect::<Vec<_>>().join("/")
}

fn push(tar: &mut Vec<u8>, flag: u8, path: &str, link: &str, content: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    let length = path.len().min(100);
    header.as_old_mut().name[..length].copy_from_slice(&path.as_bytes()[..length]);
    let length = link.len().min(100);
    header.as_old_mut().linkname[..length].copy_from_slice(&link.as_bytes()[..length]);
    header.as_old_mut().linkflag = [flag];
    header.set_mode(mode);
    header.set_uid(u64::from(mode));
    header.set_gid(0);
    header.set_mtime(u64::from(flag));
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// One layer from some of the input.
fn layer(input: &mut &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for _ in 0..next(input) % 40 {
        let (operation, mode) = (next(input), u32::from(next(input)) << 4);
        let path = path(input);
        if operation & 0x80 != 0 {
            let value = vec![operation; usize::from(next(input)) * 20];
            let record =
                |length: usize| [format!("{length} SCHILY.xattr.user.x=").as_bytes(), &value, b"\n"].concat();
            let length = record(1000).len();
            push(
                &mut tar,
                b'x',
                "pax",
                "",
                &record(if length < 1000 { record(100).len() } else { length }),
                0,
            );
        }
        match operation % 8 {
            0 | 1 => push(&mut tar, b'0', &path, "", &vec![operation; usize::from(next(input)) * 40], mode),
            2 => push(&mut tar, b'5', &path, "", b"", mode),
            3 => push(&mut tar, b'2', &path, &path, b"", mode),
            4 => push(&mut tar, b'1', &path, &self::path(input), b"", mode),
            5 => push(&mut tar, b'3', &path, "", b"", mode),
            6 => {
                let (directory, name) = path.rsplit_once('/').unwrap_or((".", &path));
                push(&mut tar, b'0', &format!("{directory}/.wh.{name}"), "", b"", mode);
            }
            _ => {
                let map = format!("{},1", u64::from(next(input)) << 12);
                let body = |length: usize| format!("{length} GNU.sparse.map={map}\n");
                let text = format!("{}27 GNU.sparse.size=1048577\n", body(body(10).len()));
                push(&mut tar, b'x', "pax", "", text.as_bytes(), 0);
                push(&mut tar, b'0', &path, "", b"s", mode);
            }
        }
    }
    tar
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut layers = Vec::new();
    for number in 0..=next(&mut input) % 4 {
        let directory = root.path().join(number.to_string());
        std::fs::create_dir(&directory).expect("a directory");
        let tar = layer(&mut input);
        if layer::ingest(&mut tar.as_slice(), &directory, &Limits::default()).is_err() {
            return;
        }
        layers.push(directory);
    }
    let built = [root.path().join("one"), root.path().join("two")];
    let digests = built.each_ref().map(|directory| {
        std::fs::create_dir(directory).expect("a directory");
        snapshot::build(&layers, directory).expect("stored layers make a snapshot").digest
    });
    assert_eq!(digests[0], digests[1]);

    let manifest = snapshot::SnapshotManifest::read(&built[0]).expect("the manifest reads back");
    if manifest.extents.iter().map(|extent| extent.length).sum::<u64>() > DEVICE_BYTES_MAX {
        return;
    }
    let mut device = std::fs::read(built[0].join(ROOTFS_FILE)).expect("the metadata is there");
    for name in manifest.extents.iter().filter_map(|extent| extent.layer.as_ref()) {
        device.extend(std::fs::read(root.path().join(name).join("data")).expect("the layer is there"));
    }
    let erofs = EroFS::new(SliceImage::new(&device)).expect("the superblock reads");
    assert_eq!(erofs.super_block().block_count() * 4096, device.len() as u64);
    let mut inodes = std::collections::BTreeSet::from([erofs.super_block().root_inode_id()]);
    for entry in erofs.walk_dir("/").expect("the root reads") {
        let entry = entry.expect("directories read");
        inodes.insert(entry.inode.id());
        erofs.xattrs_inode(entry.inode).expect("attributes read");
        if entry.inode.is_file() {
            let mut content = Vec::new();
            erofs
                .open_inode_file(entry.inode)
                .expect("files open")
                .read_to_end(&mut content)
                .expect("files read");
            assert_eq!(content.len() as u64, entry.inode.data_size());
        }
    }
    assert_eq!(inodes.len() as u64, manifest.inodes);
});
