//! How things look: colours, digests, sizes. Colour is never the only carrier of meaning.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

/// Label of a status line.
pub(super) const LABEL: Style = AnsiColor::Green.on_default().bold();
/// Less important text.
pub(super) const DIM: Style = Style::new().dimmed();
/// The word `error:`.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The word `warning:`.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// The word `hint:`.
pub(super) const HINT: Style = AnsiColor::Cyan.on_default().bold();

const KIB: u64 = 1024;
const WIDTH_COLUMNS: usize = 100;

/// A diagnostic with its source, labels and help; `colour` only where a terminal shows it.
pub(super) fn render(diagnostic: &dyn Diagnostic, colour: bool) -> String {
    let colour = colour && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH_COLUMNS).with_links(false);
    if handler.render_report(&mut text, diagnostic).is_err() {
        text = diagnostic.to_string();
    }
    text.truncate(text.trim_end().len());
    text
}

/// A number of bytes for people: `412 MB`, in powers of ten as disks and downloads are sold.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (unit, name) in UNITS {
        if count >= unit {
            let whole = count / unit;
            let tenth = count % unit / (unit / 10);
            return if whole < 10 { format!("{whole}.{tenth} {name}") } else { format!("{whole} {name}") };
        }
    }
    format!("{count} B")
}

/// A size of memory or disk as manifests write it: `8GiB`.
pub(crate) fn binary_size(count: u64) -> String {
    for (shift, name) in [(3_u32, "GiB"), (2, "MiB"), (1, "KiB")] {
        let unit = KIB.pow(shift);
        if count >= unit && count.is_multiple_of(unit) {
            return format!("{}{name}", count / unit);
        }
    }
    format!("{count}B")
}

/// `sha256:3f1c9a…` for a digest, or its first eight digits if it names no algorithm.
pub(crate) fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}…", hex.get(..6).unwrap_or(hex)),
        None => digest.get(..8).unwrap_or(digest).to_owned(),
    }
}

/// A span of time for people: `3 minutes`.
pub(crate) fn age(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    plural(usize::try_from(count).unwrap_or(usize::MAX), unit)
}

/// A measured time for people: `1.3 s`, `40 ms`.
pub(crate) fn elapsed_time(elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis();
    if milliseconds < 1_000 {
        format!("{milliseconds} ms")
    } else {
        format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
    }
}

/// `text` without control characters: what a guest, an image or a registry says must not drive the user's terminal.
pub(crate) fn printable(text: &str) -> String {
    const MAX_CHARACTERS: usize = 2000;
    text.trim_end()
        .chars()
        .take(MAX_CHARACTERS)
        .map(|character| match character {
            '\t' => ' ',
            other if other.is_control() => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// `1 layer`, `2 layers`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(412_000_000), "412 MB");
        assert_eq!(binary_size(8 << 30), "8GiB");
        assert_eq!(binary_size(1536 << 20), "1536MiB");
        assert_eq!(binary_size(1000), "1000B");
        assert_eq!(age(1), "1 second");
        assert_eq!(age(7_300), "2 hours");
    }

    #[test]
    fn hostile_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\n"), "a\u{fffd}[2Jb c");
        assert_eq!(printable(&"x".repeat(10_000)).len(), 2000);
    }

    #[test]
    fn digests_are_cut_for_people() {
        assert_eq!(short_digest("sha256:3f1c9a77"), "sha256:3f1c9a…");
        assert_eq!(short_digest("7d9e21b4aa"), "7d9e21b4");
        assert_eq!(short_digest("abc"), "abc");
    }
}
