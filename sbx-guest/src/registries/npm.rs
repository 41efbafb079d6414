//! npm, and what reads its configuration (pnpm, yarn): `npmrc` files, or else the registry that the installed npm has in its own files.

use super::Search;
use super::ini::entries;

const CLIENT: &str = "npm";

/// The file of npm's own in which its default registry is written.
const DEFAULT: &str = "npm-registry-fetch/lib/default-opts.js";

/// Where npm's own packages are: by its installer, by Node's archives, and by Debian, old and new.
const PACKAGES: [&str; 5] = [
    "usr/lib/node_modules/npm/node_modules",
    "usr/local/lib/node_modules/npm/node_modules",
    "opt/node/lib/node_modules/npm/node_modules",
    "usr/share/nodejs/npm/node_modules",
    "usr/share/nodejs",
];

/// `npmrc` of the installation, of the prefix, and of the system.
const FILES: [&str; 5] = [
    "usr/lib/node_modules/npm/npmrc",
    "usr/local/lib/node_modules/npm/npmrc",
    "usr/etc/npmrc",
    "usr/local/etc/npmrc",
    "etc/npmrc",
];

pub(super) fn find(search: &mut Search<'_>) {
    let mut replaced = false;
    for variable in ["npm_config_registry", "NPM_CONFIG_REGISTRY", "YARN_NPM_REGISTRY_SERVER"] {
        replaced |= search.add_variable(CLIENT, variable);
    }
    let homes = search.homes.iter().map(|home| format!("{home}/.npmrc"));
    let files: Vec<String> = FILES.map(str::to_owned).into_iter().chain(homes).collect();
    for path in files {
        let Some(text) = search.image.read(&path) else { continue };
        for (url, scoped) in registries(&text) {
            replaced |= !scoped;
            search.add(CLIENT, &format!("/{path}"), &url);
        }
    }
    if !replaced {
        for packages in PACKAGES {
            search.add_file(CLIENT, &format!("{packages}/{DEFAULT}"), default_registry);
        }
    }
}

/// `registry=` and `@scope:registry=`, and whether it is of a scope.
fn registries(text: &str) -> Vec<(String, bool)> {
    let registry = |entry: super::ini::Entry| {
        let scoped = entry.key.starts_with('@') && entry.key.ends_with(":registry");
        (scoped || entry.key == "registry").then_some((entry.value, scoped))
    };
    entries(text).into_iter().filter_map(registry).collect()
}

/// `registry: 'https://…'`.
fn default_registry(text: &str) -> Vec<String> {
    let quoted =
        |line: &str| line.trim().strip_prefix("registry:")?.split(['"', '\'']).nth(1).map(str::to_owned);
    text.lines().filter_map(quoted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_all_and_of_scopes() {
        let text = "; from the company\nregistry=https://npm.example.org/\n@corp:registry = \"https://corp.example.org/npm/\"\n\
            //npm.example.org/:_authToken=${TOKEN}\nstrict-ssl=true\n";
        assert_eq!(
            registries(text),
            [
                ("https://npm.example.org/".to_owned(), false),
                ("https://corp.example.org/npm/".to_owned(), true)
            ]
        );
    }

    #[test]
    fn the_default_registry_is_read_from_npms_own_file() {
        let text = "const pkg = require('../package.json')\nmodule.exports = {\n  maxSockets: 12,\n  method: 'GET',\n  \
            registry: 'https://registry.example.org/',\n  timeout: 5 * 60 * 1000, // 5 minutes\n}\n";
        assert_eq!(default_registry(text), ["https://registry.example.org/"]);
    }
}
