//! Sets of characters of the KDL specification, and the bounds that need no more than characters.

use super::{Dialect, Scan};
use crate::{fault::Fault, source::Source, span::Span};

/// Bytes as text.
pub(super) fn decode(name: &str, bytes: &[u8], dialect: &Dialect) -> Result<Source, Fault> {
    if bytes.len() > dialect.max_bytes {
        let beginning = bytes.get(..dialect.max_bytes).unwrap_or_default();
        let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let shown: String = String::from_utf8_lossy(line).chars().take(80).collect();
        let span = Span { offset: 0, length: shown.len() };
        let source = Source::new(name, shown);
        let message = format!("the file is too large: {} bytes", bytes.len());
        let label = format!("this cannot be {}", dialect.what);
        return Err(Fault::error(&source, dialect.too_large, span, message, label).with_help(format!(
            "{} has at most {} KiB",
            dialect.what,
            dialect.max_bytes >> 10
        )));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text.to_owned())),
        Err(error) => {
            let offset = error.valid_up_to();
            let source = Source::new(name, String::from_utf8_lossy(bytes).into_owned());
            // What cannot be read is shown as U+FFFD, three bytes.
            let span = Span { offset, length: char::REPLACEMENT_CHARACTER.len_utf8() };
            let byte = bytes.get(offset).copied().unwrap_or_default();
            Err(Fault::error(
                &source,
                dialect.encoding,
                span,
                "the file is not UTF-8",
                format!("the byte 0x{byte:02x}"),
            )
            .with_help("save it as UTF-8"))
        }
    }
}

/// Refuses the characters that may not be anywhere in a KDL document.
pub(super) fn check(scan: &mut Scan<'_>) {
    // As long as there are none, which is always, this is one comparison for each byte.
    let suspicious = |byte: u8| {
        byte < b'\t' || (0x0e..0x20).contains(&byte) || byte == 0x7f || byte == 0xe2 || byte == 0xef
    };
    if !scan.text.bytes().any(suspicious) {
        return;
    }
    for (offset, character) in scan.text.char_indices() {
        if character == '\u{feff}' && offset == 0 {
            scan.blank(Span { offset, length: character.len_utf8() });
        } else if is_forbidden(character) {
            let label = format!("U+{:04X}", u32::from(character));
            let span = Span { offset, length: character.len_utf8() };
            let message = format!("this character cannot be in {}", scan.dialect.what);
            scan.fatal(span, message, label, "in strings it is written \\u{…}");
            if scan.faults.len() >= 10 {
                return;
            }
        }
    }
}

/// "Disallowed literal code points".
const fn is_forbidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{8}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// "Newline", CRLF aside.
pub(crate) const fn is_newline(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

/// "Whitespace".
pub(crate) const fn is_space(character: char) -> bool {
    matches!(
        character,
        '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// Whether `character` ends a bare word.
pub(super) const fn ends_word(character: char) -> bool {
    is_newline(character)
        || is_space(character)
        || matches!(character, '(' | ')' | '{' | '}' | ';' | '=' | '"')
}
