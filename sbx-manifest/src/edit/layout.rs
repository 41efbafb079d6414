//! Where a node can be put into a text so that it looks as if it had always been there.
//!
//! ```text
//! a node on a line of its own     ─▶ a line below it, indented like it
//! a node among others on a line   ─▶ behind it on that line
//! the end of a block              ─▶ a line before the `}`, or behind the last node of a one-line block
//! a node without a block          ─▶ a block for it
//! ```
//!
//! Nothing is ever moved: an [`Insertion`] is the whole change, or what is cut out. A comment is never cut out. Places are
//! found among the tokens of the text, since the KDL tree forgets how it was written.

use crate::{
    scan::{self, Kind, Token, is_newline, is_space},
    source::Source,
    span::Span,
};

/// Indentation where the text has none to follow.
const INDENT: &str = "    ";

/// A node to be put in.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Its name, arguments and properties.
    pub(super) header: String,
    /// What is between its braces; none if it has no braces.
    pub(super) children: Vec<Self>,
}

/// A change of a text that only adds to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Insertion {
    pub(super) offset: usize,
    pub(super) text: String,
}

impl Insertion {
    /// The text after the change.
    pub(super) fn applied_to(&self, text: &str) -> Option<String> {
        let (before, after) = text.split_at_checked(self.offset)?;
        Some(format!("{before}{}{after}", self.text))
    }

    /// What is added.
    pub(super) const fn span(&self) -> Span {
        Span { offset: self.offset, length: self.text.len() }
    }
}

/// The braces of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    open: Span,
    close: Span,
}

/// A text that has passed the scan, and the habits of whoever wrote it.
#[derive(Debug)]
pub(super) struct Layout<'s> {
    text: &'s str,
    tokens: Vec<Token>,
    /// The tokens without comments and without what `/-` removes.
    kept: Vec<Token>,
    newline: &'s str,
    unit: String,
}

impl<'s> Layout<'s> {
    /// Of `source`, or nothing if it has not passed the scan.
    pub(super) fn new(source: &'s Source) -> Option<Self> {
        let scanned = scan::scan(source, &scan::MANIFEST).ok()?;
        let kept = scan::tokens(&Source::new(source.name(), scanned.text), &scan::MANIFEST);
        let (text, tokens) = (source.text(), scan::tokens(source, &scan::MANIFEST));
        let first = tokens.iter().find(|token| token.kind == Kind::Newline);
        let newline = first.and_then(|token| text.get(token.span.offset..token.span.end())).unwrap_or("\n");
        let mut layout = Self { text, tokens, kept, newline, unit: INDENT.to_owned() };
        if let Some(unit) = layout.first_indent() {
            layout.unit = unit;
        }
        Some(layout)
    }

    /// The braces of the node whose header ends at `header_end`.
    pub(super) fn block(&self, header_end: usize) -> Option<Block> {
        let mut tokens = self
            .kept
            .iter()
            .filter(|token| token.span.offset >= header_end)
            .skip_while(|token| token.kind == Kind::Space);
        let open = tokens.next().filter(|token| token.kind == Kind::Open)?.span;
        let mut depth = 1_usize;
        for token in tokens {
            match token.kind {
                Kind::Open => depth = depth.saturating_add(1),
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return Some(Block { open, close: token.span });
            }
        }
        None
    }

    /// `piece` behind the node with this header, which is in `block` and has no braces.
    pub(super) fn after(&self, header: Span, block: Block, piece: &Piece) -> Option<Insertion> {
        let mut end = header.end();
        let mut semicolon = None;
        let mut tokens = self.from(header.end()).peekable();
        while let Some(token) = tokens.next() {
            match (token.kind, semicolon) {
                (Kind::Space, _) => {}
                (Kind::Newline | Kind::End, _) => {
                    let indent = self.indent_beside(header, block);
                    let before = format!("{}{indent}", self.newline);
                    let after = if semicolon.is_some() { ";" } else { "" };
                    return Some(self.put(piece, token.span.offset, &before, after, Some(&indent)));
                }
                (Kind::Semicolon, None) => semicolon = Some(token.span.end()),
                (_, Some(offset)) => return Some(self.put(piece, offset, " ", ";", None)),
                (Kind::Close, None) => {
                    let offset = self.end_of_line(end, token.span.offset)?;
                    return Some(self.put(piece, offset, "; ", "", None));
                }
                (Kind::Open, None) => return None,
                // What this removes may be on the next line.
                (Kind::Slashdash, None) => {
                    while tokens.next_if(|next| matches!(next.kind, Kind::Space | Kind::Newline)).is_some() {}
                }
                _ => end = token.span.end(),
            }
        }
        None
    }

