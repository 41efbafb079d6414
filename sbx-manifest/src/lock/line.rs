//! From the text of a lock to its lines. KDL, but no braces: each line stands for itself, so that git can merge any
//! lines of two branches and the result is a lock.

use kdl::{KdlDocument, KdlValue};

use crate::{
    fault::Fault,
    scan::{self, Kind, LOCK, Token},
    source::Source,
    span::{Span, Spanned},
};

/// A node.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: Spanned<String>,
    /// From the name to the last value.
    pub(super) span: Span,
    pub(super) arguments: Vec<Spanned<String>>,
    pub(super) properties: Vec<(Spanned<String>, Spanned<String>)>,
}

impl Line {
    /// The property called `name`.
    pub(super) fn property(&self, name: &str) -> Option<&Spanned<String>> {
        self.properties.iter().find(|(own, _)| own.value == name).map(|(_, value)| value)
    }
}

/// The lines of a text, and what is wrong with others.
///
/// # Errors
/// If it is not KDL.
pub(super) fn lines(source: &Source) -> Result<(Vec<Line>, Vec<Fault>), Vec<Fault>> {
    let scanned = scan::scan(source, &LOCK)?;
    // The same places, but without comments and what `/-` removes.
    let kept = Source::new(source.name(), scanned.text);
    let tokens = scan::tokens(&kept, &LOCK);
    let mut reader = Reader { source, kept: &kept, tokens: &tokens, faults: scanned.faults };
    let mut lines = Vec::new();
    while let Some(token) = reader.next() {
        if matches!(token.kind, Kind::Newline | Kind::Semicolon) {
            continue;
        }
        if let Some(line) = reader.line(token) {
            lines.push(line);
        }
    }
    Ok((lines, reader.faults))
}

struct Reader<'r> {
    source: &'r Source,
    kept: &'r Source,
    tokens: &'r [Token],
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// The next token that is not a space; none at the end.
    fn next(&mut self) -> Option<Token> {
        while let Some((first, rest)) = self.tokens.split_first() {
            self.tokens = rest;
            match first.kind {
                Kind::Space => {}
                Kind::End => return None,
                _ => return Some(*first),
            }
        }
        None
    }

    fn next_if(&mut self, kind: Kind) -> Option<Token> {
        let before = self.tokens;
        let token = self.next().filter(|token| token.kind == kind);
        if token.is_none() {
            self.tokens = before;
        }
        token
    }

    /// The node that begins with `first`; none if it has something that a lock has not.
    fn line(&mut self, first: Token) -> Option<Line> {
        let mut line = Line {
            name: Spanned::new(String::new(), first.span),
            span: first.span,
            arguments: Vec::new(),
            properties: Vec::new(),
        };
        let mut entry = Some(first);
        let mut named = false;
        while let Some(token) = entry {
            match token.kind {
                Kind::Newline | Kind::Semicolon => break,
                Kind::Text | Kind::Value => {}
                _ => {
                    self.foreign(token);
                    return None;
                }
            }
            let text = self.text(token);
            line.span = Span::between(first.span.offset, token.span.end());
            if !named {
                line.name = text;
                named = true;
            } else if self.next_if(Kind::Equals).is_some() {
                let value = self.next().filter(|value| matches!(value.kind, Kind::Text | Kind::Value))?;
                line.span = Span::between(first.span.offset, value.span.end());
                line.properties.push((text, self.text(value)));
            } else {
                line.arguments.push(text);
            }
            entry = self.next();
        }
        Some(line)
    }

    /// Braces, or a type annotation: skips what they hold.
    fn foreign(&mut self, token: Token) {
        let (what, help) = match token.kind {
            Kind::Open | Kind::Close => ("braces", "each line of a lock stands for itself"),
            _ => ("type annotations", "remove it"),
        };
        let message = format!("a lock has no {what}");
        self.faults.push(
            Fault::error(self.source, "lock::syntax", token.span, message, "not known here").with_help(help),
        );
        let mut depth = usize::from(token.kind == Kind::Open);
        while let Some(next) = self.next() {
            match next.kind {
                Kind::Open => depth = depth.saturating_add(1),
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Newline | Kind::Semicolon if depth == 0 => return,
                _ => {}
            }
        }
    }

    /// What a token says. Nearly all are strings in quotes without escapes; what else there is, KDL's parser reads.
    fn text(&self, token: Token) -> Spanned<String> {
        let written = self.kept.slice(token.span);
        let plain = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = match plain {
            Some(text) if !text.contains(['\\', '"']) => text.to_owned(),
            None if !written.starts_with('#') => written.to_owned(),
            _ => read_value(written).unwrap_or_default(),
        };
        Spanned::new(text, token.span)
    }
}

/// One value by KDL's own parser: what the scan lets through is short of braces and comments, so this is quick.
fn read_value(written: &str) -> Option<String> {
    let document = KdlDocument::parse_v2(&format!("- {written}")).ok()?;
    match document.nodes().first()?.entries().first()?.value() {
        KdlValue::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
