//! Agents: what they are installed with, and Kiro from a server of the test's own.

use std::{fs, path::Path};

use sbx_tests::{
    Environment, ImageBuilder, Lan,
    lan::Service,
    packages::{DebianPackage, DebianRepository, NpmRegistry, archive},
};
use serde_json::{Value, json};

use super::site::layout;

/// The agents that sbx knows how to install.
const AGENTS: [&str; 7] = ["claude", "codex", "copilot", "gemini", "kiro", "opencode", "qwen"];

/// An address on a network of the test's own.
const ADDRESS: &str = "192.0.1.8";

/// The version of an agent in a lock.
pub(super) fn version<'l>(lock: &'l str, agent: &str) -> &'l str {
    let start = format!("agent \"{agent}\" \"");
    let rest = lock.lines().find_map(|line| line.strip_prefix(&start));
    rest.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no {start} in {lock}"))
}

/// Refused at a line of the manifest, and nothing was done before.
fn assert_refused(env: &Environment, error: &str, advice: &str) {
    let refused = env.sbx(&["lock", "--yes"]).exits(125).stderr_has(error).stderr_has(advice);
    assert!(!env.home().join("provision/logs").exists(), "a step was begun: {refused:?}");
}

#[test]
fn what_nothing_can_install_is_refused_at_its_line_before_anything_boots() {
    let image = "`image \"docker.io/library/node:22-bookworm\"`";
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl").replace("agent \"shell\"", "agent \"claude\"");
    assert_refused(&env.manifest(&manifest), "sandbox.kdl:1: agent claude: the image has no npm", image);

    let env = Environment::new().with_debian();
    let manifest =
        format!("{}packages {{\n    apt \"git\"\n    npm \"typescript\"\n}}\n", env.read("sandbox.kdl"));
    let env = env.manifest(&manifest);
    assert_refused(
        &env,
        "sandbox.kdl:6: packages npm: the image has no npm",
        "add `packages { apt \"npm\"; }`",
    );
}

/// A network of a test's own, in which a directory is served.
fn serve(directory: &Path) -> Lan {
    let lan = Lan::new(&[ADDRESS]);
    lan.serve(&format!("{ADDRESS}:80"), Service::Files(directory.to_path_buf()));
    lan
}

#[test]
fn npm_is_lent_to_an_agent_whose_image_has_none_and_is_not_in_the_snapshot() {
    let files = tempfile::tempdir().unwrap();
    let url = format!("http://{ADDRESS}");
    let acme = json!({ "name": "acme", "version": "2.0.0", "bin": "acme.js" });
    NpmRegistry::new(files.path(), &url)
        .publish(&acme, &[("acme.js", "#!/usr/bin/env node\nconsole.log('acme', process.argv[2]);\n")]);
    DebianRepository::new(&files.path().join("debian")).publish(&DebianPackage {
        name: "npm",
        version: "99",
        files: &[("/usr/bin/npm", "#!/bin/sh\nexec node /usr/share/nodejs/npm/bin/npm-cli.js \"$@\"\n")],
        postinst: "chmod 755 /usr/bin/npm",
        ..DebianPackage::default()
    });
    let env = Environment::new().on_lan(&serve(files.path()));
    // npm without its command, and without dpkg knowing what else it has.
    let image = ImageBuilder::over(layout("SBX_TEST_CLIENTS"))
        .file("usr/bin/.wh.npm", 0o644, b"")
        .file("var/lib/dpkg/info/npm.list", 0o644, b"/.\n")
        .file("etc/apt/sources.list", 0o644, DebianRepository::source(&format!("{url}/debian")).as_bytes())
        .file("etc/npmrc", 0o644, format!("registry={url}/\n").as_bytes());
    let image = env.image("image", image);
    let env = env.manifest(&format!(
        "agent \"acme\" {{\n    install npm=\"acme\"\n    node \">=18\"\n    command \"acme\"\n}}\nimage \"{image}\"\n\
         resources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n"
    ));
    let locked = env.sbx(&["lock", "--yes"]).success().stderr_has("apt npm for acme");
    let lock = env.read("sandbox.lock");
    assert!(!lock.contains("apt \""), "{lock}");
    assert_eq!(version(&lock, "acme"), "2.0.0", "{locked:?}");
    let up = ["up", "--yes", "--locked", "--", "hello"];
    assert_eq!(env.sbx(&up).text(), "acme hello");
    env.sbx(&["up", "-d", "--locked", "--agent", "shell"]).success();
    assert_eq!(env.exec("command -v npm || echo none").text(), "none");
}

