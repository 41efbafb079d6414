//! `allow registries=#true`: the image says which, and only the image.

use sbx_tests::{Environment, ImageBuilder, Lan};
use serde_json::Value;

/// Public addresses, on a network of the test's own, where nobody listens at them: what is decided about them is seen.
const NAMED: &str = "192.0.1.8";
const ADDED: &str = "192.0.1.9";

/// Tries to reach an address as a package client would; that nobody answers does not matter.
fn reach(address: &str) -> String {
    format!("busybox timeout 2 busybox nc {address} 80 </dev/null; true")
}

/// What was decided about an address, in order: verdict, and the place of the rule.
fn decisions(env: &Environment, address: &str) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(env.sandbox().join("policy.log")).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about = lines.filter(|line| line["address"] == format!("{address}:80"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    about.map(|line| (text(&line["verdict"]), text(&line["rule"]["place"]))).collect()
}

#[test]
fn the_images_registries_are_reachable_and_nothing_in_the_sandbox_adds_to_them() {
    let lan = Lan::new(&[NAMED, ADDED]);
    let env = Environment::new().on_lan(&lan);
    let sources = format!("Types: deb\nURIs: http://{NAMED}/debian\nSuites: stable\nComponents: main\n");
    let image = ImageBuilder::busybox().directory("etc/apt").directory("etc/apt/sources.list.d").file(
        "etc/apt/sources.list.d/debian.sources",
        0o644,
        sources.as_bytes(),
    );
    let image = env.image("registries", image);
    let env = env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n\
         network {{ allow registries=#true; }}\n"
    ));
    env.write(".npmrc", format!("registry=http://{ADDED}/\n"));

    let widen = format!(
        "echo 'deb http://{ADDED}/ stable main' | sudo busybox tee /etc/apt/sources.list.d/mine.list"
    );
    let script = format!("{}; {}; {widen}", reach(NAMED), reach(ADDED));
    env.sbx(&["up", "--yes", "--", "sh", "-c", &script]).success();
    env.sbx(&["stop"]).success();
    // The second boot finds what the first has written, and does not ask it.
    env.up(&format!("{}; {}", reach(NAMED), reach(ADDED))).success();
    let place = "registries: apt, /etc/apt/sources.list.d/debian.sources";
    let allowed = ("allow".to_owned(), place.to_owned());
    assert_eq!(decisions(&env, NAMED), [allowed.clone(), allowed.clone()]);
    let refused = ("refuse".to_owned(), String::new());
    assert_eq!(decisions(&env, ADDED), [refused.clone(), refused]);

    env.sbx(&["stop"]).success();
    env.sbx(&["reset"]).success();
    env.up(&reach(NAMED)).success();
    assert_eq!(decisions(&env, NAMED).last(), Some(&allowed));
}
