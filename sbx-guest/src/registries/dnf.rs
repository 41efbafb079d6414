//! dnf, yum and zypper: `*.repo` (dnf.conf(5)).

use super::Search;
use super::ini::entries;

const CLIENT: &str = "dnf";

/// Keys of a repository that lead to its packages. Of the last two the answer names mirrors, which nobody knows here.
const KEYS: [&str; 3] = ["baseurl", "mirrorlist", "metalink"];

pub(super) fn find(search: &mut Search<'_>) {
    let directories = ["etc/yum.repos.d", "etc/distro.repos.d", "usr/share/dnf5/repos.d", "etc/zypp/repos.d"];
    for directory in directories {
        for path in search.image.files(directory, ".repo") {
            search.add_file(CLIENT, &path, repositories);
        }
    }
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
