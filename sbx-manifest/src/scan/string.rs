//! Strings: where they end, and whether the parser will read them.

use super::{Scan, characters};
use crate::span::Span;

/// Length of the quoted string, on one line or more, at the beginning of `rest`.
pub(super) fn quoted(scan: &mut Scan<'_>, offset: usize, rest: &str) -> usize {
    match rest.strip_prefix("\"\"\"") {
        Some(body) if body.starts_with(characters::is_newline) => quoted_lines(scan, offset, rest),
        Some(_) => {
            let span = Span { offset, length: 3 };
            scan.fatal(
                span,
                "after `\"\"\"` a new line must begin",
                "the string begins on the next line",
                "",
            );
            rest.len()
        }
        None => quoted_line(scan, offset, rest),
    }
}

/// Length of the raw string, on one line or more, at the beginning of `rest`.
pub(super) fn raw(scan: &mut Scan<'_>, offset: usize, rest: &str) -> usize {
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let (marks, body) = rest.split_at_checked(hashes).unwrap_or((rest, ""));
    if let Some(lines) = body.strip_prefix("\"\"\"") {
        let opening = hashes.saturating_add(3);
        if !lines.starts_with(characters::is_newline) {
            let span = Span { offset, length: opening };
            scan.fatal(
                span,
                "after `\"\"\"` a new line must begin",
                "the string begins on the next line",
                "",
            );
            return rest.len();
        }
        let Some(end) = find_close(lines, "\"\"\"", marks) else {
            return unclosed(scan, offset, opening, rest);
        };
        let closing = end.saturating_add(3).saturating_add(hashes);
        let body = lines.get(..end).unwrap_or_default();
        check_lines(
            scan,
            offset.saturating_add(opening),
            body.split(characters::is_newline).map(|line| (line, true)),
        );
        return opening.saturating_add(closing);
    }
    let body = body.get(1..).unwrap_or_default();
    match find_close(body, "\"", marks) {
        Some(end) if !body.get(..end).unwrap_or_default().contains(characters::is_newline) => {
            hashes.saturating_add(1).saturating_add(end).saturating_add(1).saturating_add(hashes)
        }
        _ => unclosed(scan, offset, hashes.saturating_add(1), rest),
    }
}

/// The first place in `text` with `quotes` and then `marks`.
fn find_close(text: &str, quotes: &str, marks: &str) -> Option<usize> {
    // Linear: the runs of marks behind different quotes do not overlap.
    text.match_indices('"').map(|(position, _)| position).find(|position| {
        text.get(*position..)
            .and_then(|rest| rest.strip_prefix(quotes))
            .is_some_and(|after| after.starts_with(marks))
    })
}

fn unclosed(scan: &mut Scan<'_>, offset: usize, opening: usize, rest: &str) -> usize {
    let span = Span { offset, length: opening };
    scan.fatal(span, "this string does not end", "begins here", "close it with the same quotes");
    rest.len()
}

fn quoted_line(scan: &mut Scan<'_>, offset: usize, rest: &str) -> usize {
    let mut position = 1_usize;
    while let Some(after) = rest.get(position..)
        && let Some(character) = after.chars().next()
    {
        match character {
            '"' => return position.saturating_add(1),
            '\\' => {
                position = position.saturating_add(escape(scan, offset.saturating_add(position), after).1);
            }
            character if characters::is_newline(character) => break,
            character => position = position.saturating_add(character.len_utf8()),
        }
        if scan.fatal {
            return position;
        }
    }
    let span = Span { offset, length: position };
    scan.fatal(
        span,
        "this string does not end on its line",
        "the closing `\"` is missing",
        "a string over several lines begins and ends with `\"\"\"`",
    );
    rest.len()
}

/// What an escape does to the lines of its string.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Escape {
    Character,
    /// Spaces and line ends that are not in the string.
    Space,
}

