//! The name of a guest kernel: a hash over everything of ours that decides what is built.
//!
//! Included with `#[path]` by both sides: xtask builds the kernel and installs it under its key, sbx-cli's build script
//! learns which key the program that it compiles has to look for. A change of the configuration or of a patch therefore
//! never boots an old kernel, and an old sbx keeps finding the kernel that it was made with.
//!
//! ```text
//! blake3( "sbx guest kernel 1"
//!         field(SERIES) field(config) field(patch name) field(patch) field(patch name) field(patch) … )
//! field(bytes) = length as 8 bytes little endian, then the bytes
//! ```
//! Patches are taken in the order of their names, which is the order in which they are applied.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Kernel series of the source package (`linux-source-6.12`), a long-term one.
pub(crate) const SERIES: &str = "6.12";

/// The recipe in a directory laid out as this one: `config` and `patches/*.patch`.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// 64 hex digits.
    pub(crate) hash: String,
    /// Every file that went into the hash: the configuration first, then the patches in the order of their names.
    pub(crate) files: Vec<PathBuf>,
}

impl Recipe {
    /// Reads and hashes the recipe in `directory`.
    ///
    /// # Errors
    /// When the configuration, the directory of patches or a patch cannot be read.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"sbx guest kernel 1");
        field(&mut hasher, SERIES.as_bytes());
        let config = directory.join("config");
        field(&mut hasher, &fs::read(&config)?);
        let mut patches = Vec::new();
        for entry in fs::read_dir(directory.join("patches"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "patch") {
                patches.push(path);
            }
        }
        patches.sort();
        for patch in &patches {
            let name = patch.file_name().unwrap_or_default();
            field(&mut hasher, name.as_encoded_bytes());
            field(&mut hasher, &fs::read(patch)?);
        }
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self { hash, files: std::iter::once(config).chain(patches).collect() })
    }

    /// The directory of the kernel below `$SBX_HOME/kernels`: the first 16 digits of the hash.
    #[must_use]
    pub(crate) fn key(&self) -> &str {
        self.hash.get(..16).unwrap_or(&self.hash)
    }
}

/// Adds one part so that no two different lists of parts are the same bytes.
fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
