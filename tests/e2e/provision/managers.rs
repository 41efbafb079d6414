//! npm, pip, cargo and vendors' downloads, each with a registry of the test's own.

use std::fs;

use sbx_tests::{
    Environment, ImageBuilder,
    lan::Disturbance,
    packages::{CrateRegistry, NpmRegistry, PythonIndex, archive},
};
use serde_json::json;

use super::site::{ADDRESS, Site, assert_same_elsewhere, layout, snapshot};

fn clients() -> ImageBuilder {
    ImageBuilder::over(layout("SBX_TEST_CLIENTS"))
}

/// The same lock on another computer, where a connection ends in the middle of `file`, fails at its line and needs `left` after
/// that, and gives the same snapshot.
fn assert_same_after_a_cut(site: &Site, first: &Environment, second: &Environment, file: &str, left: &str) {
    second.write("sandbox.lock", first.read("sandbox.lock"));
    site.lan.disturb(file, Disturbance::Cut(100));
    let up = ["up", "--yes", "--locked", "--", "true"];
    second.sbx(&up).exits(125).stderr_has("sandbox.kdl:4: packages ").stderr_has(": the download failed");
    site.lan.mend();
    second.sbx(&up).success().stderr_has(&format!("downloading {left}"));
    assert_eq!(snapshot(first), snapshot(second));
}

#[test]
fn npm_packages_are_pinned_with_what_they_need_and_checked_before_they_run() {
    let site = Site::new();
    let registry = NpmRegistry::new(site.directory(), &Site::url());
    let platform = |name: &str, os: &str| json!({ "name": name, "version": "1.0.0", "os": [os] });
    registry.publish(&platform("@acme/linux", "linux"), &[("index.js", "module.exports = 'linux';\n")]);
    registry.publish(&platform("@acme/mac", "darwin"), &[("index.js", "module.exports = 'mac';\n")]);
    registry.publish(
        &json!({ "name": "@acme/greet", "version": "1.1.0" }),
        &[("index.js", "module.exports = 'hello';\n")],
    );
    registry.publish(
        &json!({
            "name": "acme", "version": "2.0.0", "bin": { "acme": "bin/acme.js" },
            "scripts": { "postinstall": "node build.js" },
            "dependencies": { "@acme/greet": "^1.0.0" },
            "optionalDependencies": { "@acme/linux": "1.0.0", "@acme/mac": "1.0.0" },
        }),
        &[
            (
                "bin/acme.js",
                "#!/usr/bin/env node\nconsole.log(require('@acme/greet'), require('../built'));\n",
            ),
            (
                "build.js",
                "require('fs').writeFileSync('built.js', `module.exports = '${require('@acme/linux')}';`);\n",
            ),
        ],
    );
    let npmrc = format!("registry={}/\nfetch-retries=0\n", Site::url());
    let image = site.image(clients().file("etc/npmrc", 0o644, npmrc.as_bytes()));
    let packages = "packages { npm \"acme@2\"; }";

    let env = site.checkout(&image, packages);
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    for part in ["node_modules/acme", "node_modules/@acme/greet", "node_modules/@acme/linux", "sha512-"] {
        assert!(lock.contains(part), "no {part} in {lock}");
    }
    assert!(!lock.contains("@acme/mac"), "{lock}");
    // A newer one of what it needs is not taken.
    registry.publish(
        &json!({ "name": "@acme/greet", "version": "1.2.0" }),
        &[("index.js", "module.exports = 'new';\n")],
    );
    let up = ["up", "--yes", "--locked", "--", "acme"];
    assert_eq!(env.sbx(&up).success().stdout(), "hello linux\n");
    let elsewhere = site.checkout_elsewhere(&image, packages);
    // npm ends as soon as one fails, whatever of the others has arrived.
    assert_same_after_a_cut(&site, &env, &elsewhere, "/greet/-/1.1.0.tgz", "");

    // Another archive under the same version, which would run at once.
    let hostile = json!({ "name": "@acme/greet", "version": "1.1.0", "scripts": { "postinstall": "echo hostile >&2" } });
    registry.publish(&hostile, &[]);
    let env = site.checkout(&image, packages);
    env.write("sandbox.lock", &lock);
    let refused = env.sbx(&up).exits(125).stderr_has("@acme/greet@1.1.0 is not what was pinned");
    assert!(!refused.stderr.contains("hostile"), "{refused:?}");

    registry.withdraw("@acme/greet", "1.1.0", "1.2.0");
    env.sbx(&up).exits(125).stderr_has("the registries have no @acme/greet 1.1.0 any more");
}

