//! Any bytes as a manifest: no panic, no overflow of the stack, and what can be used can be explained.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match sbx_manifest::parse("sandbox.kdl", bytes) {
        Ok(parsed) => {
            let _ = parsed.manifest.explain().to_string();
            for profile in &parsed.manifest.profiles {
                let _ = parsed.manifest.with_profile(&profile.name.value).map(|manifest| manifest.explain());
            }
        }
        Err(faults) => assert!(faults.iter().next().is_some(), "refused without a reason"),
    }
});
