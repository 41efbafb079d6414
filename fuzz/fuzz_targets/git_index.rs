//! Any bytes as an index of git, which may be a guest's: names that stay inside, no more of them than are bounded, and no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The reader is part of a program, which nobody can link; it stands alone.
#[path = "../../sbx-cli/src/workspace/git/index.rs"]
mod index;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() as u64 > index::MAX_BYTES {
        return;
    }
    for hash_bytes in [20, 32] {
        for path in index::tracked(bytes, hash_bytes) {
            assert!(index::is_inside(&path), "{path:?}");
            assert!(path.as_os_str().len() < 4096);
        }
    }
});
