//! A real registry.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::TestStore;
use crate::archives::run;
use crate::image::{Packing, TestImage, noise, tar_of};

/// What `htpasswd -Bbn ann secret` prints; bcrypt is the only hash that the registry takes.
const ANN: &str = "ann:$2y$04$5hzTc2aPiwCMex0DRcCpy.l1T/.uVE4iNc.7U0F7u/RqRJ9MbvQ5e";

/// Debian's docker-registry on a free port. Stopped when dropped.
pub(crate) struct RealRegistry {
    child: Child,
    pub(crate) host: String,
    pub(crate) directory: tempfile::TempDir,
}

impl RealRegistry {
    /// Over HTTP, for everybody.
    pub(crate) fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), "", "")
    }

    /// Over HTTPS, with a certificate of its own authority (`ca.crt` in its directory), for `ann` with `secret`.
    pub(crate) fn start_secure() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (key, certificate, passwords) = (path("key.pem"), path("certificate.pem"), path("htpasswd"));
        let (authority, authority_key) = (path("ca.crt"), path("authority.pem"));
        let (request, names) = (path("request.pem"), path("names"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"];
        let openssl = |words: &[&[&str]]| run("openssl", &words.concat());
        let files = ["-keyout", authority_key.as_str(), "-out", authority.as_str()];
        openssl(&[&["req", "-x509", "-days", "2"], &curve, &["/CN=sbx test authority"], &files]);
        openssl(&[&["req", "-new"], &curve, &["/CN=sbx test"], &["-keyout", &key, "-out", &request]]);
        fs::write(&names, "subjectAltName=IP:127.0.0.1\n").unwrap();
        let signer = ["-CA", authority.as_str(), "-CAkey", authority_key.as_str(), "-CAcreateserial"];
        let files = ["-in", request.as_str(), "-out", certificate.as_str(), "-extfile", names.as_str()];
        openssl(&[&["x509", "-req", "-days", "2"], &signer, &files]);
        fs::write(&passwords, format!("{ANN}\n")).unwrap();
        let tls = format!(", tls: {{certificate: {certificate}, key: {key}}}");
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {passwords}}}}}\n");
        Self::start_with(directory, &tls, &auth)
    }

    fn start_with(directory: tempfile::TempDir, tls: &str, auth: &str) -> Self {
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = directory.path().join("registry.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"{tls}}}\n{auth}",
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
        let registry = Self { child, host, directory };
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

#[test]
fn a_private_authority_is_trusted_when_the_user_says_so() {
    let registry = RealRegistry::start_secure();
    let image = TestImage::new(&[(tar_of(&[("a", &noise(200_000, 1))]), Packing::Gzip)]);
    let layout = tempfile::tempdir().unwrap();
    image.write_layout(layout.path());
    let certificates = registry.directory.path().display().to_string();
    let to = format!("docker://{}/library/example:1", registry.host);
    let from = format!("oci:{}:latest", layout.path().display());
    let trust = ["--dest-cert-dir", certificates.as_str(), "--dest-creds", "ann:secret"];
    run("skopeo", &[&["copy", "-q", from.as_str(), to.as_str()][..], &trust].concat());

    let name = format!("{}/library/example:1", registry.host);
    let mut test = TestStore::new();
    // On this machine HTTP is the default, so that HTTPS has to be asked for.
    test.mirrors(&format!("{0}=https://{0}", registry.host));
    let error = test.pull_error(&name);
    assert!(error.contains("certificate"), "{error}");

    test.options.extra_ca_files = vec![registry.directory.path().join("ca.crt")];
    let error = test.pull_error(&name);
    assert!(error.contains(&format!("log in with `docker login {}`", registry.host)), "{error}");

    let config = registry.directory.path().join("config.json");
    // base64 of ann:secret
    fs::write(&config, format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOnNlY3JldA=="}}}}}}"#, registry.host))
        .unwrap();
    test.options.credential_files = vec![config];
    let pulled = test.pull(&name).unwrap();
    assert_eq!((Some(pulled.manifest_digest), pulled.new_layers), (image.manifest, 1));
    test.assert_sound();

    test.options.extra_ca_files = vec![registry.directory.path().join("missing.pem")];
    let error = test.pull_error(&format!("{}/library/example:2", registry.host));
    assert!(error.contains("missing.pem"), "{error}");
}
