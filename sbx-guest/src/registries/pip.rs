//! pip and uv: what their configuration says, or else the index that the installed pip has in its own files.

use super::Search;
use super::ini::entries;
use super::location::Location;

const CLIENT: &str = "pip";

/// The file of pip's own in which its default index is written.
const DEFAULT: &str = "pip/_internal/models/index.py";

/// Where packages of the distribution's and of the image's own Python are, below which each version has a directory.
const LIBRARIES: [&str; 4] = ["usr/lib", "usr/lib64", "usr/local/lib", "opt/venv/lib"];

pub(super) fn find(search: &mut Search<'_>) {
    let mut replaced = false;
    for variable in ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"] {
        replaced |= search.add_variable(CLIENT, variable);
    }
    for variable in ["PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX"] {
        search.add_variable(CLIENT, variable);
    }
    let mut files: Vec<String> =
        ["etc/pip.conf", "etc/xdg/pip/pip.conf", "usr/pip.conf", "usr/local/pip.conf"]
            .map(str::to_owned)
            .to_vec();
    for home in &search.homes {
        files.extend([".config/pip/pip.conf", ".pip/pip.conf"].map(|file| format!("{home}/{file}")));
    }
    for path in files {
        let Some(text) = search.image.read(&path) else { continue };
        let (urls, replaces) = configured(&text);
        replaced |= replaces;
        for url in urls {
            search.add(CLIENT, &format!("/{path}"), &url);
        }
    }
    if !replaced {
        add_default(search);
    }
}

/// The URLs of a configuration file, and whether it replaces the default index.
fn configured(text: &str) -> (Vec<String>, bool) {
    let entries = entries(text);
    let replaces = entries.iter().any(|entry| entry.key == "index-url");
    let wanted = entries
        .iter()
        .filter(|entry| matches!(entry.key.as_str(), "index-url" | "extra-index-url" | "find-links"));
    let urls = wanted.flat_map(|entry| entry.value.split_whitespace()).map(str::to_owned).collect();
    (urls, replaces)
}

fn add_default(search: &mut Search<'_>) {
    let mut places = vec!["usr/lib/python3/dist-packages".to_owned()];
    for library in LIBRARIES {
        let pythons = search.image.names(library).into_iter().filter(|name| name.starts_with("python3."));
        for python in pythons {
            places
                .extend(["site-packages", "dist-packages"].map(|kind| format!("{library}/{python}/{kind}")));
        }
    }
    for place in places {
        let path = format!("{place}/{DEFAULT}");
        let Some(text) = search.image.read(&path) else { continue };
        for location in default_index(&text) {
            search.add_location(CLIENT, &format!("/{path}"), location);
        }
    }
}

/// What `PyPI = PackageIndex("https://…", file_storage_domain="…")` names.
fn default_index(text: &str) -> Vec<Location> {
    let Some((_, call)) = text.split_once("\nPyPI = PackageIndex(") else { return Vec::new() };
    let call = call.split(')').next().unwrap_or_default();
    // Every other piece between quotation marks is a string.
    let strings = call.split(['"', '\'']).skip(1).step_by(2);
    strings.filter_map(|text| Location::parse(text).or_else(|| Location::https(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_index_is_read_from_pips_own_file() {
        let text = "class PackageIndex:\n    pass\n\n\nPyPI = PackageIndex(\n    'https://index.example.org/', file_storage_domain='files.example.org'\n)\n\
            TestPyPI = PackageIndex(\n    \"https://test.example.org/\", file_storage_domain=\"test-files.example.org\"\n)\n";
        let hosts: Vec<_> = default_index(text).into_iter().map(|location| location.host).collect();
        assert_eq!(hosts, ["index.example.org", "files.example.org"]);
        assert!(default_index("PyPI = None").is_empty());
    }

    #[test]
    fn configuration_adds_and_replaces() {
        let text = "[global]\nindex-url = https://user:secret@pypi.example.org/simple\n[install]\n\
            extra-index-url =\n    https://a.example.org/simple\n    https://b.example.org/simple\n";
        let (urls, replaces) = configured(text);
        assert_eq!(
            urls,
            [
                "https://user:secret@pypi.example.org/simple",
                "https://a.example.org/simple",
                "https://b.example.org/simple"
            ]
        );
        assert!(replaces);
        assert!(!configured("[global]\nextra-index-url = https://a.example.org/simple\n").1);
    }
}
