//! dnf, yum and zypper: `*.repo` (dnf.conf(5)).

use super::Search;
use super::ini::entries;

const CLIENT: &str = "dnf";

/// Keys of a repository that lead to its packages. Of the last two the answer names mirrors, which nobody knows here.
const KEYS: [&str; 3] = ["baseurl", "mirrorlist", "metalink"];

/// Variables that are looked at; images have a handful.
const MAX_VARIABLES: usize = 32;

/// Bytes of a value: it is a part of the name of a host, which has no more.
const MAX_VALUE_BYTES: usize = 253;

/// Bytes of a URL in which variables are replaced, before and afterwards.
const MAX_URL_BYTES: usize = 1024;

/// Where variables are, each in a file of its name (dnf.conf(5), "Repository variables"); of two the second counts.
const VARIABLES: [&str; 3] = ["etc/yum/vars", "usr/share/dnf5/vars.d", "etc/dnf/vars"];

pub(super) fn find(search: &mut Search<'_>) {
    let variables = variables(search);
    let directories = ["etc/yum.repos.d", "etc/distro.repos.d", "usr/share/dnf5/repos.d", "etc/zypp/repos.d"];
    for directory in directories {
        for path in search.image.files(directory, ".repo") {
            search.add_file(CLIENT, &path, |text| {
                let urls = repositories(text).into_iter();
                urls.map(|url| replaced(&url, &variables)).collect()
            });
        }
    }
}

/// Names and values, longer names first: `$a` is not the beginning of `$arch`.
fn variables(search: &Search<'_>) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for path in VARIABLES.iter().flat_map(|directory| search.image.files(directory, "")) {
        let Some(text) = search.image.read(&path) else { continue };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let value = text.lines().next().unwrap_or_default().trim();
        // What is no part of a host's name is of no interest, and with a variable in it there would be no end.
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if value.len() <= MAX_VALUE_BYTES && value.bytes().all(is_of_host) && variables.len() < MAX_VARIABLES
        {
            variables.retain(|(other, _)| *other != name);
            variables.push((name, value.to_owned()));
        }
    }
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    variables
}

/// A URL with its variables replaced, as far as files say them: those of the path, which dnf knows itself, do not matter here.
fn replaced(url: &str, variables: &[(String, String)]) -> String {
    if !url.contains('$') || url.len() > MAX_URL_BYTES {
        return url.to_owned();
    }
    let replaced = variables.iter().fold(url.to_owned(), |url, (name, value)| {
        let url = url.replace(&format!("${{{name}}}"), value);
        url.replace(&format!("${name}"), value)
    });
    if replaced.len() > MAX_URL_BYTES { url.to_owned() } else { replaced }
}

/// The URLs of the repositories that are enabled, which is what they are unless they say otherwise.
fn repositories(text: &str) -> Vec<String> {
    let entries = entries(text);
    let is_disabled = |section: &str| {
        entries.iter().any(|entry| {
            let off = matches!(entry.value.to_ascii_lowercase().as_str(), "0" | "no" | "false" | "off");
            entry.section == section && entry.key == "enabled" && off
        })
    };
    let wanted =
        entries.iter().filter(|entry| KEYS.contains(&entry.key.as_str()) && !is_disabled(&entry.section));
    wanted
        .flat_map(|entry| entry.value.split([' ', '\t', '\n', ',']))
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_by_their_whole_names() {
        let variables = [("region", "-eu"), ("rel", "9"), ("r", "x")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = |text: &str| replaced(text, &variables);
        assert_eq!(
            url("https://yum$region.example.org/$rel/$basearch/"),
            "https://yum-eu.example.org/9/$basearch/"
        );
        assert_eq!(url("https://yum${region}.example.org/"), "https://yum-eu.example.org/");
    }

    #[test]
    fn repositories_that_are_enabled() {
        let text = "[baseos]\nname=BaseOS\nmirrorlist=https://mirrors.example.org/mirrorlist?arch=$basearch&repo=BaseOS-$releasever\n\
            #baseurl=http://dl.example.org/$contentdir/\ngpgcheck=1\nenabled=1\n\n\
            [extras]\nbaseurl = http://a.example.org/x/,\n    http://b.example.org/x/\n\n\
            [fedora]\nmetalink=https://links.example.org/metalink?repo=fedora-$releasever\n\n\
            [debug]\nbaseurl=http://off.example.org/\nenabled=0\n";
        assert_eq!(
            repositories(text),
            [
                "https://mirrors.example.org/mirrorlist?arch=$basearch&repo=BaseOS-$releasever",
                "http://a.example.org/x/",
                "http://b.example.org/x/",
                "https://links.example.org/metalink?repo=fedora-$releasever",
            ]
        );
    }
}