    /// `piece` as the last node in `block`.
    pub(super) fn at_end(&self, block: Block, piece: &Piece) -> Option<Insertion> {
        let (open, close) = (block.open.end(), block.close.offset);
        let inside = || self.from(open).take_while(|token| token.span.offset < close);
        let last = inside().filter(|token| !matches!(token.kind, Kind::Space | Kind::Newline)).last();
        let content_end = last.map_or(open, |token| token.span.end());
        let newline =
            inside().filter(|token| token.kind == Kind::Newline && token.span.offset >= content_end).last();
        if let Some(newline) = newline {
            let first = inside().find(|token| !matches!(token.kind, Kind::Space | Kind::Newline));
            let alone = first.filter(|token| self.is_first_on_line(token.span.offset));
            let indent = match alone {
                Some(token) => self.indent_of_line(token.span.offset).to_owned(),
                None => self.indent_inside(block.open.offset),
            };
            let offset = newline.span.end();
            return Some(self.put(piece, offset, &indent, self.newline, Some(&indent)));
        }
        let content = self.text.get(open..close)?;
        match last.map(|token| token.kind) {
            None => {
                let before = if content.ends_with(is_space) { "" } else { " " };
                Some(self.put(piece, close, before, " ", None))
            }
            Some(Kind::Semicolon) => Some(self.put(piece, content_end, " ", ";", None)),
            Some(_) => Some(self.put(piece, self.end_of_line(content_end, close)?, "; ", "", None)),
        }
    }

    /// A block with `piece` in it for the node with this header, which has none.
    pub(super) fn in_new_block(&self, header: Span, piece: &Piece) -> Option<Insertion> {
        let mut rest =
            self.from(header.end()).skip_while(|token| matches!(token.kind, Kind::Space | Kind::Semicolon));
        match rest.next()?.kind {
            Kind::Newline | Kind::End => {
                let (indent, inner) = (self.indent_of_line(header.offset), self.indent_inside(header.offset));
                let before = format!(" {{{}{inner}", self.newline);
                let after = format!("{}{indent}}}", self.newline);
                Some(self.put(piece, header.end(), &before, &after, Some(&inner)))
            }
            // An argument that is removed stands before the braces, and whatever else that is.
            Kind::Slashdash => None,
            _ => Some(self.put(piece, header.end(), " { ", " }", None)),
        }
    }

    /// `piece` behind everything else, with a free line before it.
    pub(super) fn at_end_of_file(&self, piece: &Piece) -> Insertion {
        let newline = self.newline;
        let written = self.text.trim_start_matches('\u{feff}');
        let (before, after) = if written.is_empty() || written.ends_with(&format!("{newline}{newline}")) {
            (String::new(), newline)
        } else if written.ends_with(is_newline) {
            (newline.to_owned(), newline)
        } else {
            (format!("{newline}{newline}"), "")
        };
        self.put(piece, self.text.len(), &before, after, Some(""))
    }

    /// `piece` between two texts; `indent` is that of its lines, none if it has to be on one line.
    fn put(
        &self,
        piece: &Piece,
        offset: usize,
        before: &str,
        after: &str,
        indent: Option<&str>,
    ) -> Insertion {
        Insertion { offset, text: format!("{before}{}{after}", self.written(piece, indent)) }
    }

    /// The node on one line, or on several of which the first is indented already.
    fn written(&self, piece: &Piece, indent: Option<&str>) -> String {
        if piece.children.is_empty() {
            return piece.header.clone();
        }
        let Some(indent) = indent else {
            let children: Vec<_> = piece.children.iter().map(|child| self.written(child, None)).collect();
            return format!("{} {{ {} }}", piece.header, children.join("; "));
        };
        let inner = format!("{indent}{}", self.unit);
        let mut text = format!("{} {{", piece.header);
        for child in &piece.children {
            text.push_str(&format!("{}{inner}{}", self.newline, self.written(child, Some(&inner))));
        }
        text.push_str(&format!("{}{indent}}}", self.newline));
        text
    }

