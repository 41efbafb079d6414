//! Any layer as a tar in the one form that sbx writes: read again it is the same layer, and written again the same bytes.

#![no_main]

#[path = "../checksums.rs"]
mod checksums;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sbx_image::dump;
use sbx_image::layer::{self, Limits};

/// Refuses more than `limit` bytes: holes are written out.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write(layer: &Path) -> Option<Vec<u8>> {
    let mut to = Bounded { bytes: Vec::new(), limit: 4 << 20 };
    match layer::write_tar(layer, &mut to) {
        Ok(()) => Some(to.bytes),
        Err(layer::WriteTarError::Copy { .. }) => None,
        Err(error) => panic!("what was stored is written: {error}"),
    }
}

/// What a layer says, without where its contents lie, which is in the order in which they came and with their holes; and without
/// the root's own attributes, which are the image's.
fn tree(layer: &Path) -> Vec<String> {
    let text = dump::layer(layer).expect("it reads back");
    let lines = text.lines().skip(2).skip_while(|line| line.starts_with("  "));
    let line = |line: &str| match line.rfind(" bytes ") {
        Some(end) if line.starts_with("- ") => line[..end].to_owned(),
        _ => line.to_owned(),
    };
    lines.map(line).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        entries: 5_000,
        data_bytes: 8 << 20,
        file_bytes: 4 << 20,
        device_bytes: 1 << 40,
        metadata_bytes: 8 << 20,
        ..Limits::default()
    };
    let root = tempfile::tempdir().expect("a temporary directory");
    let [read, again] = ["read", "again"].map(|name| root.path().join(name));
    for directory in [&read, &again] {
        std::fs::create_dir(directory).expect("a directory");
    }
    let mut tar = bytes.to_vec();
    checksums::repair(&mut tar);
    if layer::ingest(&mut tar.as_slice(), &read, &limits).is_err() {
        return;
    }
    let Some(canonical) = write(&read) else { return };
    // Whoever takes the layer from here must not refuse it.
    layer::ingest(&mut canonical.as_slice(), &again, &Limits::default()).expect("what was written is read");
    layer::verify(&again).expect("what was read verifies");
    assert_eq!(canonical, write(&again).expect("as long as before"), "the same bytes");
    assert_eq!(tree(&read), tree(&again), "the same tree");
});
