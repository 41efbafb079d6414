//! Layouts and archives, made by the tools that people use.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sbx_image::Digest;

use crate::TestStore;
use crate::image::{Packing, TestImage, noise, tar_of};

/// Runs a tool that must be installed.
/// Runs a program that must succeed; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; Debian: apt install {program}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn two_layers() -> TestImage {
    TestImage::new(&[
        (tar_of(&[("a", b"one"), ("big", &noise(300_000, 1))]), Packing::Gzip),
        (tar_of(&[("b", b"two")]), Packing::Gzip),
    ])
}

/// The image as a layout, and the directory that it is in.
fn layout(image: &TestImage) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layout");
    image.write_layout(&path);
    (directory, path)
}

#[test]
fn a_layout_by_tag_by_digest_and_alone() {
    let image = two_layers();
    let (_directory, path) = layout(&image);
    let path = path.display();
    let test = TestStore::new();
    let digest = image.manifest.clone().unwrap();
    for source in [
        format!("oci-layout:{path}"),
        format!("oci-layout:{path}:latest"),
        format!("oci-layout:{path}@{digest}"),
    ] {
        assert!(test.find(&source).is_none() || source.contains('@'), "{source}");
        assert_eq!(test.pull(&source).unwrap().manifest_digest, digest, "{source}");
        assert_eq!(test.find(&source).unwrap().manifest_digest, digest, "{source}");
    }
    let error = test.pull_error(&format!("oci-layout:{path}:other"));
    assert!(error.ends_with("has no image `other`; it has: latest"), "{error}");
    let error = test.pull_error("oci-layout:/nonexistent");
    assert_eq!(error, "/nonexistent has no index.json");
    test.assert_sound();
}

#[test]
fn a_layout_that_changed_is_not_found_any_more() {
    let (_directory, path) = layout(&two_layers());
    let source = format!("oci-layout:{}", path.display());
    let test = TestStore::new();
    test.pull(&source).unwrap();
    assert!(test.find(&source).is_some());
    let changed = TestImage::of_bytes(10);
    changed.write_layout(&path);
    assert!(test.find(&source).is_none());
    assert_eq!(Some(test.pull(&source).unwrap().manifest_digest), changed.manifest);
}

#[test]
fn a_damaged_layout_is_refused() {
    let image = two_layers();
    let (_directory, path) = layout(&image);
    let source = format!("oci-layout:{}", path.display());
    let test = TestStore::new();
    let layer = path.join("blobs/sha256").join(image.layers[0].hex());
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let error = test.pull_error(&source);
    assert!(error.contains("the copy at the source is damaged"), "{error}");
    fs::remove_file(&layer).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &layer).unwrap();
    let error = test.pull_error(&source);
    assert!(error.contains("has no blobs/sha256/"), "{error}");
    assert_eq!(test.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn archives_of_skopeo() {
    let image = two_layers();
    let (directory, path) = layout(&image);
    let from = format!("oci:{}:latest", path.display());
    let file = |name: &str| directory.path().join(name).display().to_string();
    run("skopeo", &["copy", "-q", &from, &format!("oci-archive:{}:v1", file("oci.tar"))]);
    run("skopeo", &["copy", "-q", &from, &format!("docker-archive:{}:example/name:v2", file("docker.tar"))]);
    compress(Path::new(&file("docker.tar")), Path::new(&file("docker.tar.gz")));
    let test = TestStore::new();
    let oci = test.pull(&format!("oci-archive:{}", file("oci.tar"))).unwrap();
    assert_eq!((oci.new_layers, oci.layers.len()), (2, 2));
    assert_eq!(oci.config.config().as_ref().unwrap().env().as_ref().unwrap(), &["A=b"]);
    let mut digests = Vec::new();
    for source in ["docker.tar", "docker.tar:example/name:v2", "docker.tar.gz"] {
        let source = format!("docker-archive:{}", file(source));
        let pulled = test.pull(&source).unwrap();
        // The same layers, whatever they were packed in.
        assert_eq!(pulled.new_layers, 0, "{source}");
        assert_eq!(test.find(&source).unwrap().layers, pulled.layers);
        digests.push(pulled.manifest_digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "an archive always gets the same manifest");
    let error = test.pull_error(&format!("docker-archive:{}:other", file("docker.tar")));
    assert!(error.ends_with("has no image `other`; it has: docker.io/example/name:v2"), "{error}");
    let error = test.pull_error(&format!("docker-archive:{}", file("oci.tar")));
    assert!(error.ends_with("has no manifest.json"), "{error}");
    test.assert_sound();
}

#[test]
fn a_layout_of_umoci() {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout").display().to_string();
    let tar = directory.path().join("layer.tar");
    fs::write(&tar, tar_of(&[("hello", b"world")])).unwrap();
    let image = format!("{layout}:tag");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["raw", "add-layer", "--image", &image, tar.to_str().unwrap()]);
    run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/hello", "--architecture", "amd64"]);
    let test = TestStore::new();
    let pulled = test.pull(&format!("oci-layout:{image}")).unwrap();
    assert_eq!(pulled.layers[0].diff_id, Digest::sha256(&fs::read(&tar).unwrap()));
    assert_eq!(pulled.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/hello"]);
}

#[test]
fn an_archive_cannot_lead_to_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret.json");
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    fs::write(&secret, config).unwrap();
    for name in [secret.to_str().unwrap(), "../secret.json", "link"] {
        let manifest = serde_json::json!([{"Config": name, "RepoTags": [], "Layers": []}]).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", &secret).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(manifest.len() as u64);
        builder.append_data(&mut header, "manifest.json", manifest.as_bytes()).unwrap();
        let archive = directory.path().join("archive.tar");
        fs::write(&archive, builder.into_inner().unwrap()).unwrap();
        let error = TestStore::new().pull_error(&format!("docker-archive:{}", archive.display()));
        assert!(error.contains("has no ") || error.contains("leads nowhere"), "{name}: {error}");
    }
}

fn compress(from: &Path, to: &Path) {
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(to).unwrap(), flate2::Compression::fast());
    encoder.write_all(&fs::read(from).unwrap()).unwrap();
    encoder.finish().unwrap();
}
