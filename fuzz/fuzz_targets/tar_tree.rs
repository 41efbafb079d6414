//! Any bytes as a layer: refused with an error, or stored so that it verifies, reads back, and makes a snapshot.

#![no_main]

#[path = "../checksums.rs"]
mod checksums;

use libfuzzer_sys::fuzz_target;
use sbx_image::layer::{self, Limits};
use sbx_image::{dump, snapshot};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        entries: 5_000,
        data_bytes: 1 << 20,
        file_bytes: 1 << 40,
        device_bytes: 1 << 40,
        metadata_bytes: 1 << 20,
        ..Limits::default()
    };
    let root = tempfile::tempdir().expect("a temporary directory");
    let (stored, built) = (root.path().join("layer"), root.path().join("snapshot"));
    std::fs::create_dir(&stored).expect("a directory");
    std::fs::create_dir(&built).expect("a directory");
    let mut tar = bytes.to_vec();
    checksums::repair(&mut tar);
    let Ok(summary) = layer::ingest(&mut tar.as_slice(), &stored, &limits) else { return };
    assert!(summary.written_bytes <= limits.data_bytes);
    layer::verify(&stored).expect("what was stored verifies");
    dump::layer(&stored).expect("what was stored reads back");
    let manifest = snapshot::build(&[stored], &built).expect("what was stored makes a snapshot");
    assert!(manifest.metadata_bytes() < 16 << 20);
});
