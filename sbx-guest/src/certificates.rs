//! The certificates that the host trusts beyond the usual ones, put where the image's programs look for theirs.
//!
//! ```text
//! bundles that exist      between two marks, so that the next boot replaces them
//! anchors of each family  as files, so that `update-ca-certificates` and its like keep them
//! /run/sbx                alone, for programs that add them to their own; all, for Java
//! ```

mod java;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::accounts::read_bounded;

/// Where the families have their bundle: Debian and Alpine, Fedora (two), OpenSSL and Alpine, SUSE.
const BUNDLES: [&str; 5] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/cert.pem",
    "etc/ssl/ca-bundle.pem",
];

/// Where each family takes more: Debian and Alpine, Fedora, Arch, SUSE.
const ANCHORS: [&str; 4] = [
    LOCAL_ANCHORS,
    "etc/pki/ca-trust/source/anchors",
    "etc/ca-certificates/trust-source/anchors",
    "etc/pki/trust/anchors",
];

/// Made where it is not there yet, for the package that will read it when it is installed.
const LOCAL_ANCHORS: &str = "usr/local/share/ca-certificates";

/// What tells a family that reads [`LOCAL_ANCHORS`].
const LOCAL_FAMILIES: [&str; 2] = ["etc/debian_version", "etc/alpine-release"];

/// The certificates alone.
const EXTRA: &str = "run/sbx/certificates.pem";

/// How our files among the anchors begin; each holds one certificate, as Debian's tool wants it.
const ANCHOR_PREFIX: &str = "sbx-host-";

/// Around what is ours in a bundle.
const BEGIN: &str = "# The certificates of the host begin here (sbx)\n";
const END: &str = "# The certificates of the host end here (sbx)\n";

/// Bytes of a bundle that is changed; the usual ones have a quarter of a megabyte.
const MAX_BUNDLE_BYTES: u64 = 4 << 20;

/// Variables with a bundle that takes the place of the program's own: OpenSSL and Go, Python's requests, curl, git, cargo.
const BUNDLE_VARIABLES: [&str; 5] =
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO"];

/// The variable with certificates that Node adds to its own.
const EXTRA_VARIABLE: &str = "NODE_EXTRA_CA_CERTS";

/// One of the files could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub(crate) struct CertificatesError {
    path: String,
    #[source]
    source: io::Error,
}

/// A variable of every command.
type Variable = (Vec<u8>, Vec<u8>);

/// Puts `certificates` (PEM) below `root`, takes away what an earlier boot has put there, and returns what the environment of
/// commands should say of them.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn install(root: &Path, certificates: &[String]) -> Result<Vec<Variable>, CertificatesError> {
    let bundles = BUNDLES.map(|path| root.join(path)).into_iter().filter(|path| is_bundle(path));
    let bundles: Vec<PathBuf> = bundles.collect();
    for bundle in &bundles {
        add_to_bundle(bundle, certificates).map_err(|source| failed(bundle, source))?;
    }
    let is_local = LOCAL_FAMILIES.iter().any(|file| root.join(file).exists());
    for directory in ANCHORS {
        let wanted = directory == LOCAL_ANCHORS && is_local && !certificates.is_empty();
        let directory = root.join(directory);
        if wanted || directory.is_dir() {
            anchor(&directory, certificates).map_err(|source| failed(&directory, source))?;
        }
    }
    if certificates.is_empty() {
        return Ok(Vec::new());
    }
    let extra = root.join(EXTRA);
    write_new(&extra, certificates.concat().as_bytes()).map_err(|source| failed(&extra, source))?;
    let variable =
        |name: &str, path: &Path| (name.as_bytes().to_vec(), path.as_os_str().as_encoded_bytes().to_vec());
    let bundle = bundles.first().into_iter();
    let of_bundle = bundle.flat_map(|bundle| BUNDLE_VARIABLES.map(|name| variable(name, bundle)));
    let mut variables: Vec<Variable> = of_bundle.chain([variable(EXTRA_VARIABLE, &extra)]).collect();
    variables.extend(place_for_java(root, bundles.first())?);
    Ok(variables)
}

