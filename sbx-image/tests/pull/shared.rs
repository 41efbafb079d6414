//! Snapshots that are shared in a real registry.

use std::fs;
use std::path::{Path, PathBuf};

use sbx_image::layer::Limits;
use sbx_image::share::{self, Pushed, ShareError, SharedSnapshot, SharedStep, Wanted};
use sbx_image::{Digest, Normalisation, Reference};

use crate::archives::run;
use crate::image::{Packing, TestImage, noise, tar_of};
use crate::made::{EPOCH, Written};
use crate::registry::RealRegistry;
use crate::{TestStore, install_crypto, runtime, with_causes};

/// Two steps over an image of one layer, which is not in what is shared.
struct Snapshot {
    shared: SharedSnapshot,
    below: Vec<Digest>,
}

impl Snapshot {
    fn make(test: &TestStore, inputs: &str, second: &[u8]) -> Self {
        let step = |tar: Written, directories: &[&str]| {
            let added =
                test.store.add_layer(&mut &*tar.end(), &Normalisation::new(EPOCH), &Limits::default());
            let layer = added.unwrap().diff_id;
            let key = Digest::sha256(layer.to_string().as_bytes()).hex().to_owned();
            SharedStep {
                key,
                layer,
                setup_directories: directories.iter().map(|&text| text.to_owned()).collect(),
            }
        };
        let modules = Written::default().file("workspace/node_modules/a/index.js", second);
        let steps = vec![
            step(Written::default().file("usr/bin/tool", &noise(700_000, 3)), &[]),
            step(modules, &["node_modules"]),
        ];
        let image = Digest::sha256(b"the image");
        let below = vec![Digest::sha256(b"its layer")];
        Self { shared: SharedSnapshot { inputs: inputs.to_owned(), image, steps }, below }
    }

    fn content(&self) -> String {
        self.shared.content(&self.below)
    }

    fn wanted<'a>(&'a self, content: &'a str) -> Wanted<'a> {
        Wanted { inputs: &self.shared.inputs, content, below: &self.below, workspace: "workspace" }
    }
}

fn push(test: &TestStore, repository: &str, snapshot: &Snapshot) -> Result<Pushed, ShareError> {
    install_crypto();
    let repository: Reference = repository.parse().unwrap();
    let Snapshot { shared, below } = snapshot;
    runtime().block_on(share::push(&test.store, &repository, shared, below, &test.options, &test.heard))
}

fn pull(
    test: &TestStore,
    repository: &str,
    wanted: Wanted<'_>,
) -> Result<Option<SharedSnapshot>, ShareError> {
    install_crypto();
    let repository: Reference = repository.parse().unwrap();
    runtime().block_on(share::pull(&test.store, &repository, wanted, &test.options, &test.heard))
}

fn layers(test: &TestStore) -> usize {
    fs::read_dir(test.store.home().join("layers/v1/sha256")).map_or(0, Iterator::count)
}

#[test]
fn a_step_may_name_a_directory_that_an_earlier_one_has_made() {
    let registry = RealRegistry::start();
    let repository = format!("{}/acme/sandboxes", registry.host);
    let (here, there) = (TestStore::new(), TestStore::new());
    let mut snapshot = Snapshot::make(&here, "0123", b"first");
    // It looked at what is there, and changed nothing of it: its layer is without.
    let nothing =
        here.store.add_layer(&mut &*Written::default().end(), &Normalisation::new(EPOCH), &Limits::default());
    let layer = nothing.unwrap().diff_id;
    let setup_directories = vec!["node_modules".to_owned()];
    snapshot.shared.steps.push(SharedStep { key: "1".to_owned(), layer, setup_directories });
    push(&here, &repository, &snapshot).unwrap();
    let content = snapshot.content();
    assert_eq!(pull(&there, &repository, snapshot.wanted(&content)).unwrap(), Some(snapshot.shared.clone()));
    // Before it was made, there was none.
    snapshot.shared.steps.rotate_right(1);
    snapshot.shared.inputs = "4567".to_owned();
    push(&here, &repository, &snapshot).unwrap();
    let content = snapshot.content();
    let error = with_causes(&pull(&there, &repository, snapshot.wanted(&content)).unwrap_err());
    assert!(error.ends_with("no step has made a directory `node_modules`"), "{error}");
}

/// The files of a registry that are longer than the manifests.
fn blobs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let found = entries.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => blobs(&entry.path()),
        false => vec![entry.path()],
    });
    found.filter(|path| path.ends_with("data") && fs::metadata(path).unwrap().len() > 100_000).collect()
}

