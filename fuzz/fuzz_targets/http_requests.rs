//! Any bytes as what a client of HTTP sends: no panic, no byte is lost or made up, and pieces make no difference.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_net::sniff::{HttpFault, HttpGuard, Step};

/// What passes, for whom, and why it ended.
fn run(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<String>, Option<HttpFault>) {
    let (mut guard, mut passed, mut hosts) = (HttpGuard::new(), Vec::new(), Vec::new());
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() {
            let taken = match guard.push(rest) {
                Ok(Step::Held(taken)) => taken,
                Ok(Step::Pass(taken)) => {
                    passed.extend_from_slice(&rest[..taken]);
                    taken
                }
                Ok(Step::Request { taken, host, head }) => {
                    hosts.push(host.to_string());
                    passed.extend(head);
                    taken
                }
                Ok(Step::Wait) => {
                    guard.answer(b"HTTP/1.1 200 OK");
                    continue;
                }
                Err(fault) => return (passed, hosts, Some(fault)),
            };
            assert!(taken > 0, "it does not get on");
            rest = &rest[taken..];
        }
    }
    (passed, hosts, None)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = run(bytes, usize::MAX);
    assert!(bytes.starts_with(&whole.0), "what passes is not what was sent");
    let pieces = run(bytes, 7);
    assert_eq!(whole.1, pieces.1);
    assert_eq!(
        whole.0.get(..pieces.0.len().min(whole.0.len())),
        pieces.0.get(..whole.0.len().min(pieces.0.len()))
    );
});
