//! From text to tokens.

use super::{Scan, characters, string, word};
use crate::span::Span;

/// The least that structure is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Spaces, block comments, escaped line ends.
    Space,
    /// A line end, with the comment before it.
    Newline,
    Semicolon,
    Open,
    Close,
    TypeOpen,
    TypeClose,
    Equals,
    Slashdash,
    /// A bare word or a string: what can be a name.
    Text,
    /// A number or keyword: what can only be a value.
    Value,
    End,
}

/// A token and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// The tokens of the text, with one [`Kind::End`] after the last.
pub(super) fn tokens(scan: &mut Scan<'_>) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut offset = if scan.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut counted = 0_usize;
    while let Some(rest) = scan.text.get(offset..)
        && let Some(first) = rest.chars().next()
    {
        let (kind, length) = next(scan, offset, rest, first);
        let span = Span { offset, length: length.max(first.len_utf8()) };
        offset = span.end();
        // Spaces cost nothing; several in a row are one.
        match tokens.last_mut() {
            Some(Token { kind: Kind::Space, span: last }) if kind == Kind::Space => {
                last.length = last.length.saturating_add(span.length);
                continue;
            }
            _ => tokens.push(Token { kind, span }),
        }
        if !matches!(kind, Kind::Space | Kind::Newline) {
            counted = counted.saturating_add(1);
        }
        let most = scan.dialect.max_tokens;
        if counted > most {
            let message = format!("the file has more than {most} names, values and braces");
            scan.fatal(span, message, "too much from here on", "");
        }
        if scan.fatal {
            break;
        }
    }
    tokens.push(Token { kind: Kind::End, span: Span { offset: scan.text.len(), length: 0 } });
    tokens
}

fn next(scan: &mut Scan<'_>, offset: usize, rest: &str, first: char) -> (Kind, usize) {
    let one = first.len_utf8();
    match first {
        ' ' | '\t' => {
            let end = rest.find(|character| !characters::is_space(character)).unwrap_or(rest.len());
            (Kind::Space, end)
        }
        '\r' if rest.starts_with("\r\n") => (Kind::Newline, 2),
        character if characters::is_newline(character) => (Kind::Newline, one),
        character if characters::is_space(character) => (Kind::Space, one),
        ';' => (Kind::Semicolon, one),
        '{' => (Kind::Open, one),
        '}' => (Kind::Close, one),
        '(' => (Kind::TypeOpen, one),
        ')' => (Kind::TypeClose, one),
        '=' => (Kind::Equals, one),
        '/' if rest.starts_with("/-") => (Kind::Slashdash, 2),
        '/' if rest.starts_with("//") => line_comment(scan, offset, rest),
        '/' if rest.starts_with("/*") => (Kind::Space, block_comment(scan, offset, rest)),
        '\\' => escaped_line_end(scan, offset, rest),
        '"' => (Kind::Text, string::quoted(scan, offset, rest)),
        '#' if rest.trim_start_matches('#').starts_with('"') => (Kind::Text, string::raw(scan, offset, rest)),
        _ => word::word(scan, offset, rest),
    }
}

/// Up to the line end, which stays: it may end a node.
fn line_comment(scan: &mut Scan<'_>, offset: usize, rest: &str) -> (Kind, usize) {
    let length = rest.find(characters::is_newline).unwrap_or(rest.len());
    scan.blank(Span { offset, length });
    (Kind::Space, length)
}

/// Block comments nest.
fn block_comment(scan: &mut Scan<'_>, offset: usize, rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut position) = (0_usize, 0_usize);
    loop {
        match bytes.get(position..position.saturating_add(2)) {
            Some(b"/*") => (depth, position) = (depth.saturating_add(1), position.saturating_add(2)),
            Some(b"*/") => (depth, position) = (depth.saturating_sub(1), position.saturating_add(2)),
            Some(_) => position = position.saturating_add(1),
            None => {
                let span = Span { offset, length: 2 };
                scan.fatal(span, "this comment does not end", "begins here", "each `/*` needs a `*/`");
                return rest.len();
            }
        }
        if depth == 0 {
            scan.blank(Span { offset, length: position });
            return position;
        }
    }
}

/// `\`, spaces and comments, line end: the node goes on in the next line.
fn escaped_line_end(scan: &mut Scan<'_>, offset: usize, rest: &str) -> (Kind, usize) {
    let mut position = 1_usize;
    loop {
        let after = rest.get(position..).unwrap_or_default();
        let Some(first) = after.chars().next() else { break };
        let length = if characters::is_space(first) {
            first.len_utf8()
        } else if after.starts_with("/*") {
            block_comment(scan, offset.saturating_add(position), after)
        } else if after.starts_with("//") {
            after.find(characters::is_newline).unwrap_or(after.len())
        } else if after.starts_with("\r\n") || characters::is_newline(first) {
            let end = if after.starts_with("\r\n") { 2 } else { first.len_utf8() };
            position = position.saturating_add(end);
            break;
        } else {
            return word::word(scan, offset, rest);
        };
        position = position.saturating_add(length);
    }
    scan.blank(Span { offset, length: position });
    (Kind::Space, position)
}
