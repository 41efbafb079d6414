//! Any bytes as the beginning of a stream: no panic, and once something is claimed, more bytes do not change it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_net::policy::Claim;
use sbx_net::sniff;

fuzz_target!(|bytes: &[u8]| {
    let claim = sniff::claim(bytes);
    if bytes.len() >= sniff::MAX_SNIFFED_BYTES {
        assert_ne!(claim, Claim::Unknown, "it waits for ever");
    }
    let earlier = sniff::claim(&bytes[..bytes.len() / 2]);
    if earlier != Claim::Unknown {
        assert_eq!(earlier, claim);
    }
});