/// The escape at the beginning of `rest` and its length.
fn escape(scan: &mut Scan<'_>, offset: usize, rest: &str) -> (Escape, usize) {
    let body = rest.get(1..).unwrap_or_default();
    match body.chars().next() {
        Some('"' | '\\' | 'b' | 'f' | 'n' | 'r' | 't' | 's') => (Escape::Character, 2),
        Some('u') => {
            let digits =
                body.get(1..).and_then(|body| body.strip_prefix('{')).and_then(|body| body.split_once('}'));
            let value = digits.map(|(digits, _)| digits).filter(|digits| {
                (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            let character =
                value.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
            if let (Some(_), Some(digits)) = (character, value) {
                return (Escape::Character, digits.len().saturating_add(4));
            }
            let span = Span { offset, length: 2 };
            scan.fatal(
                span,
                "this is no character",
                "`\\u{` and `}` around 1 to 6 hexadecimal digits",
                "for example \\u{e9}",
            );
            (Escape::Character, 2)
        }
        Some(character) if characters::is_space(character) || characters::is_newline(character) => {
            let blank = |character| characters::is_space(character) || characters::is_newline(character);
            let length = body.find(|character| !blank(character)).unwrap_or(body.len());
            (Escape::Space, length.saturating_add(1))
        }
        other => {
            let length = other.map_or(1, |character| character.len_utf8().saturating_add(1));
            let span = Span { offset, length };
            let help = "write `\\\\` for a backslash, or a raw string: #\"…\"#";
            scan.fatal(span, "there is no such escape", "`\\` before a character that needs none", help);
            (Escape::Character, length)
        }
    }
}

/// A string over several lines: `"""`, line end, lines, and `"""` alone on the last.
fn quoted_lines(scan: &mut Scan<'_>, offset: usize, rest: &str) -> usize {
    const QUOTES: &str = "\"\"\"";
    let mut position = QUOTES.len();
    // The lines by the line ends that are in the string, with their places; the text right after the quotes is the first.
    let mut starts = vec![position];
    while let Some(after) = rest.get(position..)
        && let Some(character) = after.chars().next()
    {
        if after.starts_with(QUOTES) {
            let mut bounds = starts.iter().zip(starts.iter().skip(1).copied().chain([position]));
            let lines = bounds.by_ref().map(|(start, end)| {
                let line = rest.get(*start..end).unwrap_or_default();
                let ended = end != position;
                (
                    if ended { line.trim_end_matches(characters::is_newline) } else { line },
                    !line.contains('\\'),
                )
            });
            check_lines(scan, offset, lines);
            return position.saturating_add(QUOTES.len());
        }
        position = match character {
            '\\' => position.saturating_add(escape(scan, offset.saturating_add(position), after).1),
            character if characters::is_newline(character) => {
                let length = if after.starts_with("\r\n") { 2 } else { character.len_utf8() };
                starts.push(position.saturating_add(length));
                position.saturating_add(length)
            }
            character => position.saturating_add(character.len_utf8()),
        };
        if scan.fatal {
            return position;
        }
    }
    unclosed(scan, offset, QUOTES.len(), rest)
}

/// The last line says how far the others are indented. Each comes with whether it could be blank.
fn check_lines<'t>(scan: &mut Scan<'_>, offset: usize, lines: impl Iterator<Item = (&'t str, bool)>) {
    let lines: Vec<_> = lines.collect();
    let Some(((prefix, _), inner)) = lines.split_last() else { return };
    let span = Span { offset, length: 3 };
    if !prefix.chars().all(characters::is_space) {
        scan.fatal(span, "the closing quotes of this string must be alone on their line", "begins here", "");
        return;
    }
    let indented = |(line, plain): &(&str, bool)| {
        line.starts_with(prefix) || (*plain && line.chars().all(characters::is_space))
    };
    if !inner.iter().skip(1).all(indented) {
        let help = "each line begins with the spaces that are before the closing quotes";
        scan.fatal(span, "a line of this string is indented less than its end", "begins here", help);
    }
}
