//! Registries of a test's own, as files that a web server gives: packages are made on the spot, and changed or taken away to see
//! what becomes of it.

mod alpine;
mod crates;
mod debian;
mod npm;
mod python;
mod rpm;

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

pub use alpine::{AlpinePackage, AlpineRepository};
pub use crates::CrateRegistry;
pub use debian::{DebianPackage, DebianRepository};
pub use npm::NpmRegistry;
pub use python::PythonIndex;
pub use rpm::{RpmPackage, RpmRepository, system};

/// A gzipped tar of these files: name, mode and content.
///
/// # Panics
/// If a name does not fit into a tar header.
#[must_use]
pub fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
