//! The manifest, as the user meets it.

use sbx_tests::Environment;
use serde_json::Value;

#[test]
fn init_writes_a_file_that_passes_its_own_check() {
    let env = Environment::new();
    env.write("Cargo.toml", "[package]\nname = \"x\"\n");
    env.sbx(&["init"]).success();
    env.sbx(&["check"]).success();
    env.sbx(&["init"]).exits(2).stderr_has("sandbox.kdl");
}

#[test]
fn all_faults_come_at_once_with_their_places() {
    let env = Environment::new().manifest(
        "agent \"shell\"\nimgae \"x\"\nresources memory=\"8GB\"\nnetwork \"deny\" {\n    allow \"https://api.github.com\"\n}\n",
    );
    let report = env.sbx(&["check"]).exits(2);
    for part in
        ["sandbox.kdl:2", "sandbox.kdl:3", "sandbox.kdl:5", "help:", "image", "8GiB", "api.github.com"]
    {
        assert!(report.stderr.contains(part), "no `{part}` in {report:?}");
    }
    let json: Value = serde_json::from_str(&env.sbx(&["check", "--json"]).exits(2).stdout()).unwrap();
    assert!(json.to_string().contains("\"line\":5"), "{json}");
}

#[test]
fn the_effective_configuration_can_be_seen() {
    let env = Environment::new().manifest("agent \"shell\"\nimage \"docker.io/library/debian:12\"\n");
    let text = env.sbx(&["check", "--explain"]).success().stdout();
    assert!(text.contains("docker.io/library/debian:12") && text.contains("sandbox.kdl:2"), "{text}");
    assert!(text.contains("default"), "{text}");
}

#[test]
fn what_cannot_be_done_yet_is_refused_at_its_line() {
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl");
    for (node, place) in [
        ("secret \"X\" host=\"example.com\" header=\"x-key\"", "secret"),
        ("docker #true", "docker"),
        ("mcp \"x\" command=\"x\"", "mcp"),
    ] {
        env.write("sandbox.kdl", format!("{manifest}{node}\n"));
        env.sbx(&["check"]).success();
        let refused = env.up("true").exits(2).stderr_has("not possible yet");
        assert!(refused.stderr.contains(place) && refused.stderr.contains("sandbox.kdl:4"), "{refused:?}");
    }
}

#[test]
fn a_repository_without_a_manifest_is_told_how_to_get_one() {
    let env = Environment::new();
    env.up("true").exits(2).stderr_has("sbx init");
}

#[test]
fn hostile_files_are_refused_at_once() {
    let env = Environment::new();
    let bombs = [
        "a /-{\n".repeat(40).into_bytes(),
        "a {".repeat(2000).into_bytes(),
        vec![b'a'; 10 << 20],
        b"image \"\xff\xfe\"".to_vec(),
        b"image \"a\0b\"".to_vec(),
    ];
    for bomb in bombs {
        env.write("sandbox.kdl", &bomb);
        env.sbx(&["check"]).exits(2).stderr_has("sandbox.kdl");
    }
}

#[test]
fn the_examples_and_our_own_manifest_are_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let env = Environment::new();
    let mut manifests = vec![root.join("sandbox.kdl")];
    manifests.extend(
        std::fs::read_dir(root.join("examples"))
            .unwrap()
            .map(|entry| entry.unwrap().path().join("sandbox.kdl")),
    );
    assert!(manifests.len() > 1);
    for manifest in manifests {
        env.write(
            "sandbox.kdl",
            std::fs::read(&manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display())),
        );
        env.sbx(&["check"]).success();
    }
}
