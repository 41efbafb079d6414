//! Small images, made by the test as OCI layouts (image-spec, "image-layout.md").

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// A program that needs no library, from Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// An image with one layer.
#[expect(missing_debug_implementations, reason = "tar::Builder has none")]
pub struct ImageBuilder {
    base: Option<PathBuf>,
    layer: tar::Builder<Vec<u8>>,
    environment: Vec<String>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::scratch()
    }
}

impl ImageBuilder {
    /// An image with nothing in it.
    #[must_use]
    pub fn scratch() -> Self {
        Self { base: None, layer: tar::Builder::new(Vec::new()), environment: Vec::new() }
    }

    /// An image with a layer over those of the only image in an OCI layout.
    #[must_use]
    pub fn over(layout: impl Into<PathBuf>) -> Self {
        Self { base: Some(layout.into()), ..Self::scratch() }
    }

    /// An image with busybox as its shell and all of its applets, the smallest that feels like a system.
    ///
    /// # Panics
    /// If busybox is not installed.
    #[must_use]
    pub fn busybox() -> Self {
        let program = fs::read(BUSYBOX).unwrap_or_else(|error| {
            panic!("{BUSYBOX}: {error}; `apt-get install busybox-static` installs it")
        });
        let mut image = Self::scratch().directory("bin").directory("etc").directory("tmp").file(
            "bin/busybox",
            0o755,
            &program,
        );
        for applet in [
            "sh",
            "ls",
            "cat",
            "echo",
            "id",
            "stat",
            "mkdir",
            "rm",
            "mv",
            "ln",
            "cp",
            "sleep",
            "true",
            "false",
            "test",
            "head",
            "dd",
            "df",
            "mount",
            "umount",
            "hostname",
            "uname",
            "date",
            "touch",
            "chmod",
            "chown",
            "kill",
            "ps",
            "env",
            "pwd",
            "wc",
            "grep",
            "seq",
            "sync",
            "stty",
            "tty",
            "find",
            "readlink",
            "sha256sum",
            "cmp",
            "nproc",
            "free",
            "mkfifo",
            "mknod",
            "truncate",
            "sed",
            "tr",
            "sort",
            "yes",
            "time",
            "printf",
            "trap",
            "which",
            "whoami",
            "timeout",
            "nc",
            "wget",
            "nslookup",
            "ip",
            "ping",
            "ping6",
            "arping",
            "netstat",
            "vconfig",
        ] {
            image = image.symlink(&format!("bin/{applet}"), "busybox");
        }
        image
    }

    /// With a directory.
    ///
    /// # Panics
    /// If the path does not fit into a tar header.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, 0o755, &[], None);
        self
    }

    /// With a file.
    ///
    /// # Panics
    /// If the path does not fit into a tar header.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, mode, content, None);
        self
    }

    /// With a symbolic link.
    ///
    /// # Panics
    /// If the path does not fit into a tar header.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, 0o777, &[], Some(target));
        self
    }

    /// With a variable in the image's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Writes the image as an OCI layout into `directory` and returns how a manifest names it.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn write(self, directory: &Path) -> String {
        let tar = self.layer.into_inner().unwrap();
        let diff_id = format!("sha256:{}", hex(&tar));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let layer = blob(&blobs, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip.finish().unwrap());
        let (mut config, mut layers) = match &self.base {
            Some(base) => copy_base(base, &blobs),
            None => (json!({ "architecture": "amd64", "os": "linux" }), Vec::new()),
        };
        push(&mut config["rootfs"], "diff_ids", [Value::from(diff_id)]);
        config["rootfs"]["type"] = "layers".into();
        push(&mut config["config"], "Env", self.environment.into_iter().map(Value::from));
        layers.push(layer);
        let config = blob(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        let manifest = blob(&blobs, media_type, manifest.to_string().as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
            .unwrap();
        format!("oci-layout:{}", directory.display())
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, content: &[u8], target: Option<&str>) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        self.layer.append_data(&mut header, path, content).unwrap();
    }
}

/// Copies the layers of the only image in a layout; gives its configuration, and what its manifest says of the layers.
fn copy_base(layout: &Path, blobs: &Path) -> (Value, Vec<Value>) {
    let path = |described: &Value| {
        let digest = described["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap();
        (layout.join("blobs/sha256").join(digest), blobs.join(digest))
    };
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let manifest = read(&path(&read(&layout.join("index.json"))["manifests"][0]).0);
    let mut config = read(&path(&manifest["config"]).0);
    let layers = manifest["layers"].as_array().unwrap().clone();
    for layer in &layers {
        let (from, to) = path(layer);
        fs::copy(from, &to).unwrap();
        // The layout may be private; what is made of it is for every user of the tests.
        fs::set_permissions(to, fs::Permissions::from_mode(0o644)).unwrap();
    }
    // Without a history it need not have a line for each layer.
    config.as_object_mut().unwrap().remove("history");
    (config, layers)
}

fn push(object: &mut Value, name: &str, more: impl IntoIterator<Item = Value>) {
    let mut list = object[name].as_array().cloned().unwrap_or_default();
    list.extend(more);
    object[name] = list.into();
}

fn blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = hex(bytes);
    fs::write(blobs.join(&digest), bytes).unwrap();
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
