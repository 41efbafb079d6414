//! The certificates that this host trusts beyond the usual ones: those of a company whose proxy looks into TLS, say.
//!
//! What an administrator put among the anchors of the system passes as it is. Files that the user's environment names often hold
//! everything, the usual ones included; of them passes what the system's bundle does not have.

use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::environment;

/// Where administrators put certificates: Debian and Alpine, Fedora, SUSE, Arch.
const ANCHORS: [&str; 5] = [
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/usr/share/pki/trust/anchors",
    "/etc/pki/trust/anchors",
    "/etc/ca-certificates/trust-source/anchors",
];

/// Where the usual ones are.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Variables that name a file with certificates.
const FILE_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// The variable that names directories with certificates.
const DIRECTORIES_VARIABLE: &str = "SSL_CERT_DIR";

/// Bytes of one file that are read; the usual bundle has a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Entries of directories that are looked at in all, and how deep.
const MAX_ENTRIES: usize = 2048;
const MAX_DEPTH: usize = 4;

/// Certificates that pass, and bytes of one: all of them have to fit into a message to the guest.
const MAX_CERTIFICATES: usize = 48;
const MAX_CERTIFICATE_BYTES: usize = 8 << 10;

/// Characters of base64 in a line of PEM (RFC 7468, 2).
const LINE_CHARACTERS: usize = 64;

/// The certificates, each in PEM.
pub(crate) fn extra() -> Vec<String> {
    let anchors = ANCHORS.map(PathBuf::from).into_iter().flat_map(|directory| files_in(&directory));
    let named = FILE_VARIABLES.iter().filter_map(|name| environment::path(name));
    let directories = environment::value(DIRECTORIES_VARIABLE).unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&directories)
        .filter(|directory| directory.is_absolute())
        .flat_map(|directory| files_in(&directory))
        .collect();
    let usual = || BUNDLES.iter().flat_map(|path| certificates(Path::new(path))).collect();
    choose(&anchors.collect::<Vec<_>>(), &named.chain(listed).collect::<Vec<_>>(), usual)
}

/// Those of `anchors`, and those of `named` that are not among the `usual` ones.
fn choose(anchors: &[PathBuf], named: &[PathBuf], usual: impl FnOnce() -> HashSet<Vec<u8>>) -> Vec<String> {
    let usual = if named.is_empty() { HashSet::new() } else { usual() };
    let anchors = anchors.iter().flat_map(|path| certificates(path));
    let named = named.iter().flat_map(|path| certificates(path)).filter(|found| !usual.contains(found));
    let mut seen = HashSet::new();
    let all = anchors.chain(named).filter(|found| seen.insert(found.clone()));
    let mut chosen: Vec<String> =
        all.take(MAX_CERTIFICATES.saturating_add(1)).map(|found| pem(&found)).collect();
    if chosen.len() > MAX_CERTIFICATES {
        tracing::warn!(
            "this host trusts more than {MAX_CERTIFICATES} certificates of its own; the rest stays here"
        );
        chosen.truncate(MAX_CERTIFICATES);
    }
    chosen
}

/// The certificates in a file, never anything else that it holds; none if it cannot be read.
fn certificates(path: &Path) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let is_file = path.metadata().is_ok_and(|status| status.is_file());
    if !is_file
        || File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).is_err()
    {
        return Vec::new();
    }
    let found = CertificateDer::pem_slice_iter(&bytes).flatten();
    found.map(|found| found.to_vec()).filter(|found| found.len() <= MAX_CERTIFICATE_BYTES).collect()
}

fn pem(certificate: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, character) in STANDARD.encode(certificate).chars().enumerate() {
        if at > 0 && at % LINE_CHARACTERS == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

/// The files below a directory, by name.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = MAX_ENTRIES;
    walk(directory, MAX_DEPTH, &mut left, &mut found);
    found.sort_unstable();
    found
}

fn walk(directory: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Some(fewer) = left.checked_sub(1) else { return };
        *left = fewer;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                if let Some(depth) = depth.checked_sub(1) {
                    walk(&entry.path(), depth, left, found);
                }
            }
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of PEM around these bytes; what is in it matters to nobody here.
    fn section(kind: &str, bytes: &[u8]) -> String {
        pem(bytes).replace("CERTIFICATE", kind)
    }

    #[test]
    fn what_the_system_has_and_what_is_no_certificate_does_not_pass() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (usual, own, local) = ([1_u8; 300], [2_u8; 300], [3_u8; 300]);
        let named = path(
            "all.pem",
            &[
                pem(&usual),
                section("PRIVATE KEY", &[9; 60]),
                pem(&own),
                "nonsense\n".to_owned(),
                pem(&own),
                pem(&[4; MAX_CERTIFICATE_BYTES + 1]),
            ]
            .concat(),
        );
        std::fs::create_dir_all(directory.path().join("anchors/company")).unwrap();
        path("anchors/company/ca.crt", &pem(&local));
        let anchors = files_in(&directory.path().join("anchors"));
        let missing = directory.path().join("missing.pem");
        let chosen = choose(&anchors, &[named, missing], || HashSet::from([usual.to_vec()]));
        assert_eq!(chosen, [pem(&local), pem(&own)]);
        assert!(chosen.iter().all(|text| text.lines().all(|line| line.len() <= LINE_CHARACTERS)));
    }

    #[test]
    fn there_is_an_end_to_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("many.pem");
        let many: String = (0..100_u8).map(|number| pem(&[number; 40])).collect();
        std::fs::write(&path, many).unwrap();
        assert_eq!(choose(&[path], &[], HashSet::new).len(), MAX_CERTIFICATES);
    }
}
