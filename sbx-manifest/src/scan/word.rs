//! Bare words: names, numbers and keywords.

use super::{Scan, characters, token::Kind};
use crate::{decode::quoted, span::Span, types::shorten};

/// The bare word at the beginning of `rest`: its kind and length.
pub(super) fn word(scan: &mut Scan<'_>, offset: usize, rest: &str) -> (Kind, usize) {
    let mut end = rest.find(characters::ends_word).unwrap_or(rest.len());
    // A comment needs no space before it; in `a/b` there is none.
    let comment =
        ["//", "/*", "/-"].iter().filter_map(|mark| rest.get(..end).unwrap_or_default().find(mark)).min();
    if let Some(comment) =
        comment.filter(|comment| *comment > 0 && !rest.get(..*comment).unwrap_or_default().ends_with(':'))
    {
        end = comment;
    }
    // So does an escaped line end.
    if end > 1 && rest.get(..end).unwrap_or_default().ends_with('\\') {
        end = end.saturating_sub(1);
    }
    let text = rest.get(..end).unwrap_or_default();
    let span = Span { offset, length: end };
    if text.is_empty() {
        return (Kind::Value, 0);
    }
    if let Some(keyword) = text.strip_prefix('#') {
        if !matches!(keyword, "true" | "false" | "null" | "inf" | "-inf" | "nan") {
            let help = if keyword.eq_ignore_ascii_case("false") { "#false" } else { "#true" };
            scan.value_fault(span, format!("there is no `{}`", shorten(text)), "not a keyword", help);
        }
        return (Kind::Value, end);
    }
    let keyword = match text {
        "true" => Some("#true"),
        "false" => Some("#false"),
        "null" | "inf" | "-inf" | "nan" => Some(""),
        _ => None,
    };
    if let Some(keyword) = keyword {
        scan.value_fault(
            span,
            format!("`{text}` is written with a `#`"),
            "a word that looks like a value",
            keyword,
        );
        return (Kind::Text, end);
    }
    if is_like_number(text) {
        if !is_number(text) {
            let message = format!("`{}` is not a number", shorten(text));
            scan.value_fault(
                span,
                message,
                "text that begins with a digit needs quotes",
                &quoted(&shorten(text)),
            );
        }
        return (Kind::Value, end);
    }
    if text.contains(['/', '\\', '#', '[', ']']) {
        let message = format!("`{}` needs quotes", shorten(text));
        scan.value_fault(span, message, "a bare word cannot have these characters", &quoted(&shorten(text)));
    }
    (Kind::Text, end)
}

/// Whether KDL takes the word for a number, right or wrong.
fn is_like_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let undotted = unsigned.strip_prefix('.').unwrap_or(unsigned);
    undotted.starts_with(|character: char| character.is_ascii_digit())
}

/// Whether it is one that the parser can hold.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let compact = digits.replace('_', "");
            return !digits.starts_with('_')
                && compact.starts_with(|character: char| character.is_digit(radix))
                && i128::from_str_radix(&compact, radix).is_ok();
        }
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    [Some(whole), fraction, exponent].into_iter().flatten().all(is_digits)
}

/// Digits and `_`, a digit first, and few enough for 128 bits.
fn is_digits(text: &str) -> bool {
    const MAX_DIGITS: usize = 38;
    text.starts_with(|character: char| character.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
        && text.bytes().filter(u8::is_ascii_digit).count() <= MAX_DIGITS
}
