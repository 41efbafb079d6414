//! Which lines of a text changed.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

/// Lines around a change that are shown as well.
const CONTEXT_LINES: usize = 3;

/// After so long a file's difference need not be the smallest any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a line of a patch is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// Names and modes.
    Header,
    /// `@@ … @@`.
    Hunk,
    /// ` `: on both sides.
    Context,
    /// `+`.
    Added,
    /// `-`.
    Removed,
    /// Anything else: `\ No newline at end of file`, binary data.
    Other,
}

/// A line of a patch, with its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    /// What it is.
    pub(crate) class: Class,
    /// As it is in the patch.
    pub(crate) bytes: Vec<u8>,
}

impl Line {
    /// A line of text.
    pub(super) fn new(class: Class, text: &str) -> Self {
        Self { class, bytes: format!("{text}\n").into_bytes() }
    }
}

/// How two texts differ.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    operations: Vec<DiffOp>,
}

impl<'a> Comparison<'a> {
    /// Compares two texts line by line.
    pub(super) fn of(old: &'a [u8], new: &'a [u8]) -> Self {
        let (old, new) = (split(old), split(new));
        // Numbers compare faster than lines.
        let mut numbers = HashMap::new();
        let [left, right] = [&old, &new].map(|lines| {
            let number = |line: &&'a [u8]| {
                let next = numbers.len();
                *numbers.entry(*line).or_insert(next)
            };
            lines.iter().map(number).collect::<Vec<_>>()
        });
        let deadline = Instant::now().checked_add(PATIENCE);
        let operations = capture_diff_slices_deadline(Algorithm::Myers, &left, &right, deadline);
        Self { old, new, operations }
    }

    /// Lines that were added and removed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let changed = self.operations.iter().filter(|operation| !matches!(operation, DiffOp::Equal { .. }));
        changed.fold((0, 0), |(added, removed), operation| {
            (added + operation.new_range().len(), removed + operation.old_range().len())
        })
    }

    /// The hunks, with three lines around each change.
    pub(super) fn hunks(self) -> Vec<Line> {
        let Self { old, new, operations } = self;
        let mut lines = Vec::new();
        for group in group_diff_ops(operations, CONTEXT_LINES) {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let removed = place(first.old_range().start, last.old_range().end);
            let added = place(first.new_range().start, last.new_range().end);
            lines.push(Line::new(Class::Hunk, &format!("@@ -{removed} +{added} @@")));
            for operation in group {
                let (from, to) = (operation.old_range(), operation.new_range());
                if matches!(operation, DiffOp::Equal { .. }) {
                    push(&mut lines, Class::Context, b' ', old.get(from));
                } else {
                    push(&mut lines, Class::Removed, b'-', old.get(from));
                    push(&mut lines, Class::Added, b'+', new.get(to));
                }
            }
        }
        lines
    }
}

/// The lines of a text, each with its end; only a line feed ends one.
fn split(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A range of lines as a hunk's heading has it: from 1, or what it follows if it is empty; the length unless it is 1.
fn place(start: usize, end: usize) -> String {
    match end.saturating_sub(start) {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        length => format!("{},{length}", start + 1),
    }
}

fn push(lines: &mut Vec<Line>, class: Class, sign: u8, texts: Option<&[&[u8]]>) {
    for text in texts.unwrap_or_default() {
        let mut bytes = vec![sign];
        bytes.extend_from_slice(text);
        let ended = text.ends_with(b"\n");
        if !ended {
            bytes.push(b'\n');
        }
        lines.push(Line { class, bytes });
        if !ended {
            lines.push(Line::new(Class::Other, "\\ No newline at end of file"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> String {
        let hunks = Comparison::of(old.as_bytes(), new.as_bytes()).hunks();
        String::from_utf8(hunks.into_iter().flat_map(|line| line.bytes).collect()).unwrap()
    }

    #[test]
    fn hunks_are_those_of_a_unified_diff() {
        assert_eq!(text("a\nb\nc\n", "a\nx\nc\n"), "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        assert_eq!(text("", "one\n"), "@@ -0,0 +1 @@\n+one\n");
        assert_eq!(text("one\n", ""), "@@ -1 +0,0 @@\n-one\n");
        assert_eq!(text("a\n", "a"), "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n");
        // Neither a lone carriage return nor one before the line feed ends a line.
        assert_eq!(text("a\rb\r\n", "a\rb\n"), "@@ -1 +1 @@\n-a\rb\r\n+a\rb\n");
        assert_eq!(text("same\n", "same\n"), "");
    }

    #[test]
    fn a_hostile_pair_does_not_take_long() {
        let line = |index: usize, factor: usize| format!("{}\n", index * factor % 50_021);
        let old: String = (0..50_000).map(|index| line(index, 7919)).collect();
        let new: String = (0..50_000).map(|index| line(index, 104_729)).collect();
        let started = Instant::now();
        assert!(!Comparison::of(old.as_bytes(), new.as_bytes()).hunks().is_empty());
        assert!(started.elapsed() < PATIENCE * 5, "{:?}", started.elapsed());
    }
}
