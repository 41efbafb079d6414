//! Any bytes as a lock: no panic, and what is read is written so that it is read again, with the same key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx_manifest::lock::{Present, check, difference, parse, recover};

const MANIFEST: &[u8] = b"image \"debian\"\nagent \"claude\"\npackages { apt \"git\"; cargo \"just@1\"; }\nsetup \"a\"";

fuzz_target!(|bytes: &[u8]| {
    match parse("sandbox.lock", bytes) {
        Ok(read) => {
            let text = read.lock.text();
            let again = match parse("sandbox.lock", text.as_bytes()) {
                Ok(again) => again,
                Err(faults) => panic!("cannot be read again: {:?}\n{text}", faults.iter().next()),
            };
            assert_eq!(again.lock.text(), text);
            assert_eq!(again.lock.base.key(), read.lock.base.key());
            assert!(difference(&read.lock, &again.lock).is_empty());
            if let Ok(manifest) = sbx_manifest::parse("sandbox.kdl", MANIFEST) {
                let _ = check(&manifest.manifest, None, &read, &Present::default());
            }
        }
        Err(faults) => assert!(faults.iter().next().is_some(), "refused without a reason"),
    }
    if let Ok(recovered) = recover("sandbox.lock", bytes) {
        let _ = recovered.lock.text();
    }
});
