//! The image's bundle in the form that Java takes: a key store, named by a variable that every JVM reads.
//!
//! Java has certificates of its own and no variable for more of them, only one for all its options. The format is the oldest one
//! (JKS), which every version reads: `sun.security.provider.JavaKeyStore.engineLoad` in the JDK describes it.
//!
//! ```text
//! 0xFEEDFEED · 2 · number │ 2 · alias · time in ms · "X.509" · length · DER │ … │ SHA-1 over password, a phrase, and all before
//! ```

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::{Digest as _, Sha1};

/// The key store.
pub(super) const STORE: &str = "run/sbx/certificates.jks";

/// Options of every JVM (JVM Tool Interface, "JAVA_TOOL_OPTIONS"). A JVM says on standard error that it has read them.
pub(super) const VARIABLE: &str = "JAVA_TOOL_OPTIONS";

/// Where images have a JVM: Debian, Fedora and Alpine; Eclipse Temurin; and the certificates of a packaged one.
const PLACES: [&str; 4] = ["usr/lib/jvm", "opt/java", "etc/ssl/certs/java", "etc/pki/java"];

/// Where Docker's image `openjdk` has it, with its version behind.
const OPENJDK: (&str, &str) = ("usr/local", "openjdk-");

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;

/// The password that every key store of certificates has; it protects nothing.
const PASSWORD: &str = "changeit";

/// What goes into the digest after the password.
const PHRASE: &[u8] = b"Mighty Aphrodite";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Whether the image below `root` has a JVM.
pub(super) fn is_there(root: &Path) -> bool {
    let (directory, prefix) = OPENJDK;
    let entries = root.join(directory).read_dir().into_iter().flatten().flatten();
    PLACES.iter().any(|place| root.join(place).is_dir())
        || entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// The value of [`VARIABLE`] for the key store below `root`.
pub(super) fn options(root: &Path) -> Vec<u8> {
    let store = root.join(STORE);
    format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={PASSWORD}", store.display())
        .into_bytes()
}

/// A key store with the certificates of `bundle`, which is PEM; none if it has none. What is no certificate is left out: Java
/// would refuse the whole store for it.
pub(super) fn store(bundle: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(bundle);
    let certificates: Vec<Vec<u8>> = text
        .split(BEGIN)
        .skip(1)
        .filter_map(|rest| rest.split_once(END))
        .filter_map(|(body, _)| {
            let body: String = body.split_whitespace().collect();
            BASE64_STANDARD.decode(body).ok()
        })
        .filter(|der| is_sequence(der))
        .collect();
    if certificates.is_empty() {
        return None;
    }
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(u32::try_from(certificates.len()).ok()?.to_be_bytes());
    for (number, der) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        push_text(&mut store, &format!("sbx-{number}"));
        store.extend(0_u64.to_be_bytes());
        push_text(&mut store, "X.509");
        store.extend(u32::try_from(der.len()).ok()?.to_be_bytes());
        store.extend(der);
    }
    let mut digest = Sha1::new();
    PASSWORD.encode_utf16().for_each(|unit| digest.update(unit.to_be_bytes()));
    digest.update(PHRASE);
    digest.update(&store);
    store.extend(digest.finalize());
    Some(store)
}

/// Text as `DataOutput.writeUTF` writes it, which is the same as UTF-8 for ours.
fn push_text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend(text.as_bytes());
}

/// Whether `der` is one SEQUENCE and nothing else, as a certificate is (X.690, 8.1).
fn is_sequence(der: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = der else { return false };
    let count = usize::from(length & 0x7f);
    if length & 0x80 == 0 {
        return rest.len() == count;
    }
    let Some((digits, content)) = rest.split_at_checked(count) else { return false };
    (1..=4).contains(&count)
        && digits.iter().fold(0_usize, |value, digit| value << 8 | usize::from(*digit)) == content.len()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A self-signed certificate of an elliptic curve (`openssl req -x509`).
    const CERTIFICATE: &str = include_str!("java/test.pem");

    #[test]
    fn a_store_is_what_keytool_reads() {
        let bundle = format!("{CERTIFICATE}{BEGIN}\nVVVV\n{END}\n{BEGIN}\nnot base64\n{END}\n");
        let store = store(bundle.as_bytes()).unwrap();
        let digest: String = Sha1::digest(&store).iter().map(|byte| format!("{byte:02x}")).collect();
        // `keytool -list -storepass changeit -keystore …` of JDK 17 shows one trusted certificate and finds its digest right.
        assert_eq!((store.len(), digest.as_str()), (445, "ef8b79206ab56510dc88406f2c7fe5809ba5fb17"));
        assert_eq!(super::store(b""), None);
    }

    #[test]
    fn a_certificate_is_one_sequence() {
        for der in [&[0x30, 0][..], &[0x30, 2, 1, 2], &[0x30, 0x81, 1, 5], &[0x30, 0x82, 0, 1, 5]] {
            assert!(is_sequence(der), "{der:?}");
        }
        for der in [
            &[][..],
            &[0x30],
            &[0x31, 0],
            &[0x30, 1],
            &[0x30, 0, 0],
            &[0x30, 0x80],
            &[0x30, 0x82, 1],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
        ] {
            assert!(!is_sequence(der), "{der:?}");
        }
    }

    #[test]
    fn a_virtual_machine_is_found_where_images_have_it() {
        for place in ["usr/lib/jvm", "opt/java", "usr/local/openjdk-21"] {
            let root = tempfile::tempdir().unwrap();
            assert!(!is_there(root.path()));
            fs::create_dir_all(root.path().join(place)).unwrap();
            assert!(is_there(root.path()), "{place}");
        }
    }
}
