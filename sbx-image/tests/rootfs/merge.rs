//! Layers over layers, against a model that is too simple to be wrong: a map from paths, changed layer by layer.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rustix::fs::FileType;

use crate::rootfs::{Rootfs, Seen};
use crate::tarball::Tarball;

#[test]
fn whiteouts_hide_lower_layers_only_whatever_their_order() {
    let lower =
        || Tarball::new().file("a/old", b"").file("b", b"low").file("c/x", b"").file("d/deep/x", b"").end();
    let early = Tarball::new()
        .file("a/.wh..wh..opq", b"")
        .file(".wh.b", b"")
        .file(".wh.c", b"")
        .file("a/new", b"")
        .file("b", b"up")
        .file("c/y", b"")
        .file("d/.wh.absent", b"");
    let late = Tarball::new()
        .file("d/.wh.absent", b"")
        .file("a/new", b"")
        .file("b", b"up")
        .file("c/y", b"")
        .file("a/.wh..wh..opq", b"")
        .file(".wh.c", b"")
        .file(".wh.b", b"");
    let (early, late) = (Rootfs::build(&[lower(), early.end()]), Rootfs::build(&[lower(), late.end()]));
    assert_eq!(early.paths(), ["/", "/a", "/a/new", "/b", "/c", "/c/y", "/d", "/d/deep", "/d/deep/x"]);
    assert_eq!(early.get("/b").content, b"up");
    assert_eq!(early.metadata(), late.metadata());
}

#[test]
fn directories_merge_and_implied_ones_keep_the_attributes_below() {
    let attributes = |mode: u32| move |header: &mut tar::Header| header.set_mode(mode);
    let lower = Tarball::new()
        .entry(b'5', b"kept", b"", attributes(0o700))
        .entry(b'5', b"changed", b"", attributes(0o700))
        .entry(b'5', b"anew", b"", attributes(0o700))
        .file("kept/low", b"")
        .file("changed/low", b"")
        .file("file", b"")
        .end();
    let upper = Tarball::new()
        .file("kept/up", b"")
        .entry(b'5', b"changed", b"", attributes(0o711))
        .file(".wh.anew", b"")
        .file("anew/x", b"")
        .file("file/x", b"")
        .end();
    let rootfs = Rootfs::build(&[lower, upper]);
    assert_eq!(
        rootfs.paths(),
        [
            "/",
            "/anew",
            "/anew/x",
            "/changed",
            "/changed/low",
            "/file",
            "/file/x",
            "/kept",
            "/kept/low",
            "/kept/up"
        ]
    );
    let mode = |path| rootfs.get(path).mode;
    assert_eq!((mode("/kept"), mode("/changed"), mode("/anew"), mode("/file")), (0o700, 0o711, 0o755, 0o755));
}

#[test]
fn images_share_layers_and_the_same_layers_give_the_same_bytes() {
    let base = || Tarball::new().file("base", &[1; 100_000]).end();
    let top = || Tarball::new().file("top", &[2; 5000]).file("base-link", b"").hard_link("two", "top").end();
    let (one, two) = (Rootfs::build(&[base(), top()]), Rootfs::build(&[base(), top()]));
    assert_eq!((one.metadata(), &one.manifest), (two.metadata(), &two.manifest));
    let lengths: Vec<u64> = one.manifest.extents.iter().map(|extent| extent.length).collect();
    assert_eq!(lengths, [4096, 102_400, 8192]);
    assert_eq!(one.get("/two").content, [2; 5000]);
    let none = Rootfs::build(&[]);
    assert_eq!((none.paths(), none.get("/").mode), (vec!["/".to_string()], 0o755));
}

/// One entry of a random layer.
#[derive(Clone, Debug)]
enum Step {
    File(String, u8),
    Directory(String, u32),
    Symlink(String),
    Whiteout(String),
    Opaque(String),
}

/// What the model knows of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory(u32),
    File(Vec<u8>),
    Symlink,
}

fn content(seed: u8) -> Vec<u8> {
    // Some inline, some in blocks.
    vec![seed; usize::from(seed) * 7]
}

fn parents(path: &str) -> impl Iterator<Item = String> {
    path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_string())
}

/// Removes a path and what is below it.
fn remove(model: &mut BTreeMap<String, Node>, path: &str) {
    let below = format!("{path}/");
    model.retain(|one, _| one != path && !one.starts_with(&below));
}