/// Java's own store of the same certificates as in the bundle, and the variable that names it; nothing without Java.
fn place_for_java(root: &Path, bundle: Option<&PathBuf>) -> Result<Option<Variable>, CertificatesError> {
    let Some(bundle) = bundle.filter(|_| java::is_there(root)) else { return Ok(None) };
    let text = read_bounded(bundle).map_err(|source| failed(bundle, source))?;
    let Some(store) = java::store(&text) else { return Ok(None) };
    let path = root.join(java::STORE);
    write_new(&path, &store).map_err(|source| failed(&path, source))?;
    Ok(Some((java::VARIABLE.as_bytes().to_vec(), java::options(root))))
}

fn failed(path: &Path, source: io::Error) -> CertificatesError {
    CertificatesError { path: path.display().to_string(), source }
}

/// Whether there is a bundle, by itself or behind a link, of a size that one has.
fn is_bundle(path: &Path) -> bool {
    path.metadata().is_ok_and(|status| status.is_file() && status.len() <= MAX_BUNDLE_BYTES)
}

fn add_to_bundle(bundle: &Path, certificates: &[String]) -> io::Result<()> {
    let before = read_bounded(bundle)?;
    let after = with_certificates(&before, certificates);
    if after == before { Ok(()) } else { fs::write(bundle, after) }
}

/// The bundle with `certificates` in place of those of an earlier boot.
fn with_certificates(bundle: &[u8], certificates: &[String]) -> Vec<u8> {
    let mut after = bundle.to_vec();
    if let Some(begin) = find(&after, BEGIN) {
        let rest = after.split_off(begin);
        // Without an end somebody has cut it off, and all of the rest is ours.
        let end = find(&rest, END).map_or(rest.len(), |end| end.saturating_add(END.len()));
        after.extend_from_slice(rest.get(end..).unwrap_or_default());
    }
    // A family's tool may have taken them up from the anchors.
    let new: Vec<&String> =
        certificates.iter().filter(|certificate| find(&after, certificate.trim_end()).is_none()).collect();
    if new.is_empty() {
        return after;
    }
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    after.extend_from_slice(BEGIN.as_bytes());
    for certificate in new {
        after.extend_from_slice(certificate.as_bytes());
    }
    after.extend_from_slice(END.as_bytes());
    after
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    memchr::memmem::find(bytes, text.as_bytes())
}

/// Writes a file for each certificate, and removes those of earlier boots.
fn anchor(directory: &Path, certificates: &[String]) -> io::Result<()> {
    if !certificates.is_empty() {
        fs::create_dir_all(directory)?;
    }
    let wanted: Vec<String> =
        (1..=certificates.len()).map(|number| format!("{ANCHOR_PREFIX}{number}.crt")).collect();
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(ANCHOR_PREFIX));
        if is_ours && !wanted.iter().any(|wanted| name == wanted.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, certificate) in wanted.iter().zip(certificates) {
        write_new(&directory.join(name), certificate.as_bytes())?;
    }
    Ok(())
}

