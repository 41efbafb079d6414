//! What is wrong with a manifest: one [`Fault`] for each thing, with its place and the text to write instead.

use std::{error::Error, fmt};

use miette::{Diagnostic, LabeledSpan, SourceCode};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{source::Source, span::Span};

/// How bad a fault is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The manifest can be used; part of it does nothing, or not what it seems to.
    Warning,
    /// The manifest cannot be used.
    Error,
}

/// One thing that is wrong with a manifest.
///
/// Renders with miette, without the code, which is for programs. Serialises to an object with the keys `severity`,
/// `code`, `message`, `file`, `line`, `column`, `offset`, `length`, `label` and `help`; lines and columns (in characters)
/// count from 1, offset and length are bytes.
#[derive(Clone, Debug)]
pub struct Fault {
    source: Source,
    severity: Severity,
    code: &'static str,
    message: String,
    span: Span,
    label: String,
    also: Vec<(Span, String)>,
    help: Option<String>,
}

impl Fault {
    /// An error at `span` of `source`.
    ///
    /// `message` is one sentence without a full stop, `label` says what is at the place.
    #[must_use]
    pub fn error(
        source: &Source,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Self {
            source: source.clone(),
            severity: Severity::Error,
            code,
            message: message.into(),
            span,
            label: label.into(),
            also: Vec::new(),
            help: None,
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same as an error.
    #[must_use]
    pub(crate) fn into_error(mut self) -> Self {
        self.severity = Severity::Error;
        self
    }

    /// With a line that says what to write, in a form that can be pasted where that is possible.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a second place that matters.
    #[must_use]
    pub fn and_at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// A stable name of this kind of fault, such as `manifest::unknown-node`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, in one sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Line of the fault, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.line(self.span.offset)
    }

    /// What to write instead.
    #[must_use]
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Fault {}

impl Diagnostic for Fault {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let first = LabeledSpan::new_primary_with_span(Some(self.label.clone()), self.span);
        let others =
            self.also.iter().map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), *span));
        Some(Box::new(std::iter::once(first).chain(others)))
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Fault", 10)?;
        object.serialize_field("severity", &self.severity)?;
        object.serialize_field("code", self.code)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("file", self.source.name())?;
        object.serialize_field("line", &self.line())?;
        object.serialize_field("column", &self.source.column(self.span.offset))?;
        object.serialize_field("offset", &self.span.offset)?;
        object.serialize_field("length", &self.span.length)?;
        object.serialize_field("label", &self.label)?;
        object.serialize_field("help", &self.help)?;
        object.end()
    }
}

/// Everything that is wrong with a manifest, in the order of the text; at least one error, and the warnings.
///
/// Serialises to an array of [`Fault`]s.
#[derive(Clone, Debug)]
pub struct Faults {
    name: String,
    faults: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(name: &str, faults: Vec<Fault>) -> Self {
        Self { name: name.to_owned(), faults }
    }

    /// The faults one by one, to be rendered one after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.faults.iter().filter(|fault| fault.severity == Severity::Error).count();
        let warnings = self.faults.len().saturating_sub(errors);
        write!(formatter, "{} has {errors} error{}", self.name, plural(errors))?;
        if warnings > 0 {
            write!(formatter, " and {warnings} warning{}", plural(warnings))?;
        }
        Ok(())
    }
}

impl Error for Faults {}

impl Diagnostic for Faults {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.faults.iter().map(|fault| fault as &dyn Diagnostic)))
    }
}

impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.faults.serialize(serializer)
    }
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
