//! `sandbox.kdl`: parsed, validated and explained.
//!
//! ```text
//! bytes ─scan→ text without comments ─kdl→ nodes ─decode→ Manifest ─validate→ faults and warnings
//!                                                            │
//!                                          with_profile ─────┼───── explain, features
//!                                                          edit ─▶ text with one more rule
//! ```
//!
//! Pure text to data: nothing here reads a file, the environment or the clock. All faults of a file are found in one
//! go, each with its place and with the text to write instead. The language is described in `docs/manifest.md`.

#![forbid(unsafe_code)]

pub mod agents;
mod decode;
pub mod edit;
pub mod explain;
mod fault;
mod features;
mod implied;
pub mod init;
pub mod lock;
mod profile;
mod scan;
mod shape;
mod source;
mod span;
mod tree;
mod types;
mod validate;

pub mod model;

use kdl::{KdlDiagnostic, KdlDocument, KdlError};

pub use agents::Catalogue;
pub use fault::{Fault, Faults, Severity};
pub use features::Feature;
pub use implied::{AGENT_PORT, Implied};
pub use model::{Manifest, Profile};
pub use source::Source;
pub use span::{Span, Spanned};
pub use types::{HostPattern, NotAHost, NotAPort, NotARepository, PortRange, Protocol, Repository};

/// A manifest that can be used.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub manifest: Manifest,
    /// What in it does nothing, or not what it seems to, in the order of the text.
    pub warnings: Vec<Fault>,
}

/// Reads a manifest that names no agents but sbx's own. `name` is what diagnostics call the file.
///
/// # Errors
/// [`Faults`] with everything that is wrong with it.
pub fn parse(name: &str, text: &[u8]) -> Result<Parsed, Faults> {
    parse_with(name, text, &Catalogue::default())
}

/// Reads a manifest that may name the agents of `catalogue`.
///
/// # Errors
/// [`Faults`] with everything that is wrong with it.
pub fn parse_with(name: &str, text: &[u8], catalogue: &Catalogue) -> Result<Parsed, Faults> {
    let (manifest, warnings) =
        read(name, text, |document, source| decode::manifest(document, source, catalogue))?;
    Ok(Parsed { manifest, warnings })
}

/// Reads a manifest whatever agents it names.
fn parse_any(name: &str, text: &[u8]) -> Result<Parsed, Faults> {
    parse_with(name, text, &Catalogue::of_anything())
}

/// Reads what `decode` makes of a text. With it comes what in it does nothing, or not what it seems to.
fn read<T>(
    name: &str,
    text: &[u8],
    decode: impl FnOnce(&KdlDocument, &Source) -> (Option<T>, Vec<Fault>),
) -> Result<(T, Vec<Fault>), Faults> {
    let only = |fault| Faults::new(name, vec![fault]);
    let source = scan::decode(name, text, &scan::MANIFEST).map_err(only)?;
    let scanned = scan::scan(&source, &scan::MANIFEST).map_err(|faults| Faults::new(name, faults))?;
    let document = KdlDocument::parse_v2(&scanned.text).map_err(|error| syntax_faults(&source, &error))?;
    let (decoded, found) = decode(&document, &source);
    // Where the scan put something else for what it could not read, it has said what is wrong.
    let known = |fault: &Fault| {
        let place = fault.span().offset;
        scanned.faults.iter().any(|earlier| earlier.span().offset <= place && place < earlier.span().end())
    };
    let mut faults: Vec<_> = found.into_iter().filter(|fault| !known(fault)).collect();
    faults.extend(scanned.faults.iter().cloned());
    faults.sort_by_key(|fault| fault.span());
    match decoded {
        Some(decoded) if faults.iter().all(|fault| fault.severity() == Severity::Warning) => {
            Ok((decoded, faults))
        }
        _ => Err(Faults::new(name, faults)),
    }
}

/// The parser's own errors, under the file's name. The scan finds all that are known first.
fn syntax_faults(source: &Source, error: &KdlError) -> Faults {
    let fault = |diagnostic: &KdlDiagnostic| {
        let span = Span { offset: diagnostic.span.offset(), length: diagnostic.span.len() };
        let message = diagnostic.message.clone().unwrap_or_else(|| "this is not KDL".to_owned());
        let fault = Fault::error(
            source,
            "manifest::syntax",
            span,
            message,
            diagnostic.label.clone().unwrap_or_default(),
        );
        match &diagnostic.help {
            Some(help) => fault.with_help(help),
            None => fault,
        }
    };
    Faults::new(source.name(), error.diagnostics.iter().map(fault).collect())
}

#[cfg(test)]
mod tests;
