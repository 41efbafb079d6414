//! Room on the disk: what takes it, how it is freed, and what happens when there is none.

use std::fs;
use std::os::unix::fs::FileExt as _;

use sbx_image::store::PruneOptions;

use crate::TestStore;
use crate::image::{Packing, TestImage, noise, tar_of};
use crate::processes::puller;
use crate::server::Server;

fn images_sharing_a_layer() -> (TestImage, TestImage) {
    let base = (tar_of(&[("base", &noise(400_000, 1))]), Packing::Gzip);
    let first = TestImage::new(&[base.clone(), (tar_of(&[("first", &noise(100_000, 2))]), Packing::Gzip)]);
    let second = TestImage::new(&[base, (tar_of(&[("second", &noise(200_000, 3))]), Packing::Gzip)]);
    (first, second)
}

#[test]
fn shared_layers_are_stored_once_and_kept_while_needed() {
    let (first, second) = images_sharing_a_layer();
    let (first, second) = (Server::new(&first), Server::new(&second));
    let test = TestStore::new();
    let one = test.pull(&first.reference()).unwrap();
    let two = test.pull(&second.reference()).unwrap();
    assert_eq!((one.new_layers, two.new_layers), (2, 1));
    let (snapshot_one, snapshot_two) =
        (test.store.snapshot(&one).unwrap(), test.store.snapshot(&two).unwrap());
    let usage = test.store.usage().unwrap();
    let objects: Vec<_> = usage.buckets.iter().map(|bucket| (bucket.bucket, bucket.objects)).collect();
    assert_eq!(objects, [("images", 2), ("blobs", 4), ("layers", 3), ("snapshots", 2), ("steps", 0)]);
    assert!((400_000..500_000).contains(&usage.shared_layer_bytes), "{usage:?}");
    assert_eq!(usage.unused_layer_bytes, 0);

    assert_eq!(test.store.prune(&PruneOptions::default()).unwrap().freed_bytes, 0, "nothing is unneeded");
    assert_eq!(test.store.remove_image(&first.reference()).unwrap(), [first.reference()]);
    assert!(test.find(&first.reference()).is_none());
    let in_use = vec![snapshot_one.key.clone()];
    let pruned = test.store.prune(&PruneOptions { in_use: in_use.clone(), all: false }).unwrap();
    assert_eq!((pruned.layers, pruned.snapshots, pruned.blobs), (0, 0, 2), "a sandbox still uses it");
    let pruned = test.store.prune(&PruneOptions { in_use, all: true }).unwrap();
    assert_eq!(pruned.images, [second.reference()]);
    assert_eq!((pruned.layers, pruned.snapshots), (1, 1));
    assert!(snapshot_one.extents.iter().all(|extent| extent.file.exists()));
    assert!(!snapshot_two.extents.iter().all(|extent| extent.file.exists()));
    let pruned = test.store.prune(&PruneOptions { in_use: Vec::new(), all: true }).unwrap();
    assert_eq!((pruned.layers, pruned.snapshots), (2, 1));
    assert!(pruned.freed_bytes > 400_000);
    assert!(test.store.usage().unwrap().buckets.iter().all(|bucket| bucket.objects == 0));
    test.pull(&first.reference()).unwrap();
    test.assert_sound();
}

#[test]
fn images_pinned_by_digest_go_when_no_sandbox_uses_them() {
    let image = TestImage::of_bytes(1000);
    let server = Server::new(&image);
    let pinned = format!("{}/test/image@{}", server.host(), image.manifest.as_ref().unwrap());
    let test = TestStore::new();
    let key = test.store.snapshot(&test.pull(&pinned).unwrap()).unwrap().key;
    let kept = test.store.prune(&PruneOptions { in_use: vec![key], all: false }).unwrap();
    assert_eq!(kept.images, [] as [String; 0]);
    assert!(test.find(&pinned).is_some());
    let pruned = test.store.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.images.len(), pruned.layers, pruned.snapshots, pruned.blobs), (1, 1, 1, 2));
}

