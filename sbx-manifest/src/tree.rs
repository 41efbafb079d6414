//! KDL's nodes with the places of their parts, as the decoder wants them.

use kdl::{KdlDocument, KdlEntry, KdlNode, KdlValue};

use crate::{
    source::Source,
    span::{Span, Spanned},
};

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Spanned<String>,
    /// From the name to the last argument or property: what is on the node's first line.
    pub(crate) header: Span,
    pub(crate) arguments: Vec<Value>,
    pub(crate) properties: Vec<Property>,
    /// The nodes between braces, if there are braces.
    pub(crate) children: Option<Vec<Self>>,
    /// Type annotations of the node and of its values; the language has none.
    pub(crate) annotations: Vec<Span>,
}

/// An argument, or what a property is set to.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) data: KdlValue,
    pub(crate) span: Span,
}

/// `name=value`.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: Spanned<String>,
    pub(crate) value: Value,
    /// Name and value.
    pub(crate) span: Span,
}

impl Node {
    /// The nodes of a document, in their order.
    pub(crate) fn all(document: &KdlDocument, source: &Source) -> Vec<Self> {
        document.nodes().iter().map(|node| Self::new(node, source)).collect()
    }

    /// The property called `name`, the last if there are several.
    pub(crate) fn property(&self, name: &str) -> Option<&Value> {
        self.properties
            .iter()
            .rev()
            .find(|property| property.name.value == name)
            .map(|property| &property.value)
    }

    /// The nodes between the braces, none if there are no braces.
    pub(crate) fn children(&self) -> &[Self] {
        self.children.as_deref().unwrap_or_default()
    }

    fn new(node: &KdlNode, source: &Source) -> Self {
        let name_span = span(node.name().span());
        let mut annotations: Vec<_> = node.ty().map(|ty| span(ty.span())).into_iter().collect();
        let (mut arguments, mut properties) = (Vec::new(), Vec::new());
        let mut header_end = name_span.end();
        for entry in node.entries() {
            annotations.extend(entry.ty().map(|ty| span(ty.span())));
            let whole = trimmed(span(entry.span()), source);
            header_end = header_end.max(whole.end());
            let value = Value { data: entry.value().clone(), span: value_span(entry, whole, source) };
            match entry.name() {
                None => arguments.push(value),
                Some(name) => {
                    let name_span = Span { offset: whole.offset, length: span(name.span()).length };
                    let name = Spanned::new(name.value().to_owned(), name_span);
                    properties.push(Property { name, value, span: whole });
                }
            }
        }
        Self {
            name: Spanned::new(node.name().value().to_owned(), name_span),
            header: Span::between(name_span.offset, header_end),
            arguments,
            properties,
            children: node.children().map(|children| Self::all(children, source)),
            annotations,
        }
    }
}

fn span(span: miette::SourceSpan) -> Span {
    Span { offset: span.offset(), length: span.len() }
}

/// Without spaces at the end.
fn trimmed(span: Span, source: &Source) -> Span {
    Span { offset: span.offset, length: source.slice(span).trim_end().len() }
}

/// The place of the value alone: the parser has one place for `name=value`.
fn value_span(entry: &KdlEntry, whole: Span, source: &Source) -> Span {
    let written = entry.format().map_or("", |format| format.value_repr.as_str());
    let value = Span { offset: whole.end().saturating_sub(written.len()), length: written.len() };
    if !written.is_empty() && value.offset >= whole.offset && source.slice(value) == written {
        value
    } else {
        whole
    }
}
