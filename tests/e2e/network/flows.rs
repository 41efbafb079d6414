//! Connections: many bytes, several at once, and all the ways in which they end.

use sbx_tests::{
    Lan,
    lan::{Service, digest_of_pattern},
};

use super::{GOOD, sandbox, up};

/// Bytes that go each way in one connection.
const BULK_BYTES: usize = 64 << 20;

#[test]
fn bytes_arrive_as_they_were_sent_and_connections_end_as_they_were_ended() {
    let lan = Lan::new(&[GOOD]);
    let serve = |port: u16, service| lan.serve(&format!("{GOOD}:{port}"), service);
    serve(9001, Service::Source(BULK_BYTES));
    serve(9002, Service::Digest);
    serve(9003, Service::Echo);
    serve(9004, Service::Reset);
    serve(9005, Service::Silent);
    let env = sandbox(&lan, &format!("allow \"{GOOD}\""));
    let outcome = up(
        &env,
        &format!(
            r#"
            to() {{ nc -w 5 {GOOD} "$@"; }}
            # All of it has to be sent before the server says a word: half of the connection is closed then.
            to 9001 </dev/null | to 9002
            for i in 1 2 3 4 5 6 7 8; do
                ( seq $i 100000 | sha256sum > sent$i; seq $i 100000 | to 9003 | sha256sum | cmp - sent$i && echo same ) &
            done
            wait
            echo x | to 9004 | wc -c
            # Refused by the host's kernel; never answered; no way there.
            to 9006 </dev/null 2>&1 | sed "s/.*: //"
            nc -w 2 {GOOD} 9005 </dev/null 2>&1 | sed "s/.*: //"
            "#
        ),
    );
    let digest = digest_of_pattern(BULK_BYTES);
    let same = "same\n".repeat(8);
    assert_eq!(outcome.text(), format!("{digest}\n{same}0\nConnection refused\ntimed out"));
}
