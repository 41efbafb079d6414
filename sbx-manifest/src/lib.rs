//! `sandbox.kdl`: parsed, validated and explained.
//!
//! ```text
//! bytes ─scan→ text without comments ─kdl→ nodes ─decode→ Manifest ─validate→ faults and warnings
//!                                                            │
//!                                          with_profile ─────┼───── explain, features
//! ```
//!
//! Pure text to data: nothing here reads a file, the environment or the clock. All faults of a file are found in one
//! go, each with its place and with the text to write instead. The language is described in `docs/manifest.md`.

#![forbid(unsafe_code)]

mod decode;
mod fault;
mod shape;
mod source;
mod span;
mod tree;
mod types;
mod validate;

pub mod model;

use kdl::KdlDocument;

pub use fault::{Fault, Faults, Severity};
pub use model::{Manifest, Profile};
pub use source::Source;
pub use span::{Span, Spanned};
pub use types::{HostPattern, PortRange, Protocol};

/// A manifest that can be used.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub manifest: Manifest,
    /// What in it does nothing, or not what it seems to, in the order of the text.
    pub warnings: Vec<Fault>,
}

/// Reads a manifest. `name` is what diagnostics call the file.
///
/// # Errors
/// [`Faults`] with everything that is wrong with it.
pub fn parse(name: &str, text: &[u8]) -> Result<Parsed, Faults> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let source = Source::new(name, text.to_owned());
    let document = match KdlDocument::parse_v2(text) {
        Ok(document) => document,
        Err(error) => {
            let faults = error
                .diagnostics
                .iter()
                .map(|diagnostic| {
                    Fault::error(
                        &source,
                        "manifest::syntax",
                        Span { offset: diagnostic.span.offset(), length: diagnostic.span.len() },
                        diagnostic.message.clone().unwrap_or_else(|| "this is not KDL".to_owned()),
                        diagnostic.label.clone().unwrap_or_default(),
                    )
                })
                .collect();
            return Err(Faults::new(name, faults));
        }
    };
    let (manifest, faults) = decode::decode(&document, &source);
    match manifest {
        Some(manifest) if faults.iter().all(|fault| fault.severity() == Severity::Warning) => {
            Ok(Parsed { manifest, warnings: faults })
        }
        _ => Err(Faults::new(name, faults)),
    }
}