/// Writes a file that is ours alone, in place of whatever has its name.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if path.symlink_metadata().is_ok_and(|status| status.is_file())
        && read_bounded(path).is_ok_and(|before| before == contents)
    {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(path, contents)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn certificate(letter: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", letter.repeat(8))
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_bundle_gets_them_once_and_loses_them_again() {
        let usual = certificate("u");
        let (one, two) = (certificate("a"), certificate("b"));
        let first = with_certificates(usual.as_bytes(), std::slice::from_ref(&one));
        assert_eq!(String::from_utf8(first.clone()).unwrap(), format!("{usual}{BEGIN}{one}{END}"));
        assert_eq!(with_certificates(&first, std::slice::from_ref(&one)), first);
        let other = with_certificates(&first, std::slice::from_ref(&two));
        assert_eq!(String::from_utf8(other).unwrap(), format!("{usual}{BEGIN}{two}{END}"));
        assert_eq!(with_certificates(&first, &[]), usual.as_bytes());
        // Taken up by the family's own tool.
        let taken = format!("{usual}{one}");
        assert_eq!(with_certificates(taken.as_bytes(), std::slice::from_ref(&one)), taken.as_bytes());
        let cut = format!("{usual}{BEGIN}half");
        assert_eq!(with_certificates(cut.as_bytes(), &[]), usual.as_bytes());
    }

    #[test]
    fn every_family_finds_them_where_it_looks() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "etc/debian_version", "12\n");
        put(root, "etc/ssl/certs/ca-certificates.crt", &certificate("u"));
        put(root, "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", &certificate("u"));
        fs::create_dir_all(root.join("etc/pki/tls/certs")).unwrap();
        fs::create_dir_all(root.join("etc/pki/ca-trust/source/anchors")).unwrap();
        let link = root.join("etc/pki/tls/certs/ca-bundle.crt");
        symlink("../../ca-trust/extracted/pem/tls-ca-bundle.pem", &link).unwrap();

        let extra = [certificate("a"), certificate("b")];
        for _ in 0..2 {
            let variables = install(root, &extra).unwrap();
            let names: Vec<_> =
                variables.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect();
            assert_eq!(
                names,
                [
                    "SSL_CERT_FILE",
                    "REQUESTS_CA_BUNDLE",
                    "CURL_CA_BUNDLE",
                    "GIT_SSL_CAINFO",
                    "CARGO_HTTP_CAINFO",
                    "NODE_EXTRA_CA_CERTS"
                ]
            );
            assert!(variables[0].1.ends_with(b"/etc/ssl/certs/ca-certificates.crt"));
            let expected = format!("{}{BEGIN}{}{END}", certificate("u"), extra.concat());
            for bundle in ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"] {
                assert_eq!(fs::read_to_string(root.join(bundle)).unwrap(), expected, "{bundle}");
            }
            for anchors in ["usr/local/share/ca-certificates", "etc/pki/ca-trust/source/anchors"] {
                let second = root.join(anchors).join("sbx-host-2.crt");
                assert_eq!(fs::read_to_string(second).unwrap(), extra[1], "{anchors}");
            }
            assert_eq!(fs::read_to_string(root.join(EXTRA)).unwrap(), extra.concat());
        }
        assert!(link.symlink_metadata().unwrap().is_symlink());

        assert!(install(root, &[]).unwrap().is_empty());
        let bundle = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        assert_eq!(bundle, certificate("u"));
        assert_eq!(fs::read_dir(root.join(LOCAL_ANCHORS)).unwrap().count(), 0);
    }

    #[test]
    fn java_gets_the_whole_bundle_in_a_store_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "etc/ssl/certs/ca-certificates.crt", include_str!("certificates/java/test.pem"));
        assert!(
            install(root, &[certificate("a")]).unwrap().iter().all(|(name, _)| name != b"JAVA_TOOL_OPTIONS")
        );
        fs::create_dir_all(root.join("usr/lib/jvm")).unwrap();
        let variables = install(root, &[certificate("a")]).unwrap();
        let (_, options) = variables.iter().find(|(name, _)| name == b"JAVA_TOOL_OPTIONS").unwrap();
        let store = root.join("run/sbx/certificates.jks");
        assert!(String::from_utf8_lossy(options).contains(store.to_str().unwrap()));
        assert!(fs::read(store).unwrap().starts_with(&[0xfe, 0xed, 0xfe, 0xed]));
    }

    #[test]
    fn an_image_without_anything_has_them_for_node_only() {
        let root = tempfile::tempdir().unwrap();
        assert!(install(root.path(), &[]).unwrap().is_empty());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let variables = install(root.path(), &[certificate("a")]).unwrap();
        assert_eq!(variables.len(), 1);
        assert_eq!(variables[0].0, b"NODE_EXTRA_CA_CERTS");
    }
}
