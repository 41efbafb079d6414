//! A registry for npm: documents of packages, and their archives.
//!
//! ```text
//! NAME/index.json              all versions ("package metadata" of npm's registry)
//! NAME/-/VERSION.tgz
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::{archive, write};

/// The registry.
#[derive(Debug)]
pub struct NpmRegistry {
    directory: PathBuf,
    url: String,
}

impl NpmRegistry {
    /// A registry in `directory`, which is served at `url`.
    #[must_use]
    pub fn new(directory: &Path, url: &str) -> Self {
        Self { directory: directory.to_path_buf(), url: url.to_owned() }
    }

    /// Publishes a package, or another archive under a version that there is: its `package.json`, and its other files.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn publish(&self, manifest: &Value, files: &[(&str, &str)]) {
        let [name, version] = ["name", "version"].map(|key| manifest[key].as_str().unwrap());
        let text = manifest.to_string();
        let files = files.iter().map(|(name, content)| (format!("package/{name}"), content.as_bytes()));
        let files: Vec<_> = files.chain([("package/package.json".to_owned(), text.as_bytes())]).collect();
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), 0o644, *content)).collect();
        let archive = archive(&files);
        write(&self.directory.join(format!("{name}/-/{version}.tgz")), &archive);
        let integrity = format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(&archive)));
        let mut entry = manifest.clone();
        entry["dist"] =
            json!({ "integrity": integrity, "tarball": format!("{}/{name}/-/{version}.tgz", self.url) });
        let scripts = &manifest["scripts"];
        if !scripts["install"].is_null() || !scripts["postinstall"].is_null() {
            entry["hasInstallScript"] = true.into();
        }
        let mut document = self.document(name);
        document["name"] = name.into();
        document["versions"][version] = entry;
        document["dist-tags"]["latest"] = version.into();
        self.set_document(name, &document);
    }

    /// Takes a version away; the newest is then `latest`.
    ///
    /// # Panics
    /// If there is no other.
    pub fn withdraw(&self, name: &str, version: &str, latest: &str) {
        let mut document = self.document(name);
        document["versions"].as_object_mut().unwrap().remove(version).unwrap();
        document["dist-tags"]["latest"] = latest.into();
        self.set_document(name, &document);
        fs::remove_file(self.directory.join(format!("{name}/-/{version}.tgz"))).unwrap();
    }

    fn document(&self, name: &str) -> Value {
        let text = fs::read(self.directory.join(name).join("index.json"));
        text.map_or_else(|_| json!({}), |text| serde_json::from_slice(&text).unwrap())
    }

    fn set_document(&self, name: &str, document: &Value) {
        write(&self.directory.join(name).join("index.json"), document.to_string());
    }
}
