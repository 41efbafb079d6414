//! What the host trusts beyond the usual certificates, the sandbox trusts.

use sbx_tests::{Environment, ImageBuilder};

/// A section of PEM; what is in it is for TLS libraries to judge.
fn certificate(letter: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", letter.repeat(64))
}

#[test]
fn certificates_of_the_host_come_and_go_with_its_environment() {
    let env = Environment::new();
    let bundle = certificate("U");
    let image = ImageBuilder::busybox()
        .directory("etc/ssl")
        .directory("etc/ssl/certs")
        .file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle.as_bytes())
        .file("etc/alpine-release", 0o644, b"3.20.0\n")
        .env("CURL_CA_BUNDLE", "/of/the/image");
    let image = env.image("certificates", image);
    let env = env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n\
         network {{ host-service 5432; }}\n"
    ));
    let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let file = env.outside().join("company.pem");
    std::fs::write(&file, format!("{key}{}", certificate("C"))).unwrap();

    let look = "cat /etc/ssl/certs/ca-certificates.crt; env | grep -E 'CERT|CA_|CAINFO' | sort; \
        cat \"$NODE_EXTRA_CA_CERTS\" /usr/local/share/ca-certificates/*";
    let arguments = ["up", "--yes", "--", "sh", "-c", look];
    let mut command = env.command(&arguments);
    command.env("NODE_EXTRA_CA_CERTS", &file);
    let text = env.run(command, &arguments).text();
    assert_eq!(text.matches(&"C".repeat(64)).count(), 3, "{text}");
    assert_eq!(text.matches(&"U".repeat(64)).count(), 1, "{text}");
    assert!(!text.contains("PRIVATE"), "{text}");
    for line in [
        "CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt",
        "CURL_CA_BUNDLE=/of/the/image",
        "NODE_EXTRA_CA_CERTS=/run/sbx/certificates.pem",
        "REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }

    // A command that came at once would find the sandbox still up, as it was.
    env.sbx(&["stop"]).success();
    // The computer that runs the tests may have anchors of its own, which stay.
    let without =
        env.up("cat /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/* || true").text();
    assert!(without.starts_with(bundle.trim_end()), "{without}");
    assert!(!without.contains(&"C".repeat(64)), "{without}");
}
