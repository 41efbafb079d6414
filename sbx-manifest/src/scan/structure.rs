//! Walks over the tokens: what belongs to what, and what `/-` removes.
//!
//! ```text
//! nodes     := (line-space | "/-" node | node terminator)*
//! node      := type? name (space entry | space "/-" entry)* (space* "/-" block)* block? (space* "/-" block)*
//! entry     := (text space* "=" space*)? type? value
//! block     := "{" nodes "}"
//! ```
//!
//! The parser has this grammar too. Here the stack is a bounded vector, and errors are ours.

use super::{
    MAX_DEPTH, Scan,
    token::{Kind, Token},
};
use crate::span::Span;

/// A node whose end is not reached yet.
struct Open {
    /// Where the `/-` before the node is.
    removed_from: Option<usize>,
    /// Whether a block came, after which there are no more entries.
    has_block: bool,
    /// Whether a block came that `/-` removes.
    has_removed_block: bool,
    /// The `{` of the node's block that is being walked over, and the `/-` before it.
    block: Option<(Span, Option<usize>)>,
}

/// Checks the tokens, and takes out what `/-` removes.
pub(super) fn check(scan: &mut Scan<'_>, tokens: &[Token]) {
    let mut walk = Walk { scan, tokens, position: 0, open: Vec::new(), inside: false };
    while !walk.scan.fatal {
        let finished = if walk.inside { walk.entries() } else { walk.node() };
        if finished {
            return;
        }
    }
}

struct Walk<'w, 's> {
    scan: &'w mut Scan<'s>,
    tokens: &'w [Token],
    position: usize,
    open: Vec<Open>,
    /// Whether the innermost open node is waiting for entries, not its block for nodes.
    inside: bool,
}

impl Walk<'_, '_> {
    fn peek(&self) -> Token {
        const END: Token = Token { kind: Kind::End, span: Span { offset: 0, length: 0 } };
        self.tokens.get(self.position).or_else(|| self.tokens.last()).copied().unwrap_or(END)
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.position = self.position.saturating_add(1);
        token
    }

    /// Skips spaces, and line ends where they mean nothing; tells whether there were any.
    fn skip(&mut self, lines: bool) -> bool {
        let start = self.position;
        while self.peek().kind == Kind::Space || (lines && self.peek().kind == Kind::Newline) {
            self.take();
        }
        self.position > start
    }

    /// Where a node may begin. True at the end of the text.
    fn node(&mut self) -> bool {
        self.skip(true);
        let mut token = self.peek();
        let mut removed_from = None;
        if token.kind == Kind::Slashdash {
            removed_from = Some(token.span.offset);
            self.take();
            self.skip(true);
            if !matches!(self.peek().kind, Kind::Text | Kind::TypeOpen) {
                self.scan.fatal(
                    token.span,
                    "`/-` has nothing to remove",
                    "stands before no node",
                    "remove it",
                );
                return false;
            }
            token = self.peek();
        }
        match token.kind {
            Kind::End => {
                self.unclosed();
                return true;
            }
            Kind::Close => self.close(),
            Kind::Text | Kind::TypeOpen => {
                self.annotation();
                if self.peek().kind != Kind::Text && !self.scan.fatal {
                    let span = self.peek().span;
                    self.scan.fatal(span, "a node must begin with its name", "not a name", "");
                    return false;
                }
                self.take();
                self.open.push(Open {
                    removed_from,
                    has_block: false,
                    has_removed_block: false,
                    block: None,
                });
                self.inside = true;
            }
            Kind::Open => {
                let help = "the `{` of a node is on the line of its name";
                self.scan.fatal(token.span, "these braces belong to no node", "no name before it", help);
            }
            Kind::Semicolon => {
                self.scan.fatal(token.span, "this `;` ends nothing", "no node before it", "remove it");
            }
            _ => self.scan.fatal(
                token.span,
                "a node must begin with its name",
                "not a name",
                "put it into quotes",
            ),
        }
        false
    }

    /// After a node's name. True at the end of the text.
    fn entries(&mut self) -> bool {
        let spaced = self.skip(false);
        let token = self.peek();
        match token.kind {
            Kind::Newline | Kind::Semicolon | Kind::End => {
                self.take();
                // The `;` of a node that is removed would end nothing.
                self.end_node(if token.kind == Kind::Semicolon {
                    token.span.end()
                } else {
                    token.span.offset
                });
                if token.kind == Kind::End {
                    self.unclosed();
                    return true;
                }
            }
            Kind::Close => self.end_node(token.span.offset),
            Kind::Open => self.open_block(None),
            Kind::Slashdash => self.removed(spaced),
            Kind::Text | Kind::Value | Kind::TypeOpen => {
                if !spaced {
                    let help = "put a space before it";
                    self.scan.fatal(token.span, "a space is missing", "directly after something else", help);
                }
                self.entry();
            }
            Kind::Equals => self.scan.fatal(token.span, "nothing is before this `=`", "needs a name", ""),
            _ => self.scan.fatal(token.span, "this does not belong here", "without its other half", ""),
        }
        false
    }

