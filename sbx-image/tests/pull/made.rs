//! Layers that machines wrote: what enters them, that they are the same wherever they are made, and how long they stay.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sbx_image::dump;
use sbx_image::layer::Limits;
use sbx_image::normalisation::{Action, Rule, Workspace};
use sbx_image::store::{AddedLayer, PruneOptions, StepRecord, snapshot_content};
use sbx_image::{Digest, Normalisation, Store};
use tar::{EntryType, Header};

use crate::image::{TestImage, noise};
use crate::server::Server;
use crate::{TestStore, with_causes};

/// When the image of these tests was made.
pub(crate) const EPOCH: i64 = 1_700_000_000;

const HOME: &str = "SBX_TEST_MADE_HOME";

/// The tar of a machine.
#[derive(Default)]
pub(crate) struct Written {
    bytes: Vec<u8>,
}

impl Written {
    fn entry(mut self, kind: EntryType, path: &str, content: &[u8], later_seconds: i64) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        let executable = kind == EntryType::Directory || path.contains("bin/");
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(u64::try_from(EPOCH + later_seconds).unwrap());
        header.set_size(0);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name(std::str::from_utf8(content).unwrap()).unwrap();
        } else {
            header.set_size(content.len() as u64);
        }
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        if header.size().unwrap() > 0 {
            self.bytes.extend_from_slice(content);
            self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        }
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, content, 1000)
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, b"", 1000)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn add(store: &Store, tar: &[u8], normalisation: &Normalisation) -> AddedLayer {
    store.add_layer(&mut &*tar, normalisation, &Limits::default()).unwrap()
}

fn layer_of(store: &Store, diff_id: &Digest) -> std::path::PathBuf {
    store.home().join("layers/v1/sha256").join(diff_id.hex())
}

/// What is in the layer: kind, owner, time and path of each name.
fn names(store: &Store, diff_id: &Digest) -> Vec<String> {
    let text = dump::layer(&layer_of(store, diff_id)).unwrap();
    text.lines().skip(2).map(|line| line.split(": ").next().unwrap().to_owned()).collect()
}

#[test]
fn what_a_machine_has_for_itself_does_not_enter() {
    let test = TestStore::new();
    let tar = Written::default()
        .directory("etc/")
        .file("etc/hosts", b"127.0.0.1 localhost")
        .file("etc/machine-id", b"0123")
        .entry(EntryType::Regular, "etc/older", b"kept as it is", -5)
        .file("etc/motd", b"new")
        .entry(EntryType::Symlink, "usr/local/bin/sudo", b"/run/sbx/bin/sudo", 0)
        .directory("var/log/postgresql/")
        .file("var/log/postgresql/log", b"started")
        .directory("tmp/")
        .file("tmp/x", b"x")
        .directory("home/agent/.cache/")
        .file("home/agent/.cache/pip/wheel", b"w")
        .directory("home/other/.cache/")
        .file("home/other/.cache/x", b"x")
        .file("var/cache/apt/.wh.archives", b"")
        .file("usr/share/.wh.gone", b"")
        .end();
    let mut normalisation = Normalisation::new(EPOCH);
    normalisation.rules.insert(0, Rule::new(Action::Keep, "/home/other/.cache").unwrap());
    let added = add(&test.store, &tar, &normalisation);
    assert_eq!(added.setup_directories, [] as [String; 0]);
    assert_eq!(
        names(&test.store, &added.diff_id),
        [
            "d 0755 1000:1000 @1700000000 /etc",
            "- 0644 1000:1000 @1700000000 /etc/motd",
            "- 0644 1000:1000 @1699999995 /etc/older",
            "d 0755 0:0 @0 /home (implicit)",
            "d 0755 0:0 @0 /home/other (implicit)",
            "d 0755 1000:1000 @1700000000 /home/other/.cache",
            "- 0644 1000:1000 @1700000000 /home/other/.cache/x",
            "d 0755 0:0 @0 /usr (implicit)",
            "d 0755 0:0 @0 /usr/share (implicit)",
            "w /usr/share/gone",
            "d 0755 0:0 @0 /var (implicit)",
            "d 0755 0:0 @0 /var/log (implicit)",
            "d 0755 1000:1000 @1700000000 /var/log/postgresql",
        ]
    );
    test.assert_sound();
}

