//! Go: `GOPROXY` and `GOSUMDB`, from the environment or from the `go.env` of the installation.

use super::Search;
use super::ini::entries;
use super::location::Location;

const CLIENT: &str = "go";

/// Where installations keep their defaults.
const FILES: [&str; 3] = ["usr/local/go/go.env", "usr/lib/go/go.env", "usr/share/go/go.env"];

pub(super) fn find(search: &mut Search<'_>) {
    let proxied = search.add_variable(CLIENT, "GOPROXY");
    let checked = search.variable("GOSUMDB").is_some();
    if let Some(host) = search.variable("GOSUMDB").as_deref().and_then(checksums) {
        search.add_location(CLIENT, "GOSUMDB", host);
    }
    let versions = search.image.names("usr/lib").into_iter().filter(|name| name.starts_with("go-"));
    let versions = versions.map(|name| format!("usr/lib/{name}/go.env"));
    let files: Vec<String> = FILES.map(str::to_owned).into_iter().chain(versions).collect();
    for path in files {
        let Some(text) = search.image.read(&path) else { continue };
        for entry in entries(&text) {
            match entry.key.as_str() {
                "goproxy" if !proxied => {
                    for url in entry.value.split([',', '|']) {
                        search.add(CLIENT, &format!("/{path}"), url);
                    }
                }
                "gosumdb" if !checked => {
                    if let Some(host) = checksums(&entry.value) {
                        search.add_location(CLIENT, &format!("/{path}"), host);
                    }
                }
                _ => {}
            }
        }
    }
}

/// `HOST`, `HOST+KEY`, or `HOST+KEY URL`.
fn checksums(value: &str) -> Option<Location> {
    let mut words = value.split_whitespace();
    let name = words.next()?;
    if name == "off" {
        return None;
    }
    match words.next() {
        Some(url) => Location::parse(url),
        None => Location::https(name.split(['+', '/']).next()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_base_of_checksums_is_a_host() {
        let host = |value| checksums(value).map(|location| location.host);
        assert_eq!(host("sum.example.org").as_deref(), Some("sum.example.org"));
        assert_eq!(host("sum.example.org+abc12+Ax").as_deref(), Some("sum.example.org"));
        assert_eq!(
            host("sum.example.org https://mirror.example.org/s").as_deref(),
            Some("mirror.example.org")
        );
        assert_eq!(host("off"), None);
    }
}
