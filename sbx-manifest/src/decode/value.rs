//! Values of the right type, or a fault that shows how to write them.

use kdl::KdlValue;

use super::{Decoder, structure::closest};
use crate::{
    scan::is_newline,
    span::Spanned,
    tree::{Node, Value},
    types::{Refusal, is_obeyed},
};

impl Decoder<'_> {
    /// A string.
    pub(crate) fn string(&mut self, value: &Value) -> Option<Spanned<String>> {
        if let KdlValue::String(text) = &value.data {
            return Some(Spanned::new(text.clone(), value.span));
        }
        let written = self.source.slice(value.span);
        let fault = self
            .fault(
                "manifest::type",
                value.span,
                "this must be a string",
                format!("{}, not a string", kind(&value.data)),
            )
            .with_help(format!("\"{}\"", written.trim_start_matches('#')));
        self.report(fault);
        None
    }

    /// A string that `check` accepts.
    pub(crate) fn checked(
        &mut self,
        value: &Value,
        before: &str,
        check: impl FnOnce(&str) -> Result<(), Refusal>,
    ) -> Option<Spanned<String>> {
        self.converted(value, before, |text| check(text).map(|()| text.to_owned()))
    }

    /// What `convert` makes of a string. `before` is what stands before the value on the line to paste.
    pub(crate) fn converted<T>(
        &mut self,
        value: &Value,
        before: &str,
        convert: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<Spanned<T>> {
        let text = self.string(value)?;
        match convert(&text.value) {
            Ok(converted) => Some(Spanned::new(converted, text.span)),
            Err(refusal) => {
                self.refuse("manifest::value", text.span, refusal, |instead| {
                    format!("{before}{}", quoted(instead))
                });
                None
            }
        }
    }

    /// The first argument of a node, a string that `check` accepts.
    pub(crate) fn checked_argument(
        &mut self,
        node: &Node,
        check: impl FnOnce(&str) -> Result<(), Refusal>,
    ) -> Option<Spanned<String>> {
        let value = node.arguments.first()?;
        self.checked(value, &format!("{} ", node.name.value), check)
    }

    /// The first argument of a node, a string that is not empty.
    pub(crate) fn text_argument(&mut self, node: &Node) -> Option<Spanned<String>> {
        self.checked_argument(node, not_empty)
    }

    /// All arguments of a node, strings that are not empty.
    pub(crate) fn text_arguments(&mut self, node: &Node) -> Vec<Spanned<String>> {
        let before = format!("{} ", node.name.value);
        node.arguments.iter().filter_map(|value| self.checked(value, &before, not_empty)).collect()
    }

    /// A property that is a string and not empty.
    pub(crate) fn text_property(&mut self, node: &Node, name: &str) -> Option<Spanned<String>> {
        let value = node.property(name)?;
        self.checked(value, &format!("{name}="), not_empty)
    }

    /// `#true` or `#false`.
    pub(crate) fn boolean(&mut self, value: &Value, before: &str) -> Option<Spanned<bool>> {
        if let KdlValue::Bool(boolean) = value.data {
            return Some(Spanned::new(boolean, value.span));
        }
        let right = match &value.data {
            KdlValue::String(text) if matches!(text.as_str(), "false" | "no" | "off" | "0") => "#false",
            KdlValue::Integer(0) => "#false",
            _ => "#true",
        };
        let fault = self
            .fault("manifest::type", value.span, "this must be #true or #false", kind(&value.data))
            .with_help(format!("{before}{right}"));
        self.report(fault);
        None
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, value: &Value, before: &str) -> Option<Spanned<i128>> {
        if let KdlValue::Integer(number) = value.data {
            return Some(Spanned::new(number, value.span));
        }
        let fault =
            self.fault("manifest::type", value.span, "this must be a whole number", kind(&value.data));
        let number = match &value.data {
            KdlValue::String(text) => text.trim().parse::<i64>().ok(),
            _ => None,
        };
        self.report(match number {
            Some(number) => fault.with_help(format!("{before}{number}")),
            None => fault.with_help(format!("write {before} and a number without quotes")),
        });
        None
    }

    /// A port.
    pub(crate) fn port(&mut self, value: &Value, before: &str) -> Option<Spanned<u16>> {
        let number = self.integer(value, before)?;
        match crate::types::PortRange::from_number(number.value) {
            Ok(range) => Some(Spanned::new(range.first, number.span)),
            Err(refusal) => {
                self.refuse("manifest::port", number.span, refusal, |instead| format!("{before}{instead}"));
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        value: &Value,
        before: &str,
        what: &str,
        known: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let text = self.string(value)?;
        if let Some((_, meant)) = known.iter().find(|(word, _)| *word == text.value) {
            return Some(Spanned::new(*meant, text.span));
        }
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        let fault = self.not_one_of(text.span, what, &text.value, &words);
        let close = closest(&text.value, words.iter().copied())
            .or_else(|| words.first().copied())
            .unwrap_or_default();
        self.report(fault.with_help(format!("{before}\"{close}\"")));
        None
    }
}

pub(crate) fn not_empty(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new("a string is empty", "says nothing"));
    }
    Ok(())
}

/// `text` as a KDL string in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            character if is_obeyed(character) || is_newline(character) => {
                quoted.push_str(&format!("\\u{{{:x}}}", u32::from(character)));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

const fn kind(value: &KdlValue) -> &'static str {
    match value {
        KdlValue::String(_) => "a string",
        KdlValue::Integer(_) => "a number",
        KdlValue::Float(_) => "a number with a fraction",
        KdlValue::Bool(_) => "a truth value",
        KdlValue::Null => "#null",
    }
}