/// Applies a layer: first all that hides, then all that adds, in the layer's order.
fn apply(model: &mut BTreeMap<String, Node>, layer: &[Step]) {
    let mut added: BTreeSet<String> = BTreeSet::new();
    for step in layer {
        match step {
            Step::Whiteout(path) => remove(model, path),
            Step::Opaque(path) => {
                let below = format!("{path}/");
                model.retain(|one, _| !one.starts_with(&below));
            }
            _ => {}
        }
    }
    for step in layer {
        let (path, node) = match step {
            Step::File(path, seed) => (path, Some(Node::File(content(*seed)))),
            Step::Directory(path, mode) => (path, Some(Node::Directory(*mode))),
            Step::Symlink(path) => (path, Some(Node::Symlink)),
            Step::Whiteout(path) => (path, None),
            // The directory of the marker itself has to be there.
            Step::Opaque(path) => (&format!("{path}/marker"), None),
        };
        for parent in parents(path) {
            if !matches!(model.get(&parent), Some(Node::Directory(_))) {
                remove(model, &parent);
                model.insert(parent.clone(), Node::Directory(0o755));
            }
            added.insert(parent);
        }
        let Some(node) = node else { continue };
        if !(matches!(node, Node::Directory(_)) && matches!(model.get(path), Some(Node::Directory(_)))) {
            remove(model, path);
        }
        model.insert(path.clone(), node);
    }
}

fn tarball(layer: &[Step]) -> Vec<u8> {
    let tar = layer.iter().fold(Tarball::new(), |tar, step| match step {
        Step::File(path, seed) => tar.file(path, &content(*seed)),
        Step::Directory(path, mode) => tar.entry(b'5', path.as_bytes(), b"", |header| header.set_mode(*mode)),
        Step::Symlink(path) => tar.symlink(path, "target"),
        Step::Whiteout(path) => {
            let (directory, name) = path.rsplit_once('/').unwrap();
            tar.file(&format!("{directory}/.wh.{name}"), b"")
        }
        Step::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
    });
    tar.end()
}

/// Layers that put no directory over a file of their own, and nothing below one. The latter is an error; with the
/// former, what was below in lower layers is there again, as with overlayfs, while the model has forgotten it.
fn is_consistent(layer: &[Step]) -> bool {
    let mut files: BTreeSet<String> = BTreeSet::new();
    for step in layer {
        let (path, is_directory) = match step {
            Step::File(path, _) | Step::Symlink(path) | Step::Whiteout(path) => (path, false),
            Step::Directory(path, _) | Step::Opaque(path) => (path, true),
        };
        if parents(path).any(|parent| files.contains(&parent)) || (is_directory && files.contains(path)) {
            return false;
        }
        if matches!(step, Step::File(..) | Step::Symlink(_)) {
            files.insert(path.clone());
        }
    }
    true
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "-", ".x"]), 1..4)
        .prop_map(|names| format!("/{}", names.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (path(), 0u8..150).prop_map(|(path, seed)| Step::File(path, seed)),
        3 => (path(), prop::sample::select(vec![0o700u32, 0o755, 0o1777])).prop_map(|(path, mode)| Step::Directory(path, mode)),
        1 => path().prop_map(Step::Symlink),
        2 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let layer = prop::collection::vec(step(), 0..12).prop_filter("consistent", |layer| is_consistent(layer));
    prop::collection::vec(layer, 1..5)
}

fn node(seen: &Seen) -> Node {
    match seen.kind {
        FileType::Directory => Node::Directory(seen.mode),
        FileType::Symlink => Node::Symlink,
        _ => Node::File(seen.content.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layers_make_what_the_model_says(layers in layers()) {
        let mut model = BTreeMap::new();
        for layer in &layers {
            apply(&mut model, layer);
        }
        let tars: Vec<_> = layers.iter().map(|layer| tarball(layer)).collect();
        let tree = Rootfs::build(&tars).tree();
        let found: BTreeMap<String, Node> = tree
            .iter()
            .filter(|(path, _)| *path != b"/")
            .map(|(path, seen)| (String::from_utf8(path.clone()).unwrap(), node(seen)))
            .collect();
        prop_assert_eq!(found, model);
    }
}