/// An archive with what Kiro's has: three programs that call each other, an installer that nobody runs, and a text.
fn kiro(version: &str) -> Vec<u8> {
    let main = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo kiro-cli {version}; else exec kiro-cli-\"$@\"; fi\n"
    );
    let part = "#!/bin/sh\necho \"${0##*/} $*\"\n";
    archive(&[
        ("kirocli/README", 0o644, b"Kiro CLI\n"),
        ("kirocli/install.sh", 0o755, b"#!/bin/sh\nexit 1\n"),
        ("kirocli/bin/kiro-cli", 0o755, main.as_bytes()),
        ("kirocli/bin/kiro-cli-chat", 0o755, part.as_bytes()),
        ("kirocli/bin/kiro-cli-term", 0o755, part.as_bytes()),
    ])
}

#[test]
fn kiro_is_downloaded_from_its_vendor_and_started_as_its_definition_says() {
    let files = tempfile::tempdir().unwrap();
    for directory in ["latest", "2.3.0"] {
        fs::create_dir(files.path().join(directory)).unwrap();
    }
    let file = "2.3.0/kirocli-x86_64-linux.tar.gz";
    fs::write(files.path().join(file), kiro("2.3.0")).unwrap();
    let package = json!({ "os": "linux", "architecture": "x86_64", "fileType": "tarGz", "download": file });
    let latest = json!({ "version": "2.3.0", "packages": [package] });
    fs::write(files.path().join("latest/manifest.json"), latest.to_string()).unwrap();

    // The definition that sbx has, with another host.
    let env = Environment::new().on_lan(&serve(files.path()));
    let ours = env.sbx(&["agent", "show", "kiro", "--kdl"]).text();
    let (host, _) = ours.split_once("/{version}/").expect("an address with the version");
    let host = host.rsplit('"').next().unwrap();
    let agents = env.outside().join(".config/sbx/agents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("kiro.kdl"), ours.replace(host, &format!("http://{ADDRESS}"))).unwrap();

    // A second one, which comes before it by its name and after it in the file.
    let acme = archive(&[("acme/bin/acme", 0o755, b"#!/bin/sh\necho acme \"$@\"\n")]);
    fs::write(files.path().join("acme-1.0.tar.gz"), acme).unwrap();
    fs::write(files.path().join("acme.json"), r#"{"version": "1.0"}"#).unwrap();
    let acme = format!(
        "agent \"acme\" {{\n    install url=\"http://{ADDRESS}/acme-{{version}}.tar.gz\" latest=\"http://{ADDRESS}/acme.json\" \
         archive=\"tar.gz\" {{\n        program \"acme\" path=\"acme/bin/acme\"\n    }}\n    command \"acme\"\n}}\n"
    );

    let image = env.image("debian", ImageBuilder::over(layout("SBX_TEST_IMAGES")));
    let env = env.manifest(&format!(
        "agent \"kiro\"\n{acme}image \"{image}\"\nresources cpus=2 memory=\"1GiB\" disk=\"4GiB\"\n\
         network {{ allow \"{ADDRESS}/32\"; }}\n"
    ));
    env.sbx(&["lock", "--yes"]).success();
    let lock = env.read("sandbox.lock");
    assert_eq!(version(&lock, "kiro"), "2.3.0");
    assert!(lock.contains(&format!("http://{ADDRESS}/{file}")), "{lock}");
    let up = ["up", "--yes", "--locked", "--", "hello"];
    assert_eq!(env.sbx(&up).text(), "kiro-cli-chat --trust-all-tools hello");
    // Which of them is started does not change the machine.
    let other = env.sbx(&["up", "--yes", "--locked", "--agent", "acme", "--", "hello"]).success();
    assert!(!other.stderr.contains("installing"), "{other:?}");
    assert_eq!(other.text(), "acme hello");
    env.sbx(&["up", "-d", "--locked"]).success();
    assert_eq!(env.exec("kiro-cli --version; kiro-cli term x").text(), "kiro-cli 2.3.0\nkiro-cli-term x");
}

#[test]
fn the_documentation_says_what_the_definitions_say() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agents.md");
    let document = fs::read_to_string(document).unwrap();
    let env = Environment::new();
    for agent in AGENTS {
        let rows: String =
            document.lines().filter(|line| line.starts_with(&format!("| `{agent}` "))).collect();
        let shown = env.sbx(&["agent", "show", agent, "--json"]).text();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let words = |key: &str| {
            let list = shown[key].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let secrets = shown["secrets"].as_array().into_iter().flatten();
        let mut facts: Vec<String> =
            secrets.map(|secret| secret["name"].as_str().unwrap().to_owned()).collect();
        facts.extend(words("hosts").into_iter().chain(words("config")));
        facts.push(words("command")[1..].join(" "));
        facts.push(words("version_command").join(" "));
        for fact in facts {
            assert!(rows.contains(&format!("`{fact}`")), "{fact} of {agent}: {rows}");
        }
    }
}