#[test]
fn what_is_pushed_is_the_same_elsewhere_and_is_sent_once() {
    let registry = RealRegistry::start();
    let repository = format!("{}/acme/sandboxes", registry.host);
    let (here, there) = (TestStore::new(), TestStore::new());
    let snapshot = Snapshot::make(&here, "0123abcd", b"first");
    let pushed = push(&here, &repository, &snapshot).unwrap();
    assert_eq!(pushed.reference, format!("{repository}:lock-0123abcd"));
    assert!(pushed.sent_bytes > 700_000 && !pushed.was_there, "{pushed:?}");
    let again = push(&here, &repository, &snapshot).unwrap();
    assert_eq!(again, Pushed { sent_bytes: 0, was_there: true, ..pushed.clone() });
    // Of another snapshot only what is new is sent.
    let other = Snapshot::make(&here, "ffff", b"second");
    let sent = push(&here, &repository, &other).unwrap();
    assert!(sent.sent_bytes < 2000, "{sent:?}");

    // What others see there.
    let name = format!("docker://{}", pushed.reference);
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.sbx.snapshot.v1+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    let copy = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", copy.path().display());
    run("skopeo", &["copy", "-q", "--src-tls-verify=false", &name, &to]);

    let content = snapshot.content();
    let found = pull(&there, &repository, snapshot.wanted(&content)).unwrap();
    assert_eq!(found.as_ref(), Some(&snapshot.shared));
    assert_eq!(layers(&there), 2);
    there.assert_sound();
    let unknown = Wanted { inputs: "0000", ..snapshot.wanted(&content) };
    assert_eq!(pull(&there, &repository, unknown).unwrap(), None);
    assert_eq!(
        pull(&there, &format!("{}/acme/none", registry.host), snapshot.wanted(&content)).unwrap(),
        None
    );
    for test in [&here, &there] {
        assert_eq!(test.leftovers(), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_is_not_the_wanted_snapshot_is_refused() {
    let registry = RealRegistry::start();
    let repository = format!("{}/acme/sandboxes", registry.host);
    let here = TestStore::new();
    let snapshot = Snapshot::make(&here, "0123abcd", b"first");
    push(&here, &repository, &snapshot).unwrap();
    let refused = |wanted: Wanted<'_>| {
        let there = TestStore::new();
        let error = with_causes(&pull(&there, &repository, wanted).unwrap_err());
        assert_eq!(there.leftovers(), Vec::<PathBuf>::new());
        (error, layers(&there))
    };

    // Other layers than the lock's, and those of the lock over another image: known before any is fetched.
    let (content, other) = (snapshot.content(), Snapshot::make(&here, "0123abcd", b"second").content());
    let (error, stored) = refused(snapshot.wanted(&other));
    assert_eq!(error, format!("the snapshot there is {content}, and not {other} as it should be"));
    assert_eq!(stored, 0);
    let (error, stored) = refused(Wanted { below: &[], ..snapshot.wanted(&content) });
    assert!(error.starts_with("the snapshot there is"), "{error}");
    assert_eq!(stored, 0);

    // The right manifest, and other bytes under the digest of a layer.
    let [blob] = blobs(&registry.directory.path().join("storage")).try_into().unwrap();
    let good = fs::read(&blob).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&blob, bad).unwrap();
    let (error, stored) = refused(snapshot.wanted(&content));
    assert!(error.contains("the copy at the source is damaged"), "{error}");
    assert!(stored < 2);
    fs::write(&blob, good).unwrap();

    // A directory that would hide one of the workspace.
    let mut hides = Snapshot::make(&here, "1111", b"first");
    hides.shared.steps[1].setup_directories = vec!["src".to_owned()];
    push(&here, &repository, &hides).unwrap();
    let (error, _) = refused(hides.wanted(&content));
    assert!(error.ends_with("no step has made a directory `src`"), "{error}");
    hides.shared.inputs = "2222".to_owned();
    hides.shared.steps[1].setup_directories = vec!["node_modules/../../etc".to_owned()];
    push(&here, &repository, &hides).unwrap();
    let (error, _) = refused(hides.wanted(&content));
    assert!(error.ends_with("is no directory in a workspace"), "{error}");

    // An image under the name of a snapshot.
    let layout = tempfile::tempdir().unwrap();
    TestImage::new(&[(tar_of(&[("a", b"x")]), Packing::Gzip)]).write_layout(layout.path());
    let from = format!("oci:{}:latest", layout.path().display());
    run(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{repository}:lock-3333")],
    );
    let (error, _) = refused(Wanted { inputs: "3333", ..snapshot.wanted(&content) });
    assert!(error.contains("its type is application/vnd.oci.image.config.v1+json"), "{error}");
}

#[test]
fn a_registry_that_wants_to_know_who_pushes_is_told() {
    let registry = RealRegistry::start_secure();
    let repository = format!("{}/acme/sandboxes", registry.host);
    let mut test = TestStore::new();
    test.mirrors(&format!("{0}=https://{0}", registry.host));
    test.options.extra_ca_files = vec![registry.directory.path().join("ca.crt")];
    let snapshot = Snapshot::make(&test, "0123", b"first");
    let error = with_causes(&push(&test, &repository, &snapshot).unwrap_err());
    assert!(error.contains(&format!("log in with `docker login {}`", registry.host)), "{error}");
    let config = registry.directory.path().join("config.json");
    // base64 of ann:secret
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOnNlY3JldA=="}}}}}}"#, registry.host);
    fs::write(&config, text).unwrap();
    test.options.credential_files = vec![config];
    push(&test, &repository, &snapshot).unwrap();
    let content = snapshot.content();
    assert_eq!(pull(&test, &repository, snapshot.wanted(&content)).unwrap(), Some(snapshot.shared.clone()));

    test.options.network.attempts = 1;
    let error = with_causes(&push(&test, "127.0.0.1:9/acme/sandboxes", &snapshot).unwrap_err());
    assert!(error.contains("cannot connect"), "{error}");
}
