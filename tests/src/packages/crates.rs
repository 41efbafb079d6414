//! A sparse index for cargo ("Registry Index" of cargo's documentation), and archives.
//!
//! ```text
//! index/config.json
//! index/ti/ny/tiny             a line of JSON for each version
//! crates/tiny-1.0.0.crate
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{archive, sha256, write};

/// The registry.
#[derive(Debug)]
pub struct CrateRegistry {
    directory: PathBuf,
}

impl CrateRegistry {
    /// A registry in `directory`, which is served at `url`.
    ///
    /// # Panics
    /// If the disk does not take it.
    #[must_use]
    pub fn new(directory: &Path, url: &str) -> Self {
        let config = json!({ "dl": format!("{url}/crates/{{crate}}-{{version}}.crate") });
        write(&directory.join("index/config.json"), config.to_string());
        Self { directory: directory.to_path_buf() }
    }

    /// Publishes a package without dependencies, or with one, or another archive under a version that there is. Files are named
    /// below the directory of the package. Returns the sha256 of the archive.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn publish(
        &self,
        name: &str,
        version: &str,
        needs: Option<(&str, &str)>,
        files: &[(&str, &str)],
    ) -> String {
        let dependencies = needs
            .map(|(name, version)| format!("[dependencies]\n{name} = \"{version}\"\n"))
            .unwrap_or_default();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{dependencies}"
        );
        let base = format!("{name}-{version}");
        let files = files.iter().map(|(file, content)| (format!("{base}/{file}"), content.as_bytes()));
        let files: Vec<_> = files.chain([(format!("{base}/Cargo.toml"), manifest.as_bytes())]).collect();
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), 0o644, *content)).collect();
        let archive = archive(&files);
        let checksum = sha256(&archive);
        write(&self.directory.join("crates").join(format!("{base}.crate")), archive);
        let needs: Vec<_> = needs
            .iter()
            .map(|(name, version)| {
                json!({
                    "name": name, "req": format!("^{version}"), "features": [], "optional": false,
                    "default_features": true, "target": null, "kind": "normal",
                })
            })
            .collect();
        let line = json!({
            "name": name, "vers": version, "deps": needs, "cksum": checksum, "features": {}, "yanked": false,
        });
        let path = self.index(name);
        let earlier = fs::read_to_string(&path).unwrap_or_default();
        let other = |line: &&str| !line.contains(&format!("\"vers\":\"{version}\""));
        let lines: Vec<String> =
            earlier.lines().filter(other).map(str::to_owned).chain([line.to_string()]).collect();
        write(&path, lines.join("\n") + "\n");
        checksum
    }

    /// Takes a package away with all its versions.
    ///
    /// # Panics
    /// If there is none.
    pub fn withdraw(&self, name: &str) {
        fs::remove_file(self.index(name)).unwrap();
    }

    /// Names here have four letters or more.
    fn index(&self, name: &str) -> PathBuf {
        self.directory.join("index").join(&name[..2]).join(&name[2..4]).join(name)
    }
}