#[test]
fn order_times_and_logs_make_no_difference() {
    let (one, two) = (TestStore::new(), TestStore::new());
    let large = noise(300_000, 5);
    let first = Written::default()
        .directory("opt/")
        .file("opt/b", &large)
        .file("opt/a", &noise(5000, 1))
        .entry(EntryType::Link, "opt/z", b"opt/b", 0)
        .file("var/log/x", b"at noon")
        .end();
    let second = Written::default()
        .file("tmp/rubbish", &noise(100_000, 9))
        .entry(EntryType::Regular, "opt/z", &large, 77)
        .entry(EntryType::Regular, "opt/a", &noise(5000, 1), 12_345)
        .entry(EntryType::Directory, "opt/", b"", 9)
        .entry(EntryType::Link, "opt/b", b"opt/z", 0)
        .end();
    let normalisation = Normalisation::new(EPOCH);
    let (first, second) = (add(&one.store, &first, &normalisation), add(&two.store, &second, &normalisation));
    assert_eq!(first, second);
    for file in ["data", "tree", "layer.json"] {
        let read = |test: &TestStore| fs::read(layer_of(&test.store, &first.diff_id).join(file)).unwrap();
        assert!(read(&one) == read(&two), "{file}");
    }
    let again = add(&one.store, &[], &normalisation);
    assert_ne!(again.diff_id, first.diff_id, "nothing was written, and that is a layer as well");
}

