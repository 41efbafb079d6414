//! Files of a directory, as a web server gives them.

use std::{fs, path::Path};

/// What a request is answered with.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// HTTP's.
    pub(super) status: u16,
    /// What kind of content it is.
    pub(super) kind: &'static str,
    /// The content.
    pub(super) body: Vec<u8>,
}

/// The answer to a request for `path`.
pub(super) fn answer(directory: &Path, path: &str) -> Answer {
    let failure = |status| Answer { status, kind: "text/plain", body: b"there is none\n".to_vec() };
    let path = path.split('?').next().unwrap_or_default();
    // npm quotes the slash behind a scope.
    let path = path.replace("%2f", "/").replace("%2F", "/");
    let parts = path.split('/').filter(|part| !part.is_empty());
    if parts.clone().any(|part| part == "..") {
        return failure(400);
    }
    let place = directory.join(parts.collect::<Vec<_>>().join("/"));
    let candidates = [place.clone(), place.join("index.html"), place.join("index.json")];
    let Some(file) = candidates.iter().find(|candidate| candidate.is_file()) else {
        return failure(404);
    };
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    fs::read(file).map_or_else(|_| failure(500), |body| Answer { status: 200, kind, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_an_index_and_nothing_is_outside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("@a/b")).unwrap();
        fs::write(root.join("@a/b/index.json"), "{}").unwrap();
        fs::write(directory.path().join("secret"), "x").unwrap();
        let found = answer(&root, "/@a%2fb?x");
        assert_eq!(found, Answer { status: 200, kind: "application/json", body: b"{}".to_vec() });
        assert_eq!(answer(&root, "/@a/").status, 404);
        assert_eq!(answer(&root, "/../secret").status, 400);
    }
}
