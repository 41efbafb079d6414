//! `sbx policy log`.

use super::entry::{Entry, json_line};
use crate::{
    args::Selection,
    context::Context,
    error::{Outcome, Result},
    follow::{self, Tail},
    ui::Ui,
};

/// Longest line that is read, in bytes; the sandbox process writes none that is nearly so long.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Show what the sandbox reached, what was refused to it, and the line that would allow that
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Go on as the log grows, until the sandbox stops
    #[arg(short, long)]
    follow: bool,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    /// Print JSON: an object on each line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (directory, _) = context.sandbox(&args.selection)?;
    Log::new(Tail::new(directory.earlier_policy_log())).show(&context.ui, args)?;
    let mut log = Log::new(Tail::new(directory.policy_log()));
    let mut show = || log.show(&context.ui, args);
    show()?;
    if args.follow {
        follow::until_stopped(&directory, show)?;
    }
    Ok(Outcome::Done)
}

/// A log, and the beginning of the line that is not there as a whole yet.
#[derive(Debug)]
struct Log {
    tail: Tail,
    lines: Lines,
}

impl Log {
    fn new(tail: Tail) -> Self {
        Self { tail, lines: Lines::default() }
    }

    /// Prints what came since the last time.
    fn show(&mut self, ui: &Ui, args: &Args) -> Result<()> {
        let Self { tail, lines } = self;
        tail.read(|bytes| {
            lines.feed(bytes, |line| {
                if let Some(entry) = Entry::read(line).filter(|entry| entry.is_refused() || !args.refused) {
                    ui.data(if args.json { json_line(line) } else { entry.line() });
                }
            });
            Ok(())
        })
    }
}

/// Makes lines of bytes that come in pieces.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Hands on every line that ends in `bytes`. One that is too long is cut, and so is no entry.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
            let (content, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |content| (content, true));
            self.partial.extend(content.iter().take(room));
            if ends {
                each(&self.partial);
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_any_pieces_and_are_bounded() {
        let text = b"one\n\nthree\nfour";
        for size in 1..=text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                lines.feed(piece, |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
            }
            assert_eq!(seen, ["one", "", "three"], "in pieces of {size}");
        }
        let (mut lines, mut longest) = (Lines::default(), 0);
        for _ in 0..100 {
            lines.feed(&[b'x'; 10_000], |_| panic!("no line has ended"));
        }
        lines.feed(b"\nshort\n", |line| longest = longest.max(line.len()));
        assert_eq!(longest, MAX_LINE_BYTES);
    }
}