#[test]
fn of_the_workspace_new_directories_enter_alone() {
    let test = TestStore::new();
    let tar = Written::default()
        .directory("workspace/")
        .file("workspace/package.json", b"copied")
        .file("workspace/made", b"a single file")
        .directory("workspace/node_modules/")
        .file("workspace/node_modules/a/index.js", b"x")
        .directory("workspace/packages/")
        .directory("workspace/packages/a/")
        .file("workspace/packages/a/package.json", b"copied")
        .directory("workspace/packages/a/node_modules/")
        .directory("workspace/src/")
        .directory("workspace/src/__pycache__/")
        .file("workspace/src/__pycache__/m.pyc", b"x")
        .file("workspace/.wh.target", b"")
        .file("tmp/x", b"x")
        .end();
    let directories: BTreeSet<Vec<u8>> = ["packages", "packages/a", "src"].map(|path| path.into()).into();
    let workspace = Workspace { name: "workspace".to_owned(), directories, owner: (1000, 1000) };
    let normalisation = Normalisation { workspace: Some(workspace), ..Normalisation::new(EPOCH) };
    let added = add(&test.store, &tar, &normalisation);
    assert_eq!(added.setup_directories, ["node_modules", "packages/a/node_modules"]);
    assert_eq!(
        names(&test.store, &added.diff_id),
        [
            "d 0755 1000:1000 @1700000000 /workspace",
            "d 0755 1000:1000 @1700000000 /workspace/node_modules",
            "d 0755 0:0 @0 /workspace/node_modules/a (implicit)",
            "- 0644 1000:1000 @1700000000 /workspace/node_modules/a/index.js",
            "d 0755 1000:1000 @1700000000 /workspace/packages",
            "d 0755 1000:1000 @1700000000 /workspace/packages/a",
            "d 0755 1000:1000 @1700000000 /workspace/packages/a/node_modules",
            "w /workspace/target",
        ]
    );
    let many =
        (0..513).fold(Written::default(), |tar, number| tar.directory(&format!("workspace/new-{number}/")));
    let error = test.store.add_layer(&mut &*many.end(), &normalisation, &Limits::default()).unwrap_err();
    assert!(error.to_string().starts_with("more than 512 directories"), "{error}");
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_as_it_was_below_does_not_enter() {
    let test = TestStore::new();
    let large = noise(300_000, 5);
    let older = |tar: Written, path: &str, content: &[u8]| tar.entry(EntryType::Regular, path, content, -50);
    let base = Written::default().entry(EntryType::Directory, "etc/", b"", -50);
    let base = older(older(base, "etc/small", b"small"), "etc/large", &large);
    let base = older(older(base, "etc/edited", &large), "etc/linked", b"linked");
    let base = older(base.entry(EntryType::Directory, "opt/", b"", -50), "opt/gone", b"x").end();
    let base = add(&test.store, &base, &Normalisation::new(EPOCH)).diff_id;
    let mut edited = large.clone();
    edited[299_999] ^= 1;
    let tar = Written::default()
        .directory("etc/")
        .file("etc/small", b"small")
        .file("etc/large", &large)
        .file("etc/edited", &edited)
        .file("etc/linked", b"linked")
        .entry(EntryType::Link, "etc/second", b"etc/linked", 0)
        .directory("opt/")
        .file("opt/.wh.never", b"")
        .directory("srv/")
        .file("srv/.wh..wh..opq", b"")
        .end();
    let normalisation = Normalisation { below: vec![base.clone()], ..Normalisation::new(EPOCH) };
    let added = add(&test.store, &tar, &normalisation);
    assert_eq!(
        names(&test.store, &added.diff_id),
        [
            "d 0755 1000:1000 @1700000000 /etc",
            "- 0644 1000:1000 @1700000000 /etc/edited",
            "- 0644 1000:1000 @1700000000 /etc/linked",
            "h /etc/second = /etc/linked",
            "d 0755 1000:1000 @1700000000 /srv",
        ]
    );
    // What only was looked at, owned as it was, and hidden makes nothing; what hides something stays.
    let nothing = Written::default().directory("etc/").file("etc/small", b"small").directory("opt/").end();
    let empty = add(&test.store, &Written::default().end(), &normalisation);
    assert_eq!(add(&test.store, &nothing, &normalisation), empty);
    let hides = Written::default().directory("opt/").file("opt/.wh..wh..opq", b"").end();
    assert_eq!(
        names(&test.store, &add(&test.store, &hides, &normalisation).diff_id),
        ["d 0755 1000:1000 @1700000000 /opt (opaque)"]
    );
    let missing = Normalisation { below: vec![Digest::sha256(b"no layer")], ..Normalisation::new(EPOCH) };
    assert!(test.store.add_layer(&mut &*hides, &missing, &Limits::default()).is_err());
}

#[test]
fn a_layer_written_out_and_put_elsewhere_is_the_same() {
    let (here, there) = (TestStore::new(), TestStore::new());
    let tar = Written::default().file("usr/bin/tool", &noise(100_000, 3)).file("etc/x", b"x").end();
    let added = add(&here.store, &tar, &Normalisation::new(EPOCH));
    let mut tar = Vec::new();
    here.store.write_layer_tar(&added.diff_id, &mut tar).unwrap();
    assert_eq!(Digest::sha256(&tar), added.diff_id);
    assert_eq!(added.bytes, tar.len() as u64);
    there.store.put_layer(&mut tar.as_slice(), &added.diff_id, &Limits::default()).unwrap();
    let layers = [added.diff_id.clone()];
    let (one, two) = (here.store.snapshot_of(&layers).unwrap(), there.store.snapshot_of(&layers).unwrap());
    assert_eq!((&one.digest, &one.content), (&two.digest, &two.content));
    assert_eq!(one.content, snapshot_content(&layers));
    assert!(one.content.starts_with("blake3:") && one.content.len() == 71);
    // Another layer's bytes are not taken for it.
    let wrong = Digest::sha256(b"something else");
    let error = there.store.put_layer(&mut tar.as_slice(), &wrong, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("has the digest"), "{error}");
    assert_eq!(there.leftovers(), Vec::<std::path::PathBuf>::new());
    there.assert_sound();
}

/// A tar that breaks off, as that of a machine that died does.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the guest is gone"));
        }
        self.0.read(buffer)
    }
}

