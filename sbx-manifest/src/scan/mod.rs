//! What is between the bytes of a file and the KDL parser: every bound that keeps a hostile file harmless.
//!
//! The KDL parser takes time exponential in nested `/-`, and recurses, without a bound, on braces, on block comments and
//! on every place where it resumes after an error; any of these ends the process. So it is never given a text that has
//! one of them. The scan
//!
//! 1. refuses what is too large, not UTF-8, or has characters that KDL forbids ([`characters`]);
//! 2. takes the text apart into tokens ([`token`], [`string`], [`word`]) in one pass, in time linear in its length;
//! 3. walks over the tokens with a stack of its own, of bounded depth ([`structure`]): braces match, every entry is
//!    separated from the next, `/-` stands before something;
//! 4. makes a text for the parser in which comments, whatever `/-` removes, and escaped line ends are spaces, so that
//!    every byte that is left is at its place.
//!
//! What is left is KDL that the parser reads without one error. That is tested against the parser itself.

mod characters;
mod string;
mod structure;
mod token;
mod word;

pub(crate) use characters::{is_newline, is_space};
pub(crate) use token::{Kind, Token};

use crate::{fault::Fault, source::Source, span::Span};

/// What kind of file is scanned: how large it may be, and what its faults are called.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// As in "this cannot be …".
    what: &'static str,
    /// Longest file in bytes.
    pub(crate) max_bytes: usize,
    /// Names, values, types, braces and terminators in a file.
    max_tokens: usize,
    too_large: &'static str,
    encoding: &'static str,
    syntax: &'static str,
}

/// `sandbox.kdl`, which goes to the parser. That takes up to 0.25 µs for each byte, spaces included, in an optimised
/// build, and up to 8 µs and half a KiB for each token, and a file that is to be refused must be within 50 ms: a MiB could
/// not be. Nobody writes a tenth of this.
pub(crate) const MANIFEST: Dialect = Dialect {
    what: "a manifest",
    max_bytes: 64 << 10,
    max_tokens: 4_000,
    too_large: "manifest::too-large",
    encoding: "manifest::encoding",
    syntax: "manifest::syntax",
};

/// `sandbox.lock`, of which the parser sees single values at most: a line for each of some ten thousand packages.
pub(crate) const LOCK: Dialect = Dialect {
    what: "a lock",
    max_bytes: 8 << 20,
    max_tokens: 400_000,
    too_large: "lock::too-large",
    encoding: "lock::encoding",
    syntax: "lock::syntax",
};

/// Braces in braces. The language has four levels.
const MAX_DEPTH: usize = 32;

/// More faults than that are not a typing error.
const MAX_FAULTS: usize = 100;

/// What the scan hands on.
pub(crate) struct Scanned {
    /// For the parser.
    pub(crate) text: String,
    /// Values that are not KDL. The text has other values in their places, so that the rest can be read.
    pub(crate) faults: Vec<Fault>,
}

/// Bytes as text, or the one fault that says why they are none.
pub(crate) fn decode(name: &str, bytes: &[u8], dialect: &Dialect) -> Result<Source, Fault> {
    characters::decode(name, bytes, dialect)
}

/// Scans a text.
///
/// # Errors
/// The faults, if one of them leaves open what belongs to what.
pub(crate) fn scan(source: &Source, dialect: &'static Dialect) -> Result<Scanned, Vec<Fault>> {
    let mut scan = Scan::new(source, dialect);
    characters::check(&mut scan);
    let tokens = token::tokens(&mut scan);
    if scan.fatal {
        return Err(scan.faults);
    }
    structure::check(&mut scan, &tokens);
    if scan.fatal {
        return Err(scan.faults);
    }
    let text = scan.edited();
    Ok(Scanned { text, faults: scan.faults })
}

/// The tokens of a text that has passed the scan, for whoever wants to put something between them.
pub(crate) fn tokens(source: &Source, dialect: &'static Dialect) -> Vec<Token> {
    token::tokens(&mut Scan::new(source, dialect))
}

/// The state of a scan.
struct Scan<'s> {
    source: &'s Source,
    text: &'s str,
    dialect: &'static Dialect,
    faults: Vec<Fault>,
    /// Whether the text cannot be given to the parser.
    fatal: bool,
    edits: Vec<Edit>,
}

/// A change of the text that keeps its length.
#[derive(Clone, Copy)]
struct Edit {
    span: Span,
    /// A value that stands for a wrong one; none for spaces.
    placeholder: bool,
}

impl<'s> Scan<'s> {
    fn new(source: &'s Source, dialect: &'static Dialect) -> Self {
        Self { source, text: source.text(), dialect, faults: Vec::new(), fatal: false, edits: Vec::new() }
    }

    /// Adds a fault after which nothing more can be said about the text.
    fn fatal(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>, help: &str) {
        self.fatal = true;
        self.fault(span, message, label, help);
    }

    /// Adds a fault in one value.
    fn value_fault(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>, help: &str) {
        self.edits.push(Edit { span, placeholder: true });
        self.fault(span, message, label, help);
    }

    fn fault(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>, help: &str) {
        if self.faults.len() >= MAX_FAULTS {
            self.fatal = true;
            return;
        }
        let fault = Fault::error(self.source, self.dialect.syntax, span, message, label);
        self.faults.push(if help.is_empty() { fault } else { fault.with_help(help) });
    }

    /// Takes `span` out of what the parser sees.
    fn blank(&mut self, span: Span) {
        self.edits.push(Edit { span, placeholder: false });
    }

    /// The text with all edits.
    fn edited(&self) -> String {
        let mut bytes = self.text.as_bytes().to_vec();
        // Placeholders first: what `/-` removes may hold some.
        for edit in self
            .edits
            .iter()
            .filter(|edit| edit.placeholder)
            .chain(self.edits.iter().filter(|edit| !edit.placeholder))
        {
            let Some(place) = bytes.get_mut(edit.span.offset..edit.span.end()) else { continue };
            place.fill(b' ');
            match place {
                [only] if edit.placeholder => *only = b'a',
                [first, second, ..] if edit.placeholder => {
                    *first = b'"';
                    *second = b'"';
                }
                _ => {}
            }
        }
        // Edits begin and end between characters, so this is UTF-8 again.
        String::from_utf8(bytes).unwrap_or_default()
    }
}
