//! cargo: `config.toml`, or else the index that the installed cargo has in itself; and where an index that the image
//! has asked before says that crates are.

use std::io::Read;

use memchr::memmem;

use super::Search;
use super::location::Location;

const CLIENT: &str = "cargo";

/// How the default index is written in the program.
const SPARSE: &[u8] = b"sparse+https://";

/// Bytes of the program that are looked at; it has about 40 MiB.
const MAX_PROGRAM_BYTES: u64 = 128 << 20;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What a URL may have behind [`SPARSE`] until its path begins.
const MAX_AUTHORITY_BYTES: usize = 256;

/// Tables of the configuration that name indexes.
const TABLES: [&str; 3] = ["source", "registries", "registry"];

pub(super) fn find(search: &mut Search<'_>) {
    let home = search.directory("CARGO_HOME", "usr/local/cargo");
    let mut directories = vec![home];
    directories.extend(search.homes.iter().map(|home| format!("{home}/.cargo")));
    let mut replaced = false;
    for directory in &directories {
        for file in ["config.toml", "config"] {
            let path = format!("{directory}/{file}");
            let Some(text) = search.image.read(&path) else { continue };
            let (urls, replaces) = configured(&text);
            replaced |= replaces;
            for url in urls {
                search.add(CLIENT, &format!("/{path}"), &url);
            }
        }
        let indexes = format!("{directory}/registry/index");
        for index in search.image.names(&indexes) {
            search.add_file(CLIENT, &format!("{indexes}/{index}/config.json"), downloads);
        }
    }
    let variables: Vec<String> = search
        .environment
        .iter()
        .filter_map(|(name, _)| std::str::from_utf8(name).ok())
        .filter(|name| name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX"))
        .map(str::to_owned)
        .collect();
    for name in variables {
        search.add_variable(CLIENT, &name);
    }
    if !replaced {
        add_default(search);
    }
}

/// The URLs of a configuration file, and whether it replaces the default index.
fn configured(text: &str) -> (Vec<String>, bool) {
    let (mut urls, mut replaces) = (Vec::new(), false);
    let mut table = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            name.split(']').next().unwrap_or_default().trim().clone_into(&mut table);
            continue;
        }
        let key = if table.is_empty() { line } else { table.as_str() };
        let first = key.split(['.', '=', ' ']).next().unwrap_or_default();
        if !TABLES.contains(&first) {
            continue;
        }
        // Every other piece between quotation marks is a string.
        let strings = line.split(['"', '\'']).skip(1).step_by(2);
        urls.extend(strings.filter(|text| text.contains("://")).map(str::to_owned));
        let of_default = key.contains("crates-io") || line.contains("crates-io");
        replaces |= of_default && line.contains("replace-with");
    }
    (urls, replaces)
}

/// `"dl": "https://…"` of an index's `config.json`; the path in it may hold markers.
fn downloads(text: &str) -> Vec<String> {
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("\"{key}\""))?;
        let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        rest.split('"').next().map(str::to_owned)
    };
    value("dl").into_iter().collect()
}

/// Looks into the installed cargo, rustup's or the distribution's.
fn add_default(search: &mut Search<'_>) {
    let rustup = search.directory("RUSTUP_HOME", "usr/local/rustup");
    let mut toolchains = vec![format!("{rustup}/toolchains")];
    toolchains.extend(search.homes.iter().map(|home| format!("{home}/.rustup/toolchains")));
    let mut programs: Vec<String> = Vec::new();
    for directory in toolchains {
        let names = search.image.names(&directory);
        programs.extend(names.into_iter().map(|name| format!("{directory}/{name}/bin/cargo")));
    }
    programs.extend(["usr/bin/cargo", "usr/local/bin/cargo"].map(str::to_owned));
    // They all have the same; the first that tells is enough.
    for path in programs {
        let Some(file) = search.image.file(&path) else { continue };
        if let Some(location) = index_in(file) {
            return search.add_location(CLIENT, &format!("/{path}"), location);
        }
    }
}

/// The first URL of a sparse index in a program.
fn index_in(program: impl Read) -> Option<Location> {
    let mut program = program.take(MAX_PROGRAM_BYTES);
    let mut held = Vec::new();
    loop {
        let before = held.len();
        let count = program.by_ref().take(u64::try_from(PIECE_BYTES).ok()?).read_to_end(&mut held).ok()?;
        if let Some(location) = memmem::find_iter(&held, SPARSE).find_map(|at| authority(held.get(at..)?)) {
            return Some(location);
        }
        if count == 0 {
            return None;
        }
        // What began at the end of this piece is looked at again with the next.
        let keep = SPARSE.len().saturating_add(MAX_AUTHORITY_BYTES);
        held.drain(..before.saturating_add(count).saturating_sub(keep));
    }
}

/// A host in front of a path. Strings lie side by side in a program, and this one also ends without a host.
fn authority(bytes: &[u8]) -> Option<Location> {
    let rest = bytes.strip_prefix(SPARSE)?;
    let rest = rest.get(..rest.len().min(MAX_AUTHORITY_BYTES))?;
    let end = rest.iter().position(|byte| *byte == b'/')?;
    let host = std::str::from_utf8(rest.get(..end)?).ok()?;
    Location::https(host).filter(|location| location.host.contains('.') && !location.host.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_indexes_and_replaces_the_default() {
        let text = "[source.crates-io]\nreplace-with = \"mirror\"\n\n[source.mirror]\nregistry = \"sparse+https://mirror.example.org/index/\"\n\n\
            [registries]\ncorp = { index = \"https://git.example.org/index\" }\n[http]\nproxy = \"http://proxy.example.org\"\n";
        let (urls, replaces) = configured(text);
        assert_eq!(urls, ["sparse+https://mirror.example.org/index/", "https://git.example.org/index"]);
        assert!(replaces);
        let dotted = configured("registries.corp.index = \"https://git.example.org/index\"\n");
        assert_eq!(dotted, (vec!["https://git.example.org/index".to_owned()], false));
    }

    #[test]
    fn an_index_says_where_its_crates_are() {
        let text = "{\n  \"dl\": \"https://static.example.org/crates/{crate}/{version}/download\",\n  \"api\": \"https://example.org\"\n}";
        assert_eq!(downloads(text), ["https://static.example.org/crates/{crate}/{version}/download"]);
        assert!(downloads("{}").is_empty());
    }

    #[test]
    fn the_index_is_found_in_the_program_across_pieces() {
        for padding in [0, PIECE_BYTES - 5, PIECE_BYTES + 7] {
            let mut program = b"sparse+https://ints_inheritance/sparse+https://".to_vec();
            program.resize(program.len() + padding, 0);
            program.extend_from_slice(b"VERSIONsparse+https://index.example.org/more");
            let location = index_in(program.as_slice()).unwrap();
            assert_eq!(location.host, "index.example.org", "{padding}");
        }
        assert_eq!(index_in([0_u8; 5000].as_slice()), None);
    }
}