#[test]
fn half_of_what_was_written_is_no_layer() {
    let test = TestStore::new();
    let tar = Written::default().file("usr/bin/tool", &noise(100_000, 3)).end();
    for length in [0, 100, 512, 50_000, tar.len() - 1024, tar.len()] {
        let error = test
            .store
            .add_layer(&mut Broken(&tar[..length]), &Normalisation::new(EPOCH), &Limits::default())
            .unwrap_err();
        assert!(with_causes(&error).contains("the guest is gone"), "{length}: {}", with_causes(&error));
    }
    let endless = io::repeat(0);
    let error = test.store.add_layer(&mut { endless }, &Normalisation::new(EPOCH), &Limits::default());
    assert!(error.unwrap_err().to_string().contains("follow the end"));
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
    assert!(test.store.usage().unwrap().buckets.iter().all(|bucket| bucket.objects == 0));
}

#[test]
fn limits_hold_for_what_machines_write() {
    let test = TestStore::new();
    let tar = Written::default().file("large", &noise(100_000, 3)).end();
    let limits = Limits { file_bytes: 50_000, ..Limits::default() };
    let error = test.store.add_layer(&mut &*tar, &Normalisation::new(EPOCH), &limits).unwrap_err();
    assert!(with_causes(&error).contains("large"), "{}", with_causes(&error));
}

