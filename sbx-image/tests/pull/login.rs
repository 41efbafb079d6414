//! Registries that want to know who asks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sbx_image::progress::Note;

use crate::TestStore;
use crate::image::TestImage;
use crate::processes::{CREDENTIALS, HELPER_TIMEOUT, outcome, puller};
use crate::server::{Reply, Request, Server};

/// base64 of `ann:secret`.
const ANN: &str = "YW5uOnNlY3JldA==";

/// A server that wants a token, which its own `/token` gives to `allowed`.
fn token_server(image: &TestImage, allowed: fn(&Request) -> bool) -> Server {
    Server::with_script(image, move |request, reply| {
        let host = request.header("host");
        let denied =
            Reply::new(401, "application/json", r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#)
                .with("www-authenticate", &format!(r#"Bearer realm="http://{host}/token",service="test""#));
        if request.path.starts_with("/token") {
            return match allowed(request) {
                true => Reply::new(200, "application/json", r#"{"token":"good","access_token":"good"}"#),
                false => Reply::new(401, "application/json", "wrong password"),
            };
        }
        if request.header("authorization") == "Bearer good" { reply } else { denied }
    })
}

fn log_in(test: &mut TestStore, config: &str) {
    let path = test.directory.path().join("config.json");
    fs::write(&path, config).unwrap();
    test.options.credential_files = vec![path];
}

#[test]
fn anonymous_tokens() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |request| request.header("authorization").is_empty());
    TestStore::new().pull(&server.reference()).unwrap();
    let asked = server.requests("/token");
    assert_eq!(asked.len(), 1, "one token is enough for manifest, configuration and layers");
    assert!(asked[0].path.contains("scope=repository%3Atest%2Fimage%3Apull"), "{}", asked[0].path);
    assert!(asked[0].path.contains("service=test"), "{}", asked[0].path);
}

#[test]
fn passwords_of_docker_login_become_tokens() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |request| request.header("authorization") == format!("Basic {ANN}"));
    let mut test = TestStore::new();
    let error = test.pull_error(&server.reference());
    assert!(error.contains("cannot get a token for 127.0.0.1"), "{error}");
    log_in(&mut test, &format!(r#"{{"auths":{{"{}":{{"auth":"{ANN}"}}}}}}"#, server.host()));
    test.pull(&server.reference()).unwrap();
}

#[test]
fn identity_tokens_are_exchanged() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |request| {
        let form = request.header(":body");
        form.contains("grant_type=refresh_token") && form.contains("refresh_token=long-lived")
    });
    let mut test = TestStore::new();
    log_in(&mut test, &format!(r#"{{"auths":{{"{}":{{"identitytoken":"long-lived"}}}}}}"#, server.host()));
    test.pull(&server.reference()).unwrap();
}

#[test]
fn passwords_without_tokens() {
    let image = TestImage::of_bytes(2000);
    let server = Server::with_script(&image, |request, reply| {
        if request.header("authorization") == format!("Basic {ANN}") {
            return reply;
        }
        Reply::new(401, "application/json", "").with("www-authenticate", r#"Basic realm="test""#)
    });
    let mut test = TestStore::new();
    let error = test.pull_error(&server.reference());
    assert!(
        error.ends_with(&format!("access denied; log in with `docker login {}`", server.host())),
        "{error}"
    );
    log_in(&mut test, &format!(r#"{{"auths":{{"{}":{{"auth":"{ANN}"}}}}}}"#, server.host()));
    test.pull(&server.reference()).unwrap();
}

#[test]
fn credentials_stay_with_their_registry() {
    let image = TestImage::of_bytes(2000);
    let storage = Server::new(&image);
    let elsewhere = storage.host();
    let server = Server::with_script(&image, move |request, reply| {
        if request.header("authorization").is_empty() {
            return Reply::new(401, "application/json", "").with("www-authenticate", r#"Basic realm="test""#);
        }
        // Blobs are kept on another server, as they are by the large registries.
        if request.is_blob() {
            return Reply::new(307, "text/plain", "")
                .with("location", &format!("http://{elsewhere}{}", request.path));
        }
        reply
    });
    let mut test = TestStore::new();
    log_in(&mut test, &format!(r#"{{"auths":{{"{}":{{"auth":"{ANN}"}}}}}}"#, server.host()));
    test.pull(&server.reference()).unwrap();
    let redirected = storage.requests("/blobs/");
    assert_eq!(redirected.len(), 2);
    assert!(redirected.iter().all(|request| request.header("authorization").is_empty()), "{redirected:?}");
}

#[test]
fn a_helper_that_fails_is_told_and_not_fatal() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |_| true);
    let mut test = TestStore::new();
    log_in(&mut test, &format!(r#"{{"credHelpers":{{"{}":"sbx-test-missing"}}}}"#, server.host()));
    test.pull(&server.reference()).unwrap();
    let notes = test.heard.notes.lock().unwrap();
    let [Note::Credentials { registry, reason }] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!(*registry, server.host());
    assert!(reason.contains("config.json has no usable credentials for 127.0.0.1"), "{reason}");
}

/// A credential helper named `sbx-test` that does what `script` says, and a file that names it for `host`.
struct Helper {
    directory: tempfile::TempDir,
}

impl Helper {
    fn new(host: &str, script: &str) -> Self {
        let helper = Self { directory: tempfile::tempdir().unwrap() };
        let program = helper.path("docker-credential-sbx-test");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(helper.path("config.json"), format!(r#"{{"credHelpers":{{"{host}":"sbx-test"}}}}"#))
            .unwrap();
        helper
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Pulls `source` in a process that finds the helper in its `PATH`; gives what came of it.
    fn pull(&self, home: &Path, source: &str, timeout_milliseconds: u32) -> String {
        let mut command = puller(&[], home, source);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.directory.path().display()));
        command.env(CREDENTIALS, self.path("config.json"));
        command.env(HELPER_TIMEOUT, timeout_milliseconds.to_string());
        outcome(command.spawn().unwrap())
    }
}

#[test]
fn a_credential_helper_is_asked_as_docker_asks_it() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |request| request.header("authorization") == format!("Basic {ANN}"));
    let script = r#"[ "$1" = get ] || exit 1
        read -r server
        echo "{\"ServerURL\":\"$server\",\"Username\":\"ann\",\"Secret\":\"secret\"}"
        echo "$server" > "${0%/*}/asked""#;
    let helper = Helper::new(&server.host(), script);
    let test = TestStore::new();
    assert_eq!(helper.pull(test.store.home(), &server.reference(), 60_000), "STORED 1");
    assert_eq!(fs::read_to_string(helper.path("asked")).unwrap().trim(), server.host());
}

#[test]
fn a_credential_helper_that_hangs_is_given_up() {
    let image = TestImage::of_bytes(2000);
    let server = token_server(&image, |request| request.header("authorization").is_empty());
    // It hangs as long as nobody writes to the pipe.
    let helper = Helper::new(&server.host(), r#"read -r _ < "${0%/*}/pipe""#);
    let pipe = helper.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let test = TestStore::new();
    assert_eq!(helper.pull(test.store.home(), &server.reference(), 200), "STORED 1", "asked without it");
    // Lets the helper end: opening waits until it reads.
    fs::write(&pipe, "\n").unwrap();
}
