//! Whole images, made by hand.

use super::*;

/// An image of these files.
fn image(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

/// `client source host:port` of each.
fn found(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Vec<String> {
    let root = image(files);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    let found = find(root.path(), b"/home/agent", &environment);
    let line = |registry: Registry| {
        format!("{} {} {}:{}", registry.client, registry.source, registry.host, registry.port)
    };
    found.into_iter().map(line).collect()
}

#[test]
fn every_client_is_asked() {
    let files = [
        ("etc/apt/sources.list", "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main\n"),
        ("etc/apt/mirrors/debian.list", "https://deb.example.org/debian\tpriority:1\n"),
        ("etc/apt/sources.list.d/x.sources", "Types: deb\nURIs: http://x.example.org/\nSuites: y\n"),
        ("etc/apk/repositories", "https://apk.example.org/main\nhttps://apk.example.org/community\n"),
        ("etc/yum.repos.d/base.repo", "[base]\nbaseurl=https://rpm$region.example.org/$releasever/\n"),
        ("etc/dnf/vars/region", "-eu\n"),
        (
            "usr/local/lib/python3.12/site-packages/pip/_internal/models/index.py",
            "\nPyPI = PackageIndex(\"https://pip.example.org/\", file_storage_domain=\"files.example.org\")\n",
        ),
        (
            "usr/local/lib/node_modules/npm/node_modules/npm-registry-fetch/lib/default-opts.js",
            "  registry: 'https://npm.example.org/',\n",
        ),
        ("home/agent/.npmrc", "@corp:registry=http://corp.example.org/\n"),
        ("usr/bin/cargo", "\u{0}sparse+https://index.example.org/\u{0}"),
        ("usr/local/go/go.env", "GOPROXY=https://go.example.org,direct\nGOSUMDB=sum.example.org\n"),
    ];
    assert_eq!(
        found(&files, &[]),
        [
            "apt /etc/apt/mirrors/debian.list deb.example.org:443",
            "apt /etc/apt/sources.list.d/x.sources x.example.org:80",
            "apk /etc/apk/repositories apk.example.org:443",
            "dnf /etc/yum.repos.d/base.repo rpm-eu.example.org:443",
            "pip /usr/local/lib/python3.12/site-packages/pip/_internal/models/index.py pip.example.org:443",
            "pip /usr/local/lib/python3.12/site-packages/pip/_internal/models/index.py files.example.org:443",
            "npm /home/agent/.npmrc corp.example.org:80",
            "npm /usr/local/lib/node_modules/npm/node_modules/npm-registry-fetch/lib/default-opts.js npm.example.org:443",
            "cargo /usr/bin/cargo index.example.org:443",
            "go /usr/local/go/go.env go.example.org:443",
            "go /usr/local/go/go.env sum.example.org:443",
        ]
    );
}

#[test]
fn configuration_takes_the_place_of_defaults() {
    let files = [
        (
            "usr/lib/python3/dist-packages/pip/_internal/models/index.py",
            "\nPyPI = PackageIndex(\"https://pip.example.org/\")\n",
        ),
        (
            "usr/share/nodejs/npm-registry-fetch/lib/default-opts.js",
            "registry: 'https://npm.example.org/',\n",
        ),
        ("home/agent/.npmrc", "registry=https://mirror.example.org/npm/\n"),
        (
            "cargo/config.toml",
            "[source.crates-io]\nreplace-with = 'm'\n[source.m]\nregistry = 'sparse+https://mirror.example.org/c/'\n",
        ),
        ("usr/bin/cargo", "sparse+https://index.example.org/"),
    ];
    let environment = [("PIP_INDEX_URL", "https://mirror.example.org/simple"), ("CARGO_HOME", "/cargo")];
    assert_eq!(
        found(&files, &environment),
        [
            "pip PIP_INDEX_URL mirror.example.org:443",
            "npm /home/agent/.npmrc mirror.example.org:443",
            "cargo /cargo/config.toml mirror.example.org:443",
        ]
    );
}

#[test]
fn debians_npm_has_what_it_needs_below_its_own_directory() {
    let path = "usr/share/nodejs/npm/node_modules/npm-registry-fetch/lib/default-opts.js";
    let seen = found(&[(path, "registry: 'https://npm.example.org/',\n")], &[]);
    assert_eq!(seen, [format!("npm /{path} npm.example.org:443")]);
}

#[test]
fn an_image_that_names_too_many_hosts_is_cut_off() {
    let lines: String = (0..10_000).map(|number| format!("https://h{number}.example.org/\n")).collect();
    assert_eq!(found(&[("etc/apk/repositories", &lines)], &[]).len(), MAX_REGISTRIES);
}