#[test]
fn a_package_of_npm_that_is_at_two_places_is_installed_at_both() {
    let site = Site::new();
    let registry = NpmRegistry::new(site.directory(), &Site::url());
    for version in ["1.0.0", "2.0.0"] {
        registry.publish(
            &json!({ "name": "word", "version": version }),
            &[("index.js", &format!("module.exports = '{version}';\n"))],
        );
    }
    for name in ["left", "right"] {
        let package = json!({ "name": name, "version": "1.0.0", "dependencies": { "word": "1.0.0" } });
        registry.publish(&package, &[("index.js", "module.exports = require('word');\n")]);
    }
    registry.publish(
        &json!({
            "name": "acme", "version": "1.0.0", "bin": { "acme": "acme.js" },
            "dependencies": { "left": "1.0.0", "right": "1.0.0", "word": "2.0.0" },
        }),
        &[("acme.js", "#!/usr/bin/env node\nconsole.log(...['left', 'right', 'word'].map(require));\n")],
    );
    let npmrc = format!("registry={}/\n", Site::url());
    let image = site.image(clients().file("etc/npmrc", 0o644, npmrc.as_bytes()));
    let env = site.checkout(&image, "packages { npm \"acme\"; npm \"word@2\"; }");
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    assert!(lock.contains("left/node_modules/word") && lock.contains("right/node_modules/word"), "{lock}");
    assert_eq!(env.sbx(&["up", "--locked", "--", "acme"]).text(), "1.0.0 1.0.0 2.0.0");
}

#[test]
fn wheels_are_pinned_with_what_they_need_and_checked_before_they_are_installed() {
    let site = Site::new();
    let index = PythonIndex::new(site.directory());
    index.publish("greet", "1.1.0", &[], "WORD = 'hello'\n");
    index.publish("acme", "2.0.0", &["greet>=1"], "import greet\ndef main(): print(greet.WORD)\n");
    index.publish_source("sourceonly", "1.0.0");
    let config = format!("[global]\nindex-url = {}/simple/\ntrusted-host = {ADDRESS}\n", Site::url());
    let image = site.image(clients().file("etc/pip.conf", 0o644, config.as_bytes()));
    let packages = "packages { pip \"acme>=2,<3\"; }";

    let env = site.checkout(&image, packages);
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    index.publish("greet", "1.2.0", &[], "WORD = 'new'\n");
    let up = ["up", "--yes", "--locked", "--", "acme"];
    assert_eq!(env.sbx(&up).success().stdout(), "hello\n");
    let elsewhere = site.checkout_elsewhere(&image, packages);
    // pip keeps nothing of a run that fails.
    assert_same_after_a_cut(&site, &env, &elsewhere, "/greet-1.1.0-py3-none-any.whl", "2 files");

    index.publish("greet", "1.1.0", &[], "WORD = 'hostile'\n");
    let env = site.checkout(&image, packages);
    env.write("sandbox.lock", &lock);
    env.sbx(&up).exits(125).stderr_has("greet");
    index.withdraw("greet", "1.1.0");
    env.sbx(&up).exits(125).stderr_has("the registries have no greet 1.1.0 any more");

    let env = site.checkout(&image, "packages { pip \"sourceonly\"; }");
    env.sbx(&["lock", "--yes"]).exits(125).stderr_has("only wheels are taken");
}

