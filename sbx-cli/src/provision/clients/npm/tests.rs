//! What npm is asked, and what is made of its answers.

use super::*;

fn pin(place: &str, version: &str) -> Pin {
    Pin {
        manager: Installer::Package(PackageManager::Npm),
        owner: None,
        name: place.to_owned(),
        version: version.to_owned(),
        architecture: None,
        hash: Hash::Sha512([7; 64]).to_string(),
        url: None,
    }
}

fn file(script: &Script, name: &str) -> Value {
    let (_, content) = script.files.iter().find(|(file, _)| file == name).unwrap();
    serde_json::from_slice(content).unwrap()
}

#[test]
fn what_is_wanted_becomes_a_manifest() {
    let script = Npm::of_machine().resolve(&["typescript@5".to_owned(), "@types/node".to_owned()], &[]);
    let wanted = json!({ "private": true, "dependencies": { "@types/node": "*", "typescript": "5" } });
    assert_eq!(file(&script, "npm-wanted.json"), wanted);
    assert!(script.arguments.is_empty());

    let script = Npm::of_agent("acme", NodeVersion::read("22.1")).resolve(&["@acme/agent".to_owned()], &[]);
    assert_eq!(script.arguments, ["22.1.0"]);
    assert_eq!(file(&script, "npm-wanted-with-node.json")["dependencies"][NODE], "^22.1.0");
    assert!(file(&script, "npm-wanted.json")["dependencies"].get(NODE).is_none());
}

#[test]
fn held_versions_become_a_lock_file_that_every_npm_reads() {
    let held = [
        pin("node_modules/a/node_modules/@s/b", "2.0.0"),
        pin("node_modules/a", "1.0.0"),
        pin("node_modules/c", "npm:real@3.0.0"),
        pin("../../etc/passwd", "1.0.0"),
        pin("node_modules/d", "file:/etc/passwd"),
    ];
    let lock = file(&Npm::of_machine().resolve(&[], &held), "npm-held.json");
    let hash = &held[0].hash;
    let a = json!({
        "version": "1.0.0",
        "integrity": hash,
        "dependencies": { "@s/b": { "version": "2.0.0", "integrity": hash } },
    });
    let c = json!({ "version": "npm:real@3.0.0", "integrity": hash });
    assert_eq!(lock["dependencies"], json!({ "a": a, "c": c }));
    assert!(Npm::of_machine().resolve(&[], &[]).files.iter().all(|(name, _)| name != "npm-held.json"));
}

#[test]
fn packages_are_fetched_by_their_own_names_and_once() {
    let pins = [
        pin("node_modules/a/node_modules/c", "npm:@s/real@3.0.0"),
        pin("node_modules/c", "npm:@s/real@3.0.0"),
        // From a lock that somebody wrote by hand.
        pin("node_modules/--registry=x", "1.0.0"),
        pin("node_modules/e", "1.0.0 x"),
        pin("node_modules/f", "http://example.org/f.tgz"),
    ];
    let digits = "07".repeat(64);
    let script = Npm::of_machine().fetch(&pins);
    assert_eq!(script.files, [("npm-packages".to_owned(), format!("@s/real@3.0.0 {digits}\n").into_bytes())]);
    assert_eq!(Npm::of_machine().file_name(&pins[0]), format!("{digits}.tgz"));
    let wrong = Pin { hash: "sha256:../x".to_owned(), ..pin("node_modules/a", "1.0.0") };
    assert_eq!(Npm::of_machine().file_name(&wrong), ".tgz");
}

#[test]
fn an_agent_gets_its_own_node_only_where_one_was_pinned() {
    let agent = Npm::of_agent("acme", NodeVersion::read("22"));
    let place = Npm::node_place();
    let wanted = ["@acme/agent@2".to_owned()];
    let (package, node) = (pin("node_modules/@acme/agent", "2.0.1"), pin(&place, "22.3.0"));
    let script = agent.install(&wanted, &[package.clone(), node.clone()]);
    let root = "/opt/sbx/agents/acme";
    assert_eq!(script.arguments, [root.to_owned(), agent.file_name(&node), format!("{root}/{place}")]);
    let plan = file(&script, "npm-plan.json");
    let packages = json!([{ "place": package.name, "file": agent.file_name(&package) }]);
    assert_eq!(plan, json!({ "root": root, "wanted": ["@acme/agent"], "node": NODE, "packages": packages }));

    assert_eq!(agent.version(&wanted, &[node, package.clone()]).as_deref(), Some("2.0.1"));
    let script = agent.install(&wanted, &[package]);
    assert_eq!(script.arguments, [root]);
    assert_eq!(file(&script, "npm-plan.json")["node"], Value::Null);
}
