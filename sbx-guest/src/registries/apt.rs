//! apt: `sources.list`, one line each (sources.list(5)), and `*.sources` in paragraphs (deb822).

use super::Search;

const CLIENT: &str = "apt";

/// A list of mirrors in a file of the image, which apt reads line by line (apt-transport-mirror(1)).
const MIRROR_FILE: &str = "mirror+file:";

pub(super) fn find(search: &mut Search<'_>) {
    let mut lists = vec!["etc/apt/sources.list".to_owned()];
    lists.extend(search.image.files("etc/apt/sources.list.d", ".list"));
    for path in lists {
        add(search, &path, one_line);
    }
    for path in search.image.files("etc/apt/sources.list.d", ".sources") {
        add(search, &path, paragraphs);
    }
}

fn add(search: &mut Search<'_>, path: &str, uris: fn(&str) -> Vec<String>) {
    let Some(text) = search.image.read(path) else { return };
    for uri in uris(&text) {
        match uri.strip_prefix(MIRROR_FILE) {
            Some(file) => {
                search.add_file(CLIENT, file.trim_matches('/'), mirrors);
            }
            None => search.add(CLIENT, &format!("/{path}"), &uri),
        }
    }
}

/// `deb [options] URI suite …`.
fn one_line(text: &str) -> Vec<String> {
    let uri = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = ["deb-src", "deb"].iter().find_map(|word| line.strip_prefix(word))?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        rest.split_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(uri).collect()
}

/// Paragraphs with `URIs:`, unless they are `Enabled: no`.
fn paragraphs(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut paragraph = Paragraph::default();
    for line in text.lines() {
        if line.trim().is_empty() {
            found.append(&mut std::mem::take(&mut paragraph).finish());
        } else {
            paragraph.line(line);
        }
    }
    found.append(&mut paragraph.finish());
    found
}

/// A paragraph that is being read.
#[derive(Debug, Default)]
struct Paragraph {
    uris: Vec<String>,
    in_uris: bool,
    disabled: bool,
}

impl Paragraph {
    fn line(&mut self, line: &str) {
        if line.starts_with('#') {
            return;
        }
        let mut value = line;
        if !line.starts_with([' ', '\t']) {
            let Some((key, rest)) = line.split_once(':') else { return };
            self.in_uris = key.trim().eq_ignore_ascii_case("uris");
            if key.trim().eq_ignore_ascii_case("enabled") {
                // apt takes these for false (apt-pkg, StringToBool).
                let value = rest.trim().to_ascii_lowercase();
                self.disabled =
                    matches!(value.as_str(), "no" | "false" | "without" | "off" | "disable" | "0");
            }
            value = rest;
        }
        if self.in_uris {
            self.uris.extend(value.split_whitespace().map(str::to_owned));
        }
    }

    fn finish(self) -> Vec<String> {
        if self.disabled { Vec::new() } else { self.uris }
    }
}

/// A mirror at the beginning of each line, properties behind a tab.
fn mirrors(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_their_uri_behind_options() {
        let text = "# deb http://old.example.org/debian bookworm main\n\
            deb http://deb.example.org/debian bookworm main contrib\n\
            deb-src\t[ arch=amd64 signed-by=/usr/share/keyrings/x.gpg ] https://src.example.org/debian bookworm main # src\n\
            deb [trusted=yes] cdrom:[Debian]/ bookworm main\n\
            debug http://no.example.org/ x\n";
        assert_eq!(
            one_line(text),
            ["http://deb.example.org/debian", "https://src.example.org/debian", "cdrom:[Debian]/"]
        );
    }

    #[test]
    fn paragraphs_name_their_uris_unless_they_are_disabled() {
        let text = "Types: deb\n# http://snapshot.example.org/archive\nURIs: http://deb.example.org/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian.gpg\n\n\
            Types: deb\nuris: https://a.example.org/x\n https://b.example.org/y\nSuites: z\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example.org/debian\n";
        assert_eq!(
            paragraphs(text),
            ["http://deb.example.org/debian", "https://a.example.org/x", "https://b.example.org/y"]
        );
    }
}
