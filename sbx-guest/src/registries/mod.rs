//! Which registries the image's own package clients are set up for.
//!
//! ```text
//! image (read-only, below the overlay) ─▶ Image ─▶ apt, apk, dnf, pip, npm, cargo, go ─▶ Found ─▶ host
//! ```
//! What is read is the image itself, before anything that a command of the sandbox wrote lies over it, and never the workspace:
//! neither can widen what the sandbox may reach. The files are read, nothing is executed, and all of it is bounded,
//! because an image can hold anything.

mod apk;
mod apt;
mod cargo;
mod dnf;
mod go;
mod image;
mod ini;
mod location;
mod npm;
mod pip;

use std::path::Path;

use sbx_proto::Registry;

use self::image::Image;
use self::location::Location;

/// Hosts that are reported; an image has a dozen.
const MAX_REGISTRIES: usize = 256;

/// Home directories in which clients look, relative to the image's root; the agent user's is added.
const ROOT_HOME: &str = "root";

/// What the search is about.
#[derive(Debug)]
struct Search<'s> {
    image: Image,
    /// Home directories whose configuration counts.
    homes: Vec<String>,
    environment: &'s [(Vec<u8>, Vec<u8>)],
    found: Vec<Registry>,
}

/// Looks at the image mounted at `root` for what a user with this `home` and this environment would ask.
pub(crate) fn find(root: &Path, home: &[u8], environment: &[(Vec<u8>, Vec<u8>)]) -> Vec<Registry> {
    let Ok(image) = Image::open(root) else { return Vec::new() };
    let own = std::str::from_utf8(home).unwrap_or_default().trim_matches('/');
    let homes = [own, ROOT_HOME].into_iter().filter(|home| !home.is_empty()).map(str::to_owned).collect();
    let mut search = Search { image, homes, environment, found: Vec::new() };
    for client in [apt::find, apk::find, dnf::find, pip::find, npm::find, cargo::find, go::find] {
        client(&mut search);
    }
    search.found
}

impl Search<'_> {
    /// Notes the host of `url`, which `source` gives to `client`.
    fn add(&mut self, client: &str, source: &str, url: &str) {
        if let Some(location) = Location::parse(url) {
            self.add_location(client, source, location);
        }
    }

    /// Notes a host.
    fn add_location(&mut self, client: &str, source: &str, location: Location) {
        let Location { host, port } = location;
        let registry = Registry { client: client.to_owned(), source: source.to_owned(), host, port };
        if self.found.len() < MAX_REGISTRIES && !self.found.contains(&registry) {
            self.found.push(registry);
        }
    }

    /// Notes every URL that `urls` finds in a file, and tells whether the file is there.
    fn add_file(&mut self, client: &str, path: &str, urls: impl Fn(&str) -> Vec<String>) -> bool {
        let Some(text) = self.image.read(path) else { return false };
        for url in urls(&text) {
            self.add(client, &format!("/{path}"), &url);
        }
        true
    }

    /// A variable, unless it is unset or empty.
    fn variable(&self, name: &str) -> Option<String> {
        let (_, value) = self.environment.iter().find(|(own, _)| own == name.as_bytes())?;
        std::str::from_utf8(value).ok().filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Notes the URLs in a variable, which are separated by blanks or commas; tells whether it is set.
    fn add_variable(&mut self, client: &str, name: &str) -> bool {
        let Some(value) = self.variable(name) else { return false };
        for url in value.split([' ', '\t', '\n', ',', '|']) {
            self.add(client, name, url);
        }
        true
    }

    /// The directory that a variable names, or else `default`; relative to the image's root.
    fn directory(&self, variable: &str, default: &str) -> String {
        self.variable(variable).map_or_else(|| default.to_owned(), |path| path.trim_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests;