    /// `/-` after a node's name.
    fn removed(&mut self, spaced: bool) {
        let slashdash = self.take();
        self.skip(true);
        match self.peek().kind {
            Kind::Open => self.open_block(Some(slashdash.span.offset)),
            Kind::Text | Kind::Value | Kind::TypeOpen => {
                if !spaced {
                    let help = "put a space before it";
                    self.scan.fatal(
                        slashdash.span,
                        "a space is missing",
                        "directly after something else",
                        help,
                    );
                }
                let end = self.entry();
                self.scan.blank(Span::between(slashdash.span.offset, end));
            }
            _ => self.scan.fatal(
                slashdash.span,
                "`/-` has nothing to remove",
                "stands before nothing",
                "remove it",
            ),
        }
    }

    /// An argument or a property; returns its end.
    fn entry(&mut self) -> usize {
        if let Some(Open { has_block: true, .. } | Open { has_removed_block: true, .. }) = self.open.last() {
            let help = "end the line, or put a `;` after the `}`";
            self.scan.fatal(self.peek().span, "after `}` the node has ended", "belongs to no node", help);
        }
        let first = self.peek();
        if first.kind == Kind::TypeOpen {
            self.annotation();
            return self.value();
        }
        self.take();
        let after = self.position;
        self.skip(false);
        if self.peek().kind != Kind::Equals {
            self.position = after;
            return first.span.end();
        }
        if first.kind == Kind::Value {
            self.scan.fatal(
                first.span,
                "this cannot be the name of a property",
                "a value",
                "put it into quotes",
            );
        }
        let equals = self.take();
        self.skip(false);
        if !matches!(self.peek().kind, Kind::Text | Kind::Value | Kind::TypeOpen) {
            self.scan.fatal(equals.span, "nothing is after this `=`", "needs a value", "");
        }
        self.annotation();
        self.value()
    }

    fn value(&mut self) -> usize {
        let token = self.peek();
        if !matches!(token.kind, Kind::Text | Kind::Value) {
            self.scan.fatal(token.span, "a value is missing", "not a value", "");
        }
        self.take();
        token.span.end()
    }

    /// `(name)`, if there is one.
    fn annotation(&mut self) {
        if self.peek().kind != Kind::TypeOpen {
            return;
        }
        let opening = self.take();
        self.skip(false);
        let named = self.take().kind == Kind::Text;
        self.skip(false);
        if !named || self.take().kind != Kind::TypeClose {
            let help = "text with parentheses needs quotes";
            self.scan.fatal(opening.span, "parentheses are not for this", "begins a type annotation", help);
        }
        self.skip(false);
    }

    fn open_block(&mut self, removed_from: Option<usize>) {
        let opening = self.take();
        let depth = self.open.len();
        let Some(node) = self.open.last_mut() else { return };
        if node.has_block && removed_from.is_none() {
            let help = "end the line, or put a `;` after the `}`";
            self.scan.fatal(opening.span, "a node has one pair of braces", "the second", help);
        } else if depth > MAX_DEPTH {
            let message = format!("braces are nested more than {MAX_DEPTH} deep");
            self.scan.fatal(opening.span, message, "one too many", "");
        } else {
            node.block = Some((opening.span, removed_from));
            self.inside = false;
        }
    }

    /// `}` where a node may begin.
    fn close(&mut self) {
        let closing = self.take();
        let Some(node) = self.open.last_mut() else {
            self.scan.fatal(closing.span, "this `}` closes nothing", "without its `{`", "remove it");
            return;
        };
        match node.block.take() {
            Some((_, Some(removed_from))) => {
                node.has_removed_block = true;
                self.scan.blank(Span::between(removed_from, closing.span.end()));
            }
            _ => node.has_block = true,
        }
        self.inside = true;
    }

    /// The end of the innermost node; what is left of the stack waits for nodes in its block.
    fn end_node(&mut self, end: usize) {
        if let Some(Open { removed_from: Some(start), .. }) = self.open.pop() {
            self.scan.blank(Span::between(start, end));
        }
        self.inside = false;
    }

    /// Braces that are open at the end of the text.
    fn unclosed(&mut self) {
        let open: Vec<_> = self.open.iter().filter_map(|node| node.block).collect();
        for (span, _) in open {
            self.scan.fatal(span, "this `{` is not closed", "without its `}`", "add a `}`");
        }
    }
}
