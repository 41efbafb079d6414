//! Images that ask for too much, or are not what they say.

use sbx_image::Digest;
use serde_json::json;

use crate::TestStore;
use crate::image::{Packing, TestImage, noise, pack, tar_of};
use crate::server::Server;

fn refused(image: &TestImage, prepare: impl FnOnce(&mut TestStore)) -> String {
    let server = Server::new(image);
    let mut test = TestStore::new();
    prepare(&mut test);
    let error = test.pull_error(&server.reference());
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new(), "{error}");
    assert!(test.find(&server.reference()).is_none());
    test.assert_sound();
    error
}

#[test]
fn bombs_are_stopped() {
    let zeros = vec![0; 64 << 20];
    for packing in [Packing::Gzip, Packing::Zstd] {
        let image = TestImage::new(&[(tar_of(&[("zeros", &zeros)]), packing)]);
        let error = refused(&image, |test| {
            test.options.limits.ratio = 50;
            test.options.limits.ratio_free_bytes = 1 << 20;
        });
        assert!(
            error.ends_with("more than 50 times its size when uncompressed: a decompression bomb"),
            "{error}"
        );
        let error = refused(&image, |test| test.options.limits.layer_bytes = 1 << 20);
        assert!(
            error.contains("has more than 1048576 bytes when uncompressed, which is the limit"),
            "{error}"
        );
        let server = Server::new(&image);
        TestStore::new().pull(&server.reference()).unwrap();
    }
}

#[test]
fn contents_must_be_what_the_configuration_says() {
    let tar = tar_of(&[("a", b"one")]);
    let other = Digest::sha256(b"other").to_string();
    let error = refused(&TestImage::from_blobs(vec![pack(&tar, Packing::Gzip)], vec![other]), |_| {});
    assert!(error.contains("the image's configuration says sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"), "{error}");
}

#[test]
fn malformed_layers_are_told_apart() {
    let tar = tar_of(&[("data", &noise(500_000, 1))]);
    let diff_id = || vec![Digest::sha256(&tar).to_string()];
    let gzip = pack(&tar, Packing::Gzip);
    let cut = gzip[..gzip.len() / 2].to_vec();
    let error = refused(&TestImage::from_blobs(vec![cut], diff_id()), |_| {});
    assert!(error.contains("cannot be uncompressed"), "{error}");
    let error = refused(&TestImage::from_blobs(vec![b"\xfd7zXZ\0\0".to_vec()], diff_id()), |_| {});
    assert!(error.contains("xz compression is not supported"), "{error}");
    let cut_tar = tar[..100_000].to_vec();
    let cut_id = vec![Digest::sha256(&cut_tar).to_string()];
    let error = refused(&TestImage::from_blobs(vec![pack(&cut_tar, Packing::Gzip)], cut_id), |_| {});
    assert!(error.contains("cannot be used"), "{error}");
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let mut image = TestImage::of_bytes(1000);
    let amd64 = image.manifest.clone().unwrap();
    let attestation =
        image.add(br#"{"schemaVersion":2}"#.to_vec(), "application/vnd.oci.image.manifest.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let size = image.blobs[&amd64].len();
    let mut unknown = attestation;
    unknown["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    image.set_manifest(&json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [unknown, {"mediaType": media_type, "digest": amd64.to_string(), "size": size,
        "platform": {"os": "linux", "architecture": "amd64"}}]}));
    let server = Server::new(&image);
    let mut test = TestStore::new();
    let pulled = test.pull(&server.reference()).unwrap();
    assert_eq!(pulled.manifest_digest, amd64);
    let by_index = format!("{}/test/image@{}", server.host(), image.manifest.as_ref().unwrap());
    assert_eq!(test.find(&by_index).unwrap().manifest_digest, amd64, "also by the digest of the index");
    test.options.platform = "linux/arm64".parse().unwrap();
    assert!(test.find(&server.reference()).is_none());
    let error = test.pull_error(&server.reference());
    assert_eq!(error, "there is no image for linux/arm64/v8; it exists for: linux/amd64");
}

#[test]
fn claims_are_bounded() {
    let image = TestImage::of_bytes(1000);
    let claim = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut claiming = image.clone();
        let mut manifest = image.manifest_json();
        change(&mut manifest);
        claiming.set_manifest(&manifest);
        refused(&claiming, |_| {})
    };
    let error = claim(&|manifest| manifest["config"]["size"] = json!(1_u64 << 40));
    assert!(error.contains("claims to be 1099511627776 bytes long"), "{error}");
    let error = claim(&|manifest| manifest["layers"][0]["size"] = json!(1_u64 << 50));
    assert!(error.contains("gives only 1144 of 1125899906842624 bytes"), "{error}");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let error = claim(&|manifest| manifest["layers"][0]["mediaType"] = json!(foreign));
    assert!(error.contains("foreign layer"), "{error}");
    let error = claim(&|manifest| manifest["layers"][0]["digest"] = json!("sha256:../../etc/passwd"));
    assert!(error.contains("is not valid"), "{error}");
}