#[test]
fn programs_are_built_of_the_packages_of_their_own_lock_file() {
    let site = Site::new();
    let registry = CrateRegistry::new(site.directory(), &Site::url());
    let library = |word: &str| format!("pub const WORD: &str = \"{word}\";\n");
    let checksum = registry.publish("greet", "1.1.0", None, &[("src/lib.rs", &library("hello"))]);
    let lock = format!(
        "version = 3\n\n[[package]]\nname = \"acme\"\nversion = \"2.0.0\"\ndependencies = [\n \"greet\",\n]\n\n\
         [[package]]\nname = \"greet\"\nversion = \"1.1.0\"\n\
         source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{checksum}\"\n"
    );
    let main = "fn main() { println!(\"{}\", greet::WORD); }\n";
    registry.publish("acme", "2.0.0", Some(("greet", "1")), &[("Cargo.lock", &lock), ("src/main.rs", main)]);
    registry.publish("greet", "1.2.0", None, &[("src/lib.rs", &library("new"))]);
    let config = format!(
        "[source.crates-io]\nreplace-with = \"test\"\n[source.test]\nregistry = \"sparse+{}/index/\"\n",
        Site::url()
    );
    let rust = ImageBuilder::over(layout("SBX_TEST_RUST"));
    let image = site.image(rust.file("root/.cargo/config.toml", 0o644, config.as_bytes()));
    let packages = "packages { cargo \"acme\"; }";

    let env = site.checkout(&image, packages);
    env.sbx(&["lock", "--yes"]).success();
    let up = ["up", "--yes", "--locked", "--", "acme"];
    assert_eq!(env.sbx(&up).success().stdout(), "hello\n");
    let elsewhere = site.checkout_elsewhere(&image, packages);
    assert_same_after_a_cut(&site, &env, &elsewhere, "/greet-1.1.0.crate", "1 file");

    registry.publish("greet", "1.1.0", None, &[("src/lib.rs", &library("hostile"))]);
    let other = site.checkout(&image, packages);
    other.write("sandbox.lock", env.read("sandbox.lock"));
    other.sbx(&up).exits(125);
}

#[test]
fn an_agent_of_a_vendor_is_downloaded_with_a_hash() {
    let site = Site::new();
    let publish = |word: &str| {
        let program = format!("#!/bin/sh\necho {word} \"$0\"\n");
        let archive = archive(&[("acme/bin/acme", 0o755, program.as_bytes()), ("acme/README", 0o600, b"x")]);
        let directory = site.directory().join("2.1.0");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("acme-x86_64.tar.gz"), archive).unwrap();
    };
    publish("first");
    fs::write(site.directory().join("latest.json"), r#"{"version": "2.1.0"}"#).unwrap();
    let url = Site::url();
    let agent = format!(
        "agent \"acme\" {{\n    install url=\"{url}/{{version}}/acme-{{architecture}}.tar.gz\" latest=\"{url}/latest.json\" \
         archive=\"tar.gz\" {{\n        program \"acme\" path=\"acme/bin/acme\"\n    }}\n    command \"acme\"\n}}\n\
         network {{ allow \"{ADDRESS}/32\"; }}\n"
    );
    let image = site.image(clients());
    let checkout = || {
        let env = site.checkout(&image, "");
        let rest = env.read("sandbox.kdl").replace("agent \"shell\"\n", "");
        env.manifest(&format!("{agent}{rest}"))
    };

    let env = checkout();
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    assert!(lock.contains(&format!("{url}/2.1.0/acme-x86_64.tar.gz")), "{lock}");
    let up = ["up", "--yes", "--locked"];
    assert_eq!(env.sbx(&up).success().stdout(), "first /usr/local/bin/acme\n");
    assert_same_elsewhere(&env, &checkout());

    publish("hostile");
    let env = checkout();
    env.write("sandbox.lock", &lock);
    let refused = env.sbx(&up).exits(125).stderr_has("refused acme 2.1.0");
    assert!(!refused.stderr.contains("hostile"), "{refused:?}");
}