/// Not a test: what [`a_process_that_is_killed_leaves_a_sound_store`] kills.
#[test]
fn add_layers_for_another_test() {
    let Ok(home) = std::env::var(HOME) else { return };
    let store = Store::open(Path::new(&home)).unwrap();
    for seed in 0.. {
        let tar = Written::default().file("a", &noise(3_000_000, seed)).end();
        let added = add(&store, &tar, &Normalisation::new(EPOCH));
        let record = StepRecord { layer: added.diff_id, below: Vec::new(), setup_directories: Vec::new() };
        store.record_step(&format!("{seed:x}"), &record).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_sound_store() {
    let test = TestStore::new();
    for run in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "made::add_layers_for_another_test", "--nocapture"])
            .env(HOME, test.store.home())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(80 + run * 33));
        child.kill().unwrap();
        child.wait().unwrap();
        test.assert_sound();
    }
    for seed in 0..2_u64 {
        if let Some(record) = test.store.step(&format!("{seed:x}")).unwrap() {
            test.store.snapshot_of(&record.stack()).unwrap();
        }
    }
    // The next one clears away what they left.
    add(&test.store, &Written::default().end(), &Normalisation::new(EPOCH));
    assert_eq!(test.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn keys_of_steps_are_no_paths() {
    let test = TestStore::new();
    let added = add(&test.store, &Written::default().end(), &Normalisation::new(EPOCH));
    let record =
        StepRecord { layer: added.diff_id, below: Vec::new(), setup_directories: vec!["d".to_owned()] };
    for key in ["", "../x", "a/b", "ABC", "a.json", &"a".repeat(200)] {
        assert!(test.store.record_step(key, &record).is_err(), "{key}");
        assert_eq!(test.store.step(key).unwrap(), None, "{key}");
    }
    test.store.record_step("00ff", &record).unwrap();
    assert_eq!(test.store.step("00ff").unwrap(), Some(record));
    assert_eq!(test.store.step("00fe").unwrap(), None);
}

#[test]
fn provisioned_layers_stay_as_long_as_they_can_be_of_use() {
    let image = TestImage::of_bytes(1000);
    let server = Server::new(&image);
    let test = TestStore::new();
    let base = test.pull(&server.reference()).unwrap();
    let base: Vec<Digest> = base.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let normalisation = Normalisation::new(EPOCH);
    let step = |key: &str, below: &[Digest], content: &str| {
        let layer = add(&test.store, &Written::default().file("x", content.as_bytes()).end(), &normalisation);
        let record =
            StepRecord { layer: layer.diff_id, below: below.to_vec(), setup_directories: Vec::new() };
        test.store.record_step(key, &record).unwrap();
        record.stack()
    };
    let packages = step("a1", &base, "packages");
    let old = step("a2", &packages, "setup, as it was");
    let new = step("a3", &packages, "setup, as it is");
    let foreign = step("a4", &[Digest::sha256(b"an image that is not here")], "elsewhere");
    let used = test.store.snapshot_of(&new).unwrap();
    test.store.snapshot_of(&old).unwrap();

    // As long as the image is there, all that was made on it is.
    let pruned = test.store.prune(&PruneOptions::default()).unwrap();
    assert_eq!((pruned.steps, pruned.layers, pruned.snapshots), (1, 1, 0));
    assert!(!layer_of(&test.store, foreign.last().unwrap()).exists());
    for key in ["a1", "a2", "a3"] {
        assert!(test.store.step(key).unwrap().is_some(), "{key}");
    }
    // With --all, what a sandbox stands on.
    let options = PruneOptions { in_use: vec![used.key.clone()], all: true };
    let pruned = test.store.prune(&options).unwrap();
    assert_eq!((pruned.steps, pruned.layers, pruned.snapshots), (1, 1, 1), "{pruned:?}");
    assert_eq!(pruned.images, [] as [String; 0], "the sandbox stands on it");
    assert!(test.store.step("a2").unwrap().is_none() && test.store.step("a1").unwrap().is_some());
    assert!(test.store.snapshot_of(&new).unwrap().reused);
    test.assert_sound();
    // And nothing when there is none.
    let pruned = test.store.prune(&PruneOptions { in_use: Vec::new(), all: true }).unwrap();
    assert_eq!((pruned.steps, pruned.layers, pruned.images.len()), (2, 3, 1), "{pruned:?}");
    assert!(test.store.usage().unwrap().buckets.iter().all(|bucket| bucket.objects == 0));
}

#[test]
fn a_program_is_found_as_a_shell_finds_it() {
    let test = TestStore::new();
    let link =
        |written: Written, path, target: &str| written.entry(EntryType::Symlink, path, target.as_bytes(), 0);
    let below =
        Written::default().file("usr/bin/tool", b"x").file("usr/bin/gone", b"x").file("opt/notes", b"x");
    let below = link(link(below, "bin", "usr/bin"), "usr/local", "../opt/./local");
    let below = link(link(below, "usr/bin/round", "about"), "usr/bin/about", "/bin/round");
    let above = Written::default().file("usr/bin/.wh.gone", b"").file("opt/local/bin/real.js", b"x");
    let above = link(above, "opt/local/bin/npm", "../../../../opt/local/bin/real.js");
    let layers: Vec<Digest> = [below.end(), above.directory("usr/bin/directory/").end()]
        .iter()
        .map(|tar| add(&test.store, tar, &Normalisation::new(EPOCH)).diff_id)
        .collect();
    let has = |layers: &[Digest], directory, name| {
        test.store.has_program(layers, &["/nowhere", directory, "relative"], name).unwrap()
    };
    for (directory, name) in [("/usr/bin", "tool"), ("/bin/", "tool"), ("/usr/local/bin", "npm")] {
        assert!(has(&layers, directory, name), "{directory} {name}");
    }
    for (directory, name) in [
        ("/bin", "gone"),
        ("/bin", "round"),
        ("/bin", "directory"),
        ("/opt", "notes"),
        ("/", ".."),
        ("/usr/bin/tool", "x"),
    ] {
        assert!(!has(&layers, directory, name), "{directory} {name}");
    }
    assert!(has(&layers[..1], "/bin", "gone"));
    assert!(test.store.has_program(&[layer_of_nobody()], &["/bin"], "tool").is_err());
}

/// The digest of a layer that nobody has.
fn layer_of_nobody() -> Digest {
    format!("sha256:{}", "0".repeat(64)).parse().unwrap()
}
