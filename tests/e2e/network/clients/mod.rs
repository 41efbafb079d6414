//! Real clients in the guest, real servers beside it: what is allowed works, and what is not is refused in the client's own words.
//!
//! ```text
//! good.example    93.184.216.34 and 2606:2800:220:1::34     every rule is about it
//! evil.example    93.184.216.99                             the same servers, and no rule
//! ```

mod packages;
mod servers;
mod web;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use sbx_tests::{
    Environment, Lan, Outcome,
    lan::{Program, User},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{GOOD, GOOD_SIX, OTHER};

/// What serves [`Site`] over HTTP.
const WEB: &str = include_str!("web.py");

/// A network with a web server, which has a certificate of an authority that only the host knows.
struct Site {
    lan: Lan,
    directory: TempDir,
    web: Program,
}

impl Site {
    fn new() -> Self {
        let lan = Lan::new(&[GOOD, OTHER, GOOD_SIX]);
        lan.name("good.example", "A", &[GOOD]);
        lan.name("good.example", "AAAA", &[GOOD_SIX]);
        lan.name("evil.example", "A", &[OTHER]);
        let directory = tempfile::Builder::new().prefix("sbx-site-").tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("web.py"), WEB).unwrap();
        fs::create_dir(path.join("pages")).unwrap();
        fs::write(path.join("pages/hello"), "hello from the web\n").unwrap();
        certificates(path);
        let words = ["python3", "../web.py", "../server.pem", "../server.key"];
        let web = lan.start(User::Root, &path.join("pages"), &words, "serving");
        Self { lan, directory, web }
    }

    /// What is served.
    fn pages(&self) -> std::path::PathBuf {
        self.directory.path().join("pages")
    }

    /// A sandbox with all clients, which reaches what `rules` allow.
    fn sandbox(&self, rules: &str) -> Environment {
        Environment::new().on_lan(&self.lan).with_clients("deny", rules)
    }

    /// `sbx up -- bash -c SCRIPT` on a host that trusts the server's authority.
    fn up(&self, env: &Environment, script: &str) -> Outcome {
        let arguments = ["up", "--yes", "--", "bash", "-c", script];
        let mut command = env.command(&arguments);
        command.env("SSL_CERT_FILE", self.directory.path().join("authority.pem"));
        env.run(command, &arguments)
    }
}

/// Makes an authority, and a certificate of it for both names: one that the server could show, so that nothing but the rules keeps the
/// guest from the host that they do not allow.
fn certificates(directory: &Path) {
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(key).args(words).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&["-subj", "/CN=Authority", "-keyout", "authority.key", "-out", "authority.pem"]);
    let names = "subjectAltName=DNS:good.example,DNS:evil.example";
    let authority = ["-CA", "authority.pem", "-CAkey", "authority.key"];
    let files = ["-keyout", "server.key", "-out", "server.pem"];
    let subject = ["-subj", "/CN=Server", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&authority[..], &files, &subject].concat());
}

/// What was refused to the sandbox of `env`, each once: a name that was not resolved, or the name or address of a connection, and its
/// port.
fn refused(env: &Environment) -> BTreeSet<String> {
    let log = env.sbx(&["policy", "log", "--json", "--refused"]).text();
    let entries = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let about = |entry: Value| match (entry["name"].as_str(), entry["address"].as_str()) {
        (Some(name), None) => name.to_owned(),
        (Some(name), Some(address)) => format!("{name}:{}", address.rsplit(':').next().unwrap_or_default()),
        (None, address) => address.unwrap_or_default().to_owned(),
    };
    entries.map(about).collect()
}
