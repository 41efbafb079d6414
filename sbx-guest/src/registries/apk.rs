//! apk: a repository in each line of `repositories` (apk-repositories(5)).

use super::Search;

const CLIENT: &str = "apk";

pub(super) fn find(search: &mut Search<'_>) {
    let mut files = vec!["etc/apk/repositories".to_owned()];
    for directory in ["etc/apk/repositories.d", "lib/apk/repositories.d"] {
        files.extend(search.image.files(directory, ".list"));
    }
    for path in files {
        search.add_file(CLIENT, &path, repositories);
    }
}

/// `URL`, `@tag URL`, or in version 3 `v2 URL` and `set NAME=URL`: what looks like a URL.
fn repositories(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let words = lines.flat_map(str::split_whitespace).filter(|word| word.contains("://"));
    let url = |word: &str| match word.split_once('=') {
        Some((name, value)) if !name.contains("://") => value.to_owned(),
        _ => word.to_owned(),
    };
    words.map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_with_and_without_tags() {
        let text = "https://dl.example.org/alpine/v3.20/main\n@edge http://edge.example.org/main\n\
            #https://off.example.org/x\n/media/cdrom/apks\n\
            set -default mirror=https://mirror.example.org/alpine\nv2 ${mirror}/v3.23/main\n";
        assert_eq!(
            repositories(text),
            [
                "https://dl.example.org/alpine/v3.20/main",
                "http://edge.example.org/main",
                "https://mirror.example.org/alpine"
            ]
        );
    }
}