#[test]
fn images_are_listed_and_removed_by_name_or_digest() {
    let image = TestImage::of_bytes(1000);
    let server = Server::new(&image);
    let test = TestStore::new();
    test.pull(&server.reference()).unwrap();
    let listed = test.store.images().unwrap();
    let [stored] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((stored.reference.clone(), stored.layers, stored.complete), (server.reference(), 1, true));
    assert_eq!(stored.size_bytes, image.blobs[&image.layers[0]].len() as u64);
    assert!(stored.last_used >= stored.pulled && stored.pulled > 0);
    let error = test.store.remove_image("debian").unwrap_err().to_string();
    assert_eq!(error, "there is no image `debian` in the store; `sbx image ls` lists what there is");
    test.store.remove_image(&format!("sha256:{}", &stored.manifest_digest.hex()[..12])).unwrap();
    assert_eq!(test.store.images().unwrap(), []);
}

#[test]
fn damage_is_found_and_mended_by_the_next_pull() {
    let (image, _) = images_sharing_a_layer();
    let server = Server::new(&image);
    let test = TestStore::new();
    let pulled = test.pull(&server.reference()).unwrap();
    let snapshot = test.store.snapshot(&pulled).unwrap();
    let home = test.store.home();
    let layer = home.join("layers/v1/sha256").join(pulled.layers[0].diff_id.hex());
    let manifest = home.join("blobs/v1/sha256").join(pulled.manifest_digest.hex());
    let rootfs = home.join("snapshots/v1").join(&snapshot.key);
    for file in [layer.join("data"), manifest.clone(), rootfs.join("rootfs.erofs")] {
        let file = fs::File::options().write(true).read(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 100).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
    }
    assert!(test.find(&server.reference()).is_none(), "its manifest cannot be trusted");
    let damaged = test.store.verify(&mut |_| {}).unwrap().damaged;
    let paths: Vec<_> = damaged.iter().map(|damage| damage.path.clone()).collect();
    assert_eq!(paths, [manifest, layer, rootfs]);
    assert_eq!(damaged[0].images, [server.reference()]);
    // Manifests come with every pull; layers and file systems are not read, so their damage must be discarded.
    assert_eq!(test.pull(&server.reference()).unwrap().new_layers, 0);
    assert_eq!(test.store.verify(&mut |_| {}).unwrap().damaged.len(), 2);
    test.store.discard(&damaged[1..]).unwrap();
    assert_eq!(test.pull(&server.reference()).unwrap().new_layers, 1);
    assert_eq!(test.store.snapshot(&pulled).unwrap().digest, snapshot.digest);
    // Objects without a readable record are made anew.
    fs::write(home.join("snapshots/v1").join(&snapshot.key).join("snapshot.json"), "{").unwrap();
    assert_eq!(test.store.snapshot(&pulled).unwrap().digest, snapshot.digest);
    fs::remove_file(home.join("layers/v1/sha256").join(pulled.layers[0].diff_id.hex()).join("layer.json"))
        .unwrap();
    assert!(test.find(&server.reference()).is_none());
    assert_eq!(test.pull(&server.reference()).unwrap().new_layers, 1);
    test.assert_sound();
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let image = TestImage::of_bytes(8 << 20);
    let server = Server::new(&image);
    let test = TestStore::new();
    let mount = test.directory.path().join("small");
    fs::create_dir(&mount).unwrap();
    // The file system exists for this one process only, in name spaces of its own: no root needed, nothing left.
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs '{0}' && \"$@\"; echo; echo LEFT $(find '{0}' -type f -not -path '*/locks/*' | wc -l)",
        mount.display()
    );
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"];
    let child = puller(&wrapper, &mount.join("home"), &server.reference()).spawn().unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let failed = text.lines().find(|line| line.starts_with("FAILED")).unwrap_or_else(|| panic!("{text}"));
    assert!(failed.contains("is full; make room there, for example with `sbx prune`"), "{failed}");
    assert!(failed.contains("small/home/layers/v1/.staging/"), "{failed}");
    assert!(text.contains("LEFT 0"), "{text}");
}