    /// What is to be cut out of the text so that the node in `node` is gone: its line, if it has one of its own. In the order
    /// of the text.
    pub(super) fn cut_node(&self, node: Span) -> Vec<Span> {
        let mut rest = self.from(node.end()).peekable();
        let mut end = node.end();
        let mut plain = |end: &mut usize, kind: Kind| {
            let fits =
                |token: &&Token| token.kind == kind && (kind != Kind::Space || self.is_plain(token.span));
            rest.next_if(fits).map(|token| *end = token.span.end()).is_some()
        };
        plain(&mut end, Kind::Space);
        let ended = plain(&mut end, Kind::Semicolon);
        plain(&mut end, Kind::Space);
        let next = rest.next();
        if next.is_none_or(|token| matches!(token.kind, Kind::Newline | Kind::End)) {
            if !self.is_first_on_line(node.offset) {
                return vec![Span::between(self.spaces_before(node.offset), end)];
            }
            let end = next.map_or(end, |token| token.span.end());
            return vec![Span::between(self.line_start(node.offset), end)];
        }
        // A comment stays; what it is between does not.
        let comment = next.filter(|token| token.kind == Kind::Space);
        let spaces = comment.map_or(0, |token| {
            let text = self.text.get(token.span.offset..token.span.end()).unwrap_or_default();
            text.len().saturating_sub(text.trim_start_matches(is_space).len())
        });
        let mut cuts = vec![Span::between(node.offset, end.saturating_add(spaces))];
        let semicolon = rest.next().filter(|token| token.kind == Kind::Semicolon && !ended);
        cuts.extend(comment.and(semicolon).map(|token| token.span));
        cuts
    }

    /// What is to be cut out so that one of a node's several arguments is gone.
    pub(super) fn cut_argument(&self, argument: Span) -> Span {
        Span::between(self.spaces_before(argument.offset), argument.end())
    }

    /// The node with this header, braces included.
    pub(super) fn whole(&self, header: Span) -> Span {
        let end = self.block(header.end()).map_or_else(|| header.end(), |block| block.close.end());
        Span::between(header.offset, end)
    }

    /// Whether there is nothing but `node` in the block that follows `header`, not even a comment.
    pub(super) fn is_alone(&self, header: Span, node: Span) -> bool {
        let Some(block) = self.block(header.end()) else { return false };
        self.from(block.open.end())
            .take_while(|token| token.span.offset < block.close.offset)
            .filter(|token| token.span.end() <= node.offset || token.span.offset >= node.end())
            .all(|token| match token.kind {
                Kind::Space => self.is_plain(token.span),
                kind => matches!(kind, Kind::Newline | Kind::Semicolon),
            })
    }

    /// Where the spaces before `offset` begin, on its line and behind any comment.
    fn spaces_before(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or_default().trim_end_matches(is_space).len()
    }

    /// Whether these are spaces, without a comment or an escaped line end.
    fn is_plain(&self, span: Span) -> bool {
        self.text.get(span.offset..span.end()).unwrap_or_default().chars().all(is_space)
    }

    fn from(&self, offset: usize) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(move |token| token.span.offset >= offset)
    }

    /// Behind the comments between two places on a line; nothing if the line goes on in the next.
    fn end_of_line(&self, start: usize, end: usize) -> Option<usize> {
        let between = self.text.get(start..end)?.trim_end();
        (!between.contains('\\')).then_some(start.saturating_add(between.len()))
    }

    /// Indentation of what is to stand below the node with this header.
    fn indent_beside(&self, header: Span, block: Block) -> String {
        let shares_line = self.line_start(header.offset) == self.line_start(block.open.offset);
        if shares_line {
            self.indent_inside(header.offset)
        } else {
            self.indent_of_line(header.offset).to_owned()
        }
    }

    fn indent_inside(&self, offset: usize) -> String {
        format!("{}{}", self.indent_of_line(offset), self.unit)
    }

    fn indent_of_line(&self, offset: usize) -> &'s str {
        let line = self.text.get(self.line_start(offset)..).unwrap_or_default();
        let length = line.find(|character| !is_space(character)).unwrap_or(line.len());
        line.get(..length).unwrap_or_default()
    }

    fn is_first_on_line(&self, offset: usize) -> bool {
        self.line_start(offset).saturating_add(self.indent_of_line(offset).len()) == offset
    }

    fn line_start(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        before
            .char_indices()
            .rev()
            .find(|(_, character)| is_newline(*character))
            .map_or(0, |(at, character)| at.saturating_add(character.len_utf8()))
    }

    /// Indentation of the first line that is indented because of braces.
    fn first_indent(&self) -> Option<String> {
        let visible = |token: &&Token| !matches!(token.kind, Kind::Space | Kind::Newline);
        let tokens: Vec<_> = self.kept.iter().filter(visible).collect();
        tokens.windows(2).find_map(|pair| {
            let [Token { kind: Kind::Open, span: open }, Token { span: first, .. }] = pair else {
                return None;
            };
            let own = self.is_first_on_line(first.offset).then(|| self.indent_of_line(first.offset))?;
            let unit = own.strip_prefix(self.indent_of_line(open.offset))?;
            (!unit.is_empty()).then(|| unit.to_owned())
        })
    }
}
