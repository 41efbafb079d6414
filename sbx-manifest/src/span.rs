//! Places in a manifest's text, and values that remember theirs.

use serde::{Serialize, Serializer};

/// A range of bytes in the manifest's text.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span {
    /// First byte, from the beginning of the file.
    pub offset: usize,
    /// Number of bytes.
    pub length: usize,
}

impl Span {
    /// The bytes from `start` up to, not including, `end`.
    #[must_use]
    pub const fn between(start: usize, end: usize) -> Self {
        Self { offset: start, length: end.saturating_sub(start) }
    }

    /// The first byte after the span.
    #[must_use]
    pub const fn end(self) -> usize {
        self.offset.saturating_add(self.length)
    }
}

impl From<Span> for miette::SourceSpan {
    fn from(span: Span) -> Self {
        Self::from((span.offset, span.length))
    }
}

/// A value with the place that it was read from.
///
/// It serialises as the value alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where the manifest says it.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, which was read from `span`.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}
