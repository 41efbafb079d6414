//! The text of a manifest under the name that diagnostics show.

use std::{fmt, sync::Arc};

use miette::{MietteError, NamedSource, SourceCode, SourceSpan, SpanContents};

use crate::{span::Span, types::is_obeyed};

/// A manifest's text and name. Clones share the text.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    text: String,
    /// What diagnostics show: the text without what a terminal obeys, every byte in its place.
    shown: NamedSource<String>,
    /// Offset of the first byte of each line.
    line_starts: Vec<usize>,
}

impl Source {
    /// `text`, called `name` in diagnostics.
    pub(crate) fn new(name: &str, text: String) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset);
        let line_starts = std::iter::once(0).chain(ends.map(|offset| offset.saturating_add(1))).collect();
        let shown = NamedSource::new(name, harmless(&text));
        Self(Arc::new(Inner { text, shown, line_starts }))
    }

    /// The name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.shown.name()
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The text of `span`, empty if the span is not in the text.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text().get(span.offset..span.end()).unwrap_or_default()
    }

    /// Number of the line that `offset` is on, counted from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        self.0.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Number of the character that `offset` is at in its line, counted from 1.
    #[must_use]
    pub fn column(&self, offset: usize) -> usize {
        let start = self.0.line_starts.get(self.line(offset).saturating_sub(1)).copied().unwrap_or_default();
        self.text().get(start..offset).unwrap_or_default().chars().count().saturating_add(1)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        self.0.shown.read_span(span, context_lines_before, context_lines_after)
    }
}

/// `text` with the same offsets, and nothing in it that a terminal does not simply show.
fn harmless(text: &str) -> String {
    let keep = |character: char| matches!(character, '\n' | '\r' | '\t') || !is_obeyed(character);
    if text.chars().all(keep) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.len_utf8() {
            _ if keep(character) => shown.push(character),
            3 => shown.push(char::REPLACEMENT_CHARACTER),
            bytes => shown.extend(std::iter::repeat_n('?', bytes)),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let source = Source::new("x", "a\n\"ä\" b\n".to_owned());
        for (offset, line, column) in [(0, 1, 1), (2, 2, 1), (7, 2, 5), (9, 3, 1)] {
            assert_eq!((source.line(offset), source.column(offset)), (line, column), "offset {offset}");
        }
    }
}
