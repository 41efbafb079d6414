//! apt, pip and npm, each with one package in a registry of the test's own.

use std::{fs, path::Path, process::Command};

use sbx_tests::Environment;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Site, refused};

#[test]
fn apt_and_pip_install_from_registries_that_are_allowed() {
    let site = Site::new();
    apt(&site.pages());
    pip(&site.pages());
    let env = site.sandbox("allow \"good.example\" port=80\nallow \"good.example\" port=443");
    let expected = "hello from apt\n\
        hello from pip\n\
        Could not resolve 'evil.example'\n\
        No matching distribution found for hello\n";
    check(&site, &env, APT_AND_PIP, expected);
}

#[test]
fn npm_installs_from_a_registry_that_is_allowed() {
    let site = Site::new();
    npm(&site.pages());
    let env = site.sandbox("allow \"good.example\" port=443");
    check(&site, &env, NPM, "hello from npm\nnpm ERR! code ENOTFOUND\n");
}

#[track_caller]
fn check(site: &Site, env: &Environment, script: &str, expected: &str) {
    let outcome = site.up(env, script);
    assert_eq!(outcome.stdout(), expected, "{outcome:?}\n{}", site.web.said());
    assert_eq!(refused(env), ["evil.example".to_owned()].into());
    assert!(!site.web.said().contains("evil.example"), "{}", site.web.said());
}

const APT_AND_PIP: &str = r#"
cd ~
by_apt() {
    echo "deb [trusted=yes] http://$1/apt ./" | sudo tee /etc/apt/sources.list > /dev/null
    sudo apt-get -q update && sudo apt-get -q -y install hello && hello
}
by_pip() {
    pip install -q --disable-pip-version-check --retries 0 --target "python-$1" --index-url "https://$1/simple" hello &&
        PYTHONPATH="python-$1" python3 -m hello
}
for host in good evil; do
    for client in apt pip; do by_$client $host.example > $client-$host 2>&1 & done
    wait
done
tail -q -n 1 apt-good pip-good
grep -o "Could not resolve .*'" apt-evil | head -n 1
grep -o "No matching distribution .*" pip-evil
cat apt-good pip-good apt-evil pip-evil >&2
"#;

/// Both at once, for under emulation npm takes ten seconds to start.
const NPM: &str = r#"
cd ~
by_npm() {
    mkdir $1 && cd $1 && echo "{}" > package.json &&
        npm install --no-audit --no-fund --fetch-retries 0 --registry "https://$1/npm/" hello && node -e 'require("hello")'
}
by_npm good.example > good 2>&1 &
by_npm evil.example > evil 2>&1 &
wait
tail -n 1 good
grep "npm ERR! code" evil
cat good evil >&2
"#;

fn run(directory: &Path, words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A repository in which everything lies in one directory (sources.list(5)), with a package of one program.
fn apt(pages: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let root = pages.join("apt/root");
    let control = "Package: hello\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@good.example>\n\
        Description: says hello\n";
    write(&root.join("DEBIAN/control"), control);
    let program = root.join("usr/bin/hello");
    write(&program, "#!/bin/sh\necho hello from apt\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    run(&pages.join("apt"), &["dpkg-deb", "--root-owner-group", "--build", "root", "hello.deb"]);
    let package = fs::read(pages.join("apt/hello.deb")).unwrap();
    let digest: String = Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    let place = format!("Filename: ./hello.deb\nSize: {}\nSHA256: {digest}\n", package.len());
    write(&pages.join("apt/Packages"), &format!("{control}{place}"));
}

/// An index (PEP 503: a page of links for each project, here a directory that the web server lists) with a wheel.
fn pip(pages: &Path) {
    let project = pages.join("simple/hello");
    write(&project.join("hello.py"), "print('hello from pip')\n");
    let about = project.join("hello-1.0.dist-info");
    write(&about.join("METADATA"), "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n");
    write(&about.join("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
    let files = "hello.py,,\nhello-1.0.dist-info/METADATA,,\nhello-1.0.dist-info/WHEEL,,\n";
    write(&about.join("RECORD"), &format!("{files}hello-1.0.dist-info/RECORD,,\n"));
    let zip =
        ["python3", "-m", "zipfile", "-c", "hello-1.0-py3-none-any.whl", "hello.py", "hello-1.0.dist-info"];
    run(&project, &zip);
}

/// A registry: a document that names the versions of the package, and the package.
fn npm(pages: &Path) {
    let registry = pages.join("npm");
    write(&registry.join("package/package.json"), r#"{ "name": "hello", "version": "1.0.0" }"#);
    write(&registry.join("package/index.js"), "console.log('hello from npm')\n");
    run(&registry, &["tar", "-czf", "hello-1.0.0.tgz", "package"]);
    let tarball = "https://good.example/npm/hello-1.0.0.tgz";
    let version = json!({ "name": "hello", "version": "1.0.0", "dist": { "tarball": tarball } });
    let document =
        json!({ "name": "hello", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version } });
    write(&registry.join("hello"), &document.to_string());
}
