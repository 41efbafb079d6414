//! A real registry.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::TestStore;
use crate::archives::run;
use crate::image::{Packing, TestImage, noise, tar_of};

/// Debian's docker-registry on a free port. Stopped when dropped.
struct RealRegistry {
    child: Child,
    host: String,
    _directory: tempfile::TempDir,
}

impl RealRegistry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = directory.path().join("registry.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; Debian: apt install docker-registry"));
        let registry = Self { child, host, _directory: directory };
        let begun = Instant::now();
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn images_pushed_by_skopeo() {
    let registry = RealRegistry::start();
    let image = TestImage::new(&[
        (tar_of(&[("a", &noise(2_000_000, 1))]), Packing::Gzip),
        (tar_of(&[("b", b"two")]), Packing::Zstd),
    ]);
    let directory = tempfile::tempdir().unwrap();
    image.write_layout(directory.path());
    let from = format!("oci:{}:latest", directory.path().display());
    let push = |name: &str, format: &str| {
        let to = format!("docker://{}/{name}", registry.host);
        run("skopeo", &["copy", "-q", "--dest-tls-verify=false", "--format", format, &from, &to]);
    };
    push("library/example:oci", "oci");
    push("library/example:docker", "v2s2");
    let mut test = TestStore::new();
    let oci = test.pull(&format!("{}/library/example:oci", registry.host)).unwrap();
    assert_eq!(oci.new_layers, 2);
    let docker = test.pull(&format!("{}/library/example:docker", registry.host)).unwrap();
    assert_eq!(docker.new_layers, 0);
    assert_ne!(docker.manifest_digest, oci.manifest_digest);
    test.mirrors(&format!("docker.io=http://{}", registry.host));
    let mirrored = test.pull("docker.io/library/example:oci").unwrap();
    assert_eq!((mirrored.manifest_digest.clone(), mirrored.new_layers), (oci.manifest_digest, 0));
    assert!(test.find("example:oci").is_some());
    let error = test.pull_error(&format!("{}/library/missing", registry.host));
    assert!(error.ends_with("not found (manifest unknown); check the name and tag"), "{error}");
    test.assert_sound();
}
